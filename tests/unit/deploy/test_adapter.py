"""The metrics adapter among the objects: only where it is asked, and asked by whom it must be."""

from pathlib import Path

import pytest

from seawall.deploy.check import of_objects
from seawall.deploy.kubernetes import Files
from seawall.deploy.target import Ingress, KubeVersion
from seawall.deploy.validate import invalid
from seawall.errors import Misconfigured
from tests.unit.deploy.projects import SCALED, SCALED_BY_API, SMALL, flat, made, one, project

ADAPTER = "metrics-adapter"


@pytest.fixture
def by_keda(tmp_path: Path) -> Files:
    return made(project(tmp_path, SCALED), ingress=Ingress.ISTIO)


@pytest.fixture
def by_api(tmp_path: Path) -> Files:
    return made(project(tmp_path, SCALED_BY_API))


def admitted(files: Files, name: str) -> list[tuple[list[str], list[int]]]:
    """Who may connect, by name, and to which ports; nobody's name is anybody."""
    rules = one(files, "NetworkPolicy", name)["spec"]["ingress"]
    return [
        (
            [p["podSelector"]["matchLabels"]["app.kubernetes.io/name"] for p in r.get("from", [])],
            [port["port"] for port in r["ports"]],
        )
        for r in rules
    ]


def test_who_needs_none_gets_none(tmp_path: Path) -> None:
    files = made(project(tmp_path, SMALL))
    assert f"{ADAPTER}.yaml" not in files
    assert "gateway-replicas" not in str(files)


def test_keda_asks_it_over_http(by_keda: Files) -> None:
    (container,) = one(by_keda, "Deployment", ADAPTER)["spec"]["template"]["spec"]["containers"]
    assert container["command"] == [
        *("seawall", "metrics-adapter", "--host", "0.0.0.0", "--port", "8080"),
        *("--gateway", "gateway-replicas:9901"),
    ]
    (trigger,) = one(by_keda, "ScaledObject", "orders")["spec"]["triggers"]
    (port,) = one(by_keda, "Service", ADAPTER)["spec"]["ports"]
    assert trigger["metadata"]["url"] == f"http://{ADAPTER}.shop.svc/keda/orders/requests"
    assert (port["name"], port["port"]) == ("http", 80)
    assert "APIService" not in {each["kind"] for each in flat(by_keda)}


def test_it_may_ask_whom_it_has_to_and_no_others(by_keda: Files) -> None:
    assert admitted(by_keda, "orders") == [(["gateway", ADAPTER], [8080])]
    assert admitted(by_keda, "gateway") == [([], [8080]), ([ADAPTER], [9901])]
    assert admitted(by_keda, "stock") == [(["orders"], [8080])]
    assert admitted(by_keda, ADAPTER) == [([], [8080])]
    egress = one(by_keda, "NetworkPolicy", ADAPTER)["spec"]["egress"]
    assert [r["ports"][0]["port"] for r in egress if "to" in r] == [53, 8080, 9901]
    replicas = one(by_keda, "Service", "gateway-replicas")["spec"]
    assert replicas["clusterIP"] == "None"  # a name for all of them


def test_the_mesh_lets_it_be_asked_from_outside(by_keda: Files) -> None:
    authentication = one(by_keda, "PeerAuthentication", ADAPTER)["spec"]
    assert authentication["portLevelMtls"] == {"8080": {"mode": "PERMISSIVE"}}
    rules = one(by_keda, "AuthorizationPolicy", "gateway")["spec"]["rules"]
    assert [rule["to"][0]["operation"]["ports"] for rule in rules] == [["8080"], ["9901"]]


def test_as_an_api_it_is_asked_over_tls(by_api: Files) -> None:
    (api,) = (each for each in flat(by_api) if each["kind"] == "APIService")
    assert api["metadata"]["name"] == "v1beta1.external.metrics.k8s.io"
    assert "namespace" not in api["metadata"]  # it is the cluster's
    assert api["spec"]["service"] == {"name": ADAPTER, "namespace": "shop", "port": 443}
    (container,) = one(by_api, "Deployment", ADAPTER)["spec"]["template"]["spec"]["containers"]
    assert container["command"][-1] == "--tls"
    assert container["readinessProbe"]["httpGet"] == {
        "path": "/readyz",
        "port": "https",
        "scheme": "HTTPS",
    }
    assert one(by_api, "HorizontalPodAutoscaler", "orders")


@pytest.mark.parametrize("text", [SCALED, SCALED_BY_API])
def test_all_of_it_fits(tmp_path: Path, text: str) -> None:
    for ingress in Ingress:
        assert of_objects(flat(made(project(tmp_path, text), ingress=ingress))) == []


@pytest.mark.parametrize("version", ["1.28", "1.31", "1.37"])
def test_it_fits_the_schemas(tmp_path: Path, version: str) -> None:
    pytest.importorskip("kubernetes_validate")
    objects = flat(made(project(tmp_path, SCALED_BY_API), version=version))
    assert invalid(objects, KubeVersion.parse(version)) == []


def test_a_cluster_has_one_api_of_external_metrics(tmp_path: Path) -> None:
    second = """
    [services.mails]
    module = "mails:service"
    replicas = { min = 1, max = 3 }
    [[services.mails.scale]]
    metric = "requests"
    target = 5
    policy = "keda"
    """
    spec = project(tmp_path, SCALED_BY_API + second)
    with pytest.raises(Misconfigured, match="mails would be scaled by KEDA"):
        made(spec)
    assert made(project(tmp_path, SCALED + second))  # all of it by KEDA


def test_no_service_can_be_called_so(tmp_path: Path) -> None:
    spec = project(tmp_path, SMALL + f'[services.{ADAPTER}]\ncommand = ["x"]\n')
    with pytest.raises(Misconfigured, match="another name"):
        made(spec)
