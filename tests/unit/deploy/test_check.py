"""Each check finds the fault that is planted for it, and nothing in what is made."""

import copy
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from seawall.deploy.check import amount, of_objects
from seawall.deploy.declared import Call, Declared, Handling
from seawall.deploy.fit import of_declarations
from seawall.deploy.naming import Object
from seawall.deploy.target import Ingress
from seawall.deploy.workload import workloads
from seawall.messaging.base import Subscription
from tests.unit.deploy.projects import DECLARED, EVERYTHING, SMALL, flat, made, project


@pytest.fixture
def objects(tmp_path: Path) -> list[Object]:
    spec = project(tmp_path, EVERYTHING)
    return copy.deepcopy(flat(made(spec, DECLARED, ingress=Ingress.ISTIO)))


def get(objects: list[Object], kind: str, name: str = "orders") -> Object:
    return next(o for o in objects if o["kind"] == kind and o["metadata"]["name"] == name)


def pod(objects: list[Object]) -> dict:
    return get(objects, "Deployment")["spec"]["template"]["spec"]


def test_what_is_made_fits(objects: list[Object]) -> None:
    assert of_objects(objects) == []


def name(objects: list[Object]) -> None:
    get(objects, "Service")["metadata"]["name"] = "Orders_API"


def twice(objects: list[Object]) -> None:
    objects.append(get(objects, "ConfigMap", "shop-environment"))


def nobody(objects: list[Object]) -> None:
    get(objects, "Service")["spec"]["selector"] = {"app": "orders"}


def everybody(objects: list[Object]) -> None:
    get(objects, "Service")["spec"]["selector"] = {"app.kubernetes.io/part-of": "shop"}


def port(objects: list[Object]) -> None:
    get(objects, "Service")["spec"]["ports"][0]["targetPort"] = 9000


def probe(objects: list[Object]) -> None:
    pod(objects)["containers"][0]["livenessProbe"]["httpGet"]["port"] = "health"


def too_much(objects: list[Object]) -> None:
    pod(objects)["containers"][0]["resources"]["requests"]["memory"] = "2Gi"


def unmounted(objects: list[Object]) -> None:
    pod(objects)["containers"][0]["volumeMounts"].clear()


def no_volume(objects: list[Object]) -> None:
    pod(objects)["volumes"].pop()


def two_scalers(objects: list[Object]) -> None:
    second = copy.deepcopy(get(objects, "HorizontalPodAutoscaler"))
    second["metadata"]["name"] = "orders-memory"
    objects.append(second)


def fixed(objects: list[Object]) -> None:
    get(objects, "Deployment")["spec"]["replicas"] = 2


def no_target(objects: list[Object]) -> None:
    get(objects, "HorizontalPodAutoscaler")["spec"]["scaleTargetRef"]["name"] = "order"


def stuck(objects: list[Object]) -> None:
    budget = get(objects, "PodDisruptionBudget")["spec"]
    budget["minAvailable"] = 2
    del budget["maxUnavailable"]


def short_grace(objects: list[Object]) -> None:
    pod(objects)["terminationGracePeriodSeconds"] = 5


def mesh_retries(objects: list[Object]) -> None:
    del get(objects, "VirtualService")["spec"]["http"][-1]["retries"]


@pytest.mark.parametrize(
    ("plant", "rule", "told"),
    [
        (name, "name", "'Orders_API' is no name"),
        (twice, "name", "2 objects"),
        (nobody, "selector", "no pod has"),
        (everybody, "selector", "selects the pods of mails, orders"),
        (port, "port", "targetPort 9000"),
        (probe, "probe port", "livenessProbe asks port 'health'"),
        (too_much, "resources", "memory: 2Gi is requested"),
        (unmounted, "volume", "no container mounts"),
        (no_volume, "volume", "which is no volume of the pod"),
        (two_scalers, "scaler", "both scale it"),
        (fixed, "scaler", "a fixed number"),
        (no_target, "scaler", "no Deployment 'order'"),
        (stuck, "budget", "with 2 replicas it never allows"),
        (short_grace, "grace", "killed after 5 s"),
        (mesh_retries, "retries", "tries rule 2 again 2 times"),
    ],
)
def test_a_planted_fault_is_found(
    objects: list[Object], plant: Callable[[list[Object]], None], rule: str, told: str
) -> None:
    plant(objects)
    found = of_objects(objects)
    assert {each.rule for each in found} == {rule}
    assert any(told in each.what for each in found), found
    assert all(each.why and each.fix for each in found)


@pytest.mark.parametrize(
    ("quantity", "number"), [("100m", 0.1), ("64Mi", 64 * 2**20), ("2", 2.0), ("1.5G", 1.5e9)]
)
def test_quantities(quantity: str, number: float) -> None:
    assert amount(quantity) == number


# declarations

FITS = {
    "orders": Declared(calls=(Call(callee="stock", timeout=2.0, attempts=3),), pool=10),
    "stock": Declared(),
}
SLOW = Handling(subscription=Subscription("a", "b"), timeout=60.0)


@pytest.mark.parametrize(
    ("declared", "more", "rule", "told"),
    [
        ({"orders": replace(FITS["orders"], handlings=(SLOW,))}, "", "drain", "may take 60 s"),
        (
            {"stock": Declared(calls=(Call(callee="orders", timeout=9.0, attempts=1),))},
            "",
            "timeout",
            "waits 2 s for stock, which waits 9 s",
        ),
        ({}, "timeout = 5\n", "deadline", "orders may take 6 s"),
        (
            {},
            "retry = { attempts = 3 }\ntimeouts = { per_try = 6 }\n",
            "deadline",
            "3 tries of 6 s",
        ),
        ({}, "retry = { attempts = 2, on = [503] }\n", "retries", "orders tries stock 3 times"),
        ({}, "[deploy]\ndatabase_connections = 20\n", "database", "30 connections (orders 30)"),
    ],
)
def test_what_does_not_fit_is_found(
    tmp_path: Path, declared: dict[str, Declared], more: str, rule: str, told: str
) -> None:
    spec = project(tmp_path, SMALL)
    assert of_declarations(spec, workloads(spec, FITS)) == []
    spec = project(tmp_path, SMALL.replace('service = "orders"\n', f'service = "orders"\n{more}'))
    found = of_declarations(spec, workloads(spec, FITS | declared))
    assert [each.rule for each in found] == [rule]
    assert told in found[0].what


def test_a_clusters_registry_knows_one_version_of_a_service(tmp_path: Path) -> None:
    arms = [f'{{ service = "orders", version = "{v}", weight = 1 }}' for v in ("1.0.0", "2.0.0")]
    split = SMALL.replace('service = "orders"', f"split = [{', '.join(arms)}]")
    of_cluster = split.replace(
        '[registry]\nurl = "redis://valkey:6379/0"', '[registry]\nurl = "kubernetes://"'
    )

    def found(text: str) -> list[str]:
        spec = project(tmp_path, text)
        return [each.what for each in of_declarations(spec, workloads(spec, FITS))]

    (told,) = found(of_cluster)
    assert "splits orders by its versions 1.0.0, 2.0.0" in told
    assert found(split) == []
    assert found(of_cluster + '[deploy]\ntraffic = "mesh"\n') == []


def test_turns_are_kept_somewhere(tmp_path: Path) -> None:
    text = SMALL.replace(
        '[registry]\nurl = "redis://valkey:6379/0"', '[registry]\nurl = "kubernetes://"'
    )
    declared = {"orders": Declared(takes_turns=True)}

    def found(text: str) -> list[str]:
        spec = project(tmp_path, text)
        return [each.rule for each in of_declarations(spec, workloads(spec, declared))]

    assert found(text) == []  # beside the messages
    elsewhere = text.replace("redis://valkey:6379/0", "amqp://rabbit/")
    assert found(elsewhere) == ["turns"]
    assert found(elsewhere + '[sessions]\nurl = "redis://valkey:6379/1"\n') == []
