import subprocess
import sys
from pathlib import Path

import pytest

from seawall.deploy.kubernetes import Files
from seawall.deploy.kustomize import tree
from seawall.deploy.target import Ingress, KubeVersion
from seawall.deploy.validate import invalid, is_custom
from seawall.deploy.waivers import waivers
from seawall.errors import Misconfigured
from tests.unit.deploy.projects import (
    DECLARED,
    EVERYTHING,
    SCALED_BY_API,
    SMALL,
    flat,
    made,
    one,
    project,
)

VERSIONS = [f"1.{minor}" for minor in range(28, 38)]


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return made(project(tmp_path))


@pytest.fixture
def everything(tmp_path: Path) -> Files:
    return made(project(tmp_path, EVERYTHING), DECLARED, ingress=Ingress.ISTIO)


def container(files: Files, name: str) -> dict:
    (found,) = one(files, "Deployment", name)["spec"]["template"]["spec"]["containers"]
    return found


def environment(files: Files, name: str) -> dict[str, object]:
    return {e["name"]: e.get("value", e.get("valueFrom")) for e in container(files, name)["env"]}


@pytest.mark.parametrize("version", VERSIONS)
def test_every_object_fits_the_schemas(tmp_path: Path, version: str) -> None:
    pytest.importorskip("kubernetes_validate")
    asking = flat(made(project(tmp_path, SCALED_BY_API), version=version))
    scalers = [o for o in asking if o["kind"] in ("HorizontalPodAutoscaler", "APIService")]
    assert len(scalers) == 2
    assert invalid(scalers, KubeVersion.parse(version)) == []
    spec = project(tmp_path, EVERYTHING)
    for ingress in Ingress:
        objects = flat(made(spec, DECLARED, version, ingress))
        assert invalid(objects, KubeVersion.parse(version)) == []
    kinds = {o["kind"] for o in objects if not is_custom(o)}
    assert {"Deployment", "HorizontalPodAutoscaler", "PodDisruptionBudget", "Role"} <= kinds


def test_what_does_not_fit_a_schema_is_told(files: Files, everything: Files) -> None:
    pytest.importorskip("kubernetes_validate")
    service = one(files, "Service", "orders")
    service["spec"]["port"] = 80
    (wrong,) = invalid([service], KubeVersion(1, 31))
    assert "'port' was unexpected" in str(wrong)
    deep = invalid([one(everything, "Deployment", "stock")], KubeVersion(1, 28))
    assert "'sleep' was unexpected" in str(deep)  # younger than 1.28
    old = {**service, "apiVersion": "v1beta9"}
    assert not is_custom(service)
    assert is_custom(old)


def test_old_clusters_get_old_groups(tmp_path: Path) -> None:
    old = made(project(tmp_path, EVERYTHING), DECLARED, "1.20")
    assert one(old, "HorizontalPodAutoscaler", "orders")["apiVersion"] == "autoscaling/v2beta2"
    assert one(old, "PodDisruptionBudget", "orders")["apiVersion"] == "policy/v1beta1"
    assert container(old, "stock")["lifecycle"] == {
        "preStop": {"exec": {"command": ["sleep", "5"]}}
    }


@pytest.mark.parametrize("text", ["1.19", "2.0", "1.99", "latest"])
def test_a_version_that_nobody_knows_is_refused(text: str) -> None:
    with pytest.raises(Misconfigured, match=r"1\.20 to"):
        KubeVersion.parse(text)


def test_the_same_spec_gives_the_same_text_in_any_process(tmp_path: Path) -> None:
    spec = project(tmp_path, EVERYTHING)
    program = (
        "import sys, pathlib; sys.path.insert(0, sys.argv[2])\n"
        "from tests.unit.deploy.projects import *\n"
        "from seawall.deploy.kustomize import tree\n"
        "spec = load_spec(pathlib.Path(sys.argv[1]))\n"
        "print(tree(made(spec, DECLARED), {}))"
    )
    root = str(Path(__file__).parents[3])
    said = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path), root],
        env={"PYTHONHASHSEED": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert said.stdout.strip() == str(tree(made(spec, DECLARED), {}))


# pods


def test_probes_mean_what_ours_mean(files: Files) -> None:
    orders, stock = container(files, "orders"), container(files, "stock")
    asked = {kind: orders[f"{kind}Probe"]["httpGet"]["path"] for kind in ("startup", "liveness")}
    assert asked == {"startup": "/startupz", "liveness": "/livez"}
    assert orders["readinessProbe"]["httpGet"] == {"path": "/readyz", "port": "http"}
    assert orders["startupProbe"]["failureThreshold"] * 2 == 30  # start_within
    assert stock["livenessProbe"]["tcpSocket"] == {"port": "http"}  # nothing else is known of it
    assert container(files, "gateway")["readinessProbe"]["httpGet"]["port"] == "admin"


def test_declared_probes_are_taken_as_they_are(everything: Files) -> None:
    stock = container(everything, "stock")
    assert stock["startupProbe"] == {
        "exec": {"command": ["true"]},
        "initialDelaySeconds": 0,
        "periodSeconds": 2,  # whole seconds there
        "timeoutSeconds": 1,
        "successThreshold": 1,
        "failureThreshold": 20,
    }
    # Only numbers: what is asked is as usual.
    assert stock["readinessProbe"]["httpGet"] == {"path": "/readyz", "port": "http"}
    assert stock["readinessProbe"]["successThreshold"] == 2
    assert stock["livenessProbe"]["httpGet"]["path"] == "/alive"


def test_stopping_fits_the_drain(files: Files) -> None:
    pod = one(files, "Deployment", "orders")["spec"]["template"]["spec"]
    told = environment(files, "orders")
    assert told["SEAWALL_PROPAGATION_SECONDS"] == "5"
    assert told["SEAWALL_DRAIN_SECONDS"] == "15"  # with that
    assert pod["terminationGracePeriodSeconds"] == 25
    assert "lifecycle" not in container(files, "orders")  # it answers until callers have heard
    assert container(files, "gateway")["lifecycle"]["preStop"] == {"sleep": {"seconds": 5}}


def test_a_command_is_listed_by_who_attends_it(files: Files, everything: Files) -> None:
    stock = container(files, "stock")
    assert stock["command"] == [
        *("seawall", "register", "stock", "--version", "0.0.0", "--health", "/readyz"),
        *("--", "stock"),
    ]
    assert environment(files, "stock")["SEAWALL_PROPAGATION_SECONDS"] == "5"
    assert "lifecycle" not in stock  # its callers hear first, and then it is told
    # The cluster's own registry knows it anyway, and an image of its own may have no Seawall.
    assert container(everything, "stock")["command"] == ["node", "server.js"]
    assert "lifecycle" in container(everything, "stock")


def test_a_fixed_number_or_a_scaler(everything: Files, files: Files) -> None:
    assert one(files, "Deployment", "orders")["spec"]["replicas"] == 2
    assert "replicas" not in one(everything, "Deployment", "orders")["spec"]
    scalers = [
        (o["kind"], o["spec"]["scaleTargetRef"]["name"])
        for o in flat(everything)
        if o["kind"] in ("HorizontalPodAutoscaler", "ScaledObject")
    ]
    assert scalers == [("ScaledObject", "mails"), ("HorizontalPodAutoscaler", "orders")]


def test_secrets_are_named_and_never_shown(everything: Files) -> None:
    assert "secret@" not in str(everything)
    told = environment(everything, "orders")
    assert told["SEAWALL_MESSAGES__URL_FILE"] == "/run/secrets/seawall/SEAWALL_MESSAGES__URL"
    assert told["PAYMENT_TOKEN"] == {"secretKeyRef": {"name": "payments", "key": "token"}}
    # A program of another kind knows of no files.
    reference = {"secretKeyRef": {"name": "shop-servers", "key": "messages-url"}}
    assert environment(everything, "stock")["SEAWALL_MESSAGES__URL"] == reference
    shared = one(everything, "ConfigMap", "shop-environment")["data"]
    assert shared["SEAWALL_SESSIONS__URL"] == "rediss://valkey:6379/2"
    assert "SEAWALL_MESSAGES__URL" not in shared


def test_policies_are_waived_only_where_they_are_not_followed(files: Files) -> None:
    def waived(image: str, environment: list[dict], *, pull: str, token: bool) -> set[str]:
        one = {"image": image, "imagePullPolicy": pull, "env": environment}
        given = waivers({"containers": [one], "automountServiceAccountToken": token})
        assert list(given) == [f"checkov.io/skip{n}" for n in range(1, len(given) + 1)]
        assert all(text.count("=") == 1 for text in given.values())
        return {text.split("=")[0] for text in given.values()}

    secret = [{"name": "KEY", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}]
    assert waived("shop@sha256:00", [], pull="Always", token=False) == set()
    assert waived("shop:1", [], pull="Always", token=False) == {"CKV_K8S_43"}
    assert waived("shop@sha256:00", [], pull="IfNotPresent", token=False) == {"CKV_K8S_15"}
    assert waived("shop@sha256:00", secret, pull="Always", token=False) == {"CKV_K8S_35"}
    assert waived("shop@sha256:00", [], pull="Always", token=True) == {"CKV_K8S_38"}
    assert "CKV_K8S_15" in str(one(files, "Deployment", "orders")["metadata"]["annotations"])


def test_a_database_in_a_file_becomes_a_servers(everything: Files, files: Files) -> None:
    assert "SEAWALL_DATABASE__URL_FILE" in environment(everything, "users")
    told = environment(everything, "mails")
    assert told["SEAWALL_DATABASE__URL"] == "postgresql+asyncpg://database/mails"
    assert "SEAWALL_DATABASE__URL_FILE" not in environment(files, "orders")  # its code has none


def test_a_changed_address_rolls_out(tmp_path: Path, files: Files) -> None:
    moved = made(project(tmp_path, SMALL.replace("//valkey", "//elsewhere")))

    def noted(files: Files) -> str:
        template = one(files, "Deployment", "orders")["spec"]["template"]
        return str(template["metadata"]["annotations"]["seawall/configuration"])

    assert noted(moved) != noted(files)


# who may ask whom


def test_networks_follow_needs(files: Files) -> None:
    def callers(name: str) -> list[str]:
        rules = one(files, "NetworkPolicy", name)["spec"]["ingress"]
        peers = [peer for rule in rules for peer in rule.get("from", [])]
        return [p["podSelector"]["matchLabels"]["app.kubernetes.io/name"] for p in peers]

    assert callers("stock") == ["orders"]
    assert callers("orders") == ["gateway"]
    assert one(files, "NetworkPolicy", "gateway")["spec"]["ingress"] == [
        {"ports": [{"protocol": "TCP", "port": 8080}]}
    ]


def test_the_mesh_allows_who_was_declared(everything: Files) -> None:
    rules = one(everything, "AuthorizationPolicy", "users")["spec"]["rules"]
    assert rules[0]["from"][0]["source"]["principals"] == [
        "cluster.local/ns/production/sa/gateway",  # which reads its keys
        "cluster.local/ns/production/sa/orders",
    ]
    assert one(everything, "PeerAuthentication", "default")["spec"]["mtls"]["mode"] == "STRICT"


def test_the_mesh_splits_by_version(everything: Files) -> None:
    rules = one(everything, "VirtualService", "orders")["spec"]["http"]
    beta, weighed, rest = rules
    assert beta["match"][0]["headers"]["x-beta"] == {"exact": "1"}
    assert beta["route"][0]["destination"]["subset"] == "v2-0-0"
    assert [to["weight"] for to in weighed["route"]] == [90, 10]
    assert all(rule["retries"] == {"attempts": 0} for rule in rules)
    assert rest["route"] == [{"destination": {"host": "orders"}}]
    subsets = one(everything, "DestinationRule", "orders")["spec"]["subsets"]
    assert [s["name"] for s in subsets] == ["v1-0-0", "v2-0-0"]
    disturbed = one(everything, "VirtualService", "stock")["spec"]["http"][0]
    assert disturbed["mirrorPercentage"] == {"value": 5}
    assert disturbed["fault"]["delay"]["fixedDelay"] == "250ms"


def test_the_gateway_api_splits_by_services(tmp_path: Path) -> None:
    files = made(project(tmp_path, EVERYTHING), DECLARED, ingress=Ingress.GATEWAY_API)
    route = one(files, "HTTPRoute", "orders")["spec"]
    assert route["parentRefs"][0] == {"group": "", "kind": "Service", "name": "orders", "port": 80}
    beta, weighed, rest = route["rules"]
    cookie, header = beta["matches"][0]["headers"][::-1]
    assert (header["name"], header["type"], header["value"]) == ("x-beta", "Exact", "1")
    assert (cookie["name"], cookie["type"]) == ("cookie", "RegularExpression")
    assert [(b["name"], b["weight"]) for b in weighed["backendRefs"]] == [
        ("orders-v1-0-0", 9),
        ("orders-v2-0-0", 1),
    ]
    assert rest["backendRefs"] == [{"name": "orders", "port": 80}]
    found = one(files, "Service", "orders-v2-0-0")["spec"]["selector"]
    assert found["app.kubernetes.io/version"] == "2.0.0"
    (mirrored, _) = one(files, "HTTPRoute", "stock")["spec"]["rules"]
    assert mirrored["filters"][0]["requestMirror"]["percent"] == 5


def test_a_canary_may_be_a_service_of_its_own(tmp_path: Path) -> None:
    text = SMALL.replace(
        'service = "orders"',
        'split = [{ service = "orders", weight = 95 }, { service = "orders-next", weight = 5 }]',
    )
    text += '[services.orders-next]\ncommand = ["orders"]\n[deploy]\ntraffic = "mesh"\n'
    files = made(project(tmp_path, text), ingress=Ingress.GATEWAY_API)
    weighed = one(files, "HTTPRoute", "orders")["spec"]["rules"][0]
    assert [(b["name"], b["weight"]) for b in weighed["backendRefs"]] == [
        ("orders", 95),
        ("orders-next", 5),
    ]


def test_a_range_of_versions_is_no_subset(tmp_path: Path) -> None:
    ranged = EVERYTHING.replace('version = "2.0.0"', 'version = "^2"')
    spec = project(tmp_path, ranged)
    with pytest.raises(Misconfigured, match="exact versions"):
        made(spec, DECLARED, ingress=Ingress.ISTIO)


def test_two_things_cannot_be_called_gateway(tmp_path: Path) -> None:
    spec = project(tmp_path, SMALL + '[services.gateway]\ncommand = ["x"]\n')
    with pytest.raises(Misconfigured, match="another name"):
        made(spec)


def test_from_zero_only_a_backlog_wakes(tmp_path: Path) -> None:
    spec = project(tmp_path, SMALL.replace("replicas = 2", "replicas = { min = 0, max = 2 }"))
    with pytest.raises(Misconfigured, match="handles no messages"):
        made(spec)
