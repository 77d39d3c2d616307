"""Certificates by cert-manager: each workload its own, in the form that its process reads."""

import json
from pathlib import Path

import pytest

from seawall.deploy.check import of_objects
from seawall.deploy.kubernetes import Files
from seawall.deploy.target import Ingress, KubeVersion, Mtls, Target
from seawall.deploy.validate import invalid
from seawall.errors import Misconfigured
from seawall.identity.workload import WorkloadId
from tests.unit.deploy.projects import DECLARED, EVERYTHING, SCALED, flat, made, one, project


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return made(project(tmp_path, SCALED), mtls=Mtls.CERT_MANAGER)


def container(files: Files, name: str) -> dict:
    (found,) = one(files, "Deployment", name)["spec"]["template"]["spec"]["containers"]
    return found


def policy(files: Files, name: str) -> dict:
    return json.loads(one(files, "ConfigMap", f"{name}-callers")["data"]["policy.json"])


def test_without_it_there_is_nothing_of_it(tmp_path: Path) -> None:
    assert "cert-manager" not in str(made(project(tmp_path, SCALED)))


def test_each_workload_has_one_name_and_it_is_its_spiffe_id(files: Files) -> None:
    for name in ("orders", "stock", "gateway", "metrics-adapter"):
        spec = one(files, "Certificate", f"{name}-identity")["spec"]
        assert spec["uris"] == [str(WorkloadId("shop", name))]
        assert "dnsNames" not in spec
        assert spec["issuerRef"]["name"] == "shop-authority"
        assert spec["usages"] == ["digital signature", "server auth", "client auth"]


def test_the_authority_is_the_projects_own(files: Files) -> None:
    signs = one(files, "Issuer", "shop-self-signed")["spec"]
    assert signs == {"selfSigned": {}}
    authority = one(files, "Certificate", "shop-authority")["spec"]
    assert (authority["isCA"], authority["issuerRef"]["name"]) == (True, "shop-self-signed")
    assert one(files, "Issuer", "shop-authority")["spec"] == {
        "ca": {"secretName": authority["secretName"]}
    }


def test_a_pod_finds_all_of_it_in_one_folder(files: Files) -> None:
    pod = one(files, "Deployment", "orders")["spec"]["template"]["spec"]
    (volume,) = (v for v in pod["volumes"] if v["name"] == "identity")
    assert volume["projected"]["sources"] == [
        {"secret": {"name": "orders-identity"}},
        {"configMap": {"name": "orders-callers"}},
    ]
    told = {e["name"]: e.get("value") for e in container(files, "orders")["env"]}
    (mount,) = (m for m in container(files, "orders")["volumeMounts"] if m["name"] == "identity")
    assert told["SEAWALL_TLS"] == mount["mountPath"] == "/run/identity"


def test_who_may_call_is_who_declares_it(files: Files) -> None:
    assert policy(files, "stock")["callers"] == [
        "spiffe://seawall.local/shop/orders",
        "spiffe://seawall.local/shop/stock",  # its own probes
    ]
    assert "spiffe://seawall.local/shop/metrics-adapter" in policy(files, "orders")["callers"]
    assert policy(files, "gateway") == {"callers": [], "plain": [], "serves": False}


def test_probes_have_a_certificate_or_none_is_asked_for(files: Files) -> None:
    ready = container(files, "orders")["readinessProbe"]
    assert ready["exec"]["command"] == ["python", "-m", "seawall.identity.probe", "/readyz"]
    assert container(files, "stock")["readinessProbe"] == ready
    assert container(files, "gateway")["readinessProbe"]["httpGet"]["port"] == "admin"
    assert container(files, "metrics-adapter")["readinessProbe"]["httpGet"]["path"] == "/readyz"


def test_it_fits(tmp_path: Path) -> None:
    for ingress in (Ingress.NGINX, Ingress.GATEWAY_API):
        objects = flat(
            made(project(tmp_path, EVERYTHING), DECLARED, ingress=ingress, mtls=Mtls.CERT_MANAGER)
        )
        assert of_objects(objects) == []
        pytest.importorskip("kubernetes_validate")
        assert invalid(objects, KubeVersion(1, 31)) == []


def test_the_mesh_and_cert_manager_would_do_it_twice() -> None:
    with pytest.raises(Misconfigured, match="a second time"):
        Target(ingress=Ingress.ISTIO, mtls=Mtls.CERT_MANAGER)
