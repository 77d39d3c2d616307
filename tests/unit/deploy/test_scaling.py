"""What `[[services.X.scale]]` declares is what autoscalers of a cluster are told, no more."""

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seawall.deploy.declared import Declared, Handling
from seawall.deploy.naming import Object
from seawall.deploy.scalers import hpa, keda
from seawall.deploy.scaling import (
    Scaler,
    chosen,
    hpa_kernel,
    keda_kernel,
    needs_adapter,
    pace,
    scaler,
)
from seawall.deploy.target import Target
from seawall.deploy.validate import invalid
from seawall.deploy.workload import SecretRef, Workload
from seawall.messaging.base import Subscription
from seawall.scaling.controller import Bounds, HpaController, KedaController, Look
from seawall.scaling.controller import Target as Figure
from seawall.scaling.hpa import HpaSamples
from seawall.spec.deploy import DeploySpec, ServiceDeploySpec
from seawall.spec.project import Project, Server, Spec
from seawall.spec.scaling import ScaleSpec
from tests.unit.deploy.projects import SMALL, made, one, project
from tests.unit.deploy.test_scalers import ORDERS

VALKEY = Server(url="redis://valkey:6379/0")
SPEC = Spec(project=Project(name="shop"), messages=VALKEY)
ADAPTER = SPEC.model_copy(update={"deploy": DeploySpec(metrics="adapter")})

HANDLES = Declared(
    handlings=(
        Handling(subscription=Subscription("order.placed", "orders"), timeout=5.0),
        Handling(subscription=Subscription("order.paid", "orders"), timeout=5.0),
    )
)


def figure(metric: str = "requests", target: float = 50, **more: object) -> ScaleSpec:
    return ScaleSpec.model_validate({"metric": metric, "target": target, **more})


def workload(*scale: ScaleSpec, low: int = 1, high: int = 9, **size: object) -> Workload:
    return replace(
        ORDERS,
        scale=scale,
        replicas=(low, high),
        size=ServiceDeploySpec.model_validate(size),
        declared=HANDLES,
    )


METRICS = st.sampled_from(["requests", "in_flight", "cpu", "memory", "queue", "age", "open_orders"])
WINDOWS = st.none() | st.integers(1, 3600).map(float)


@st.composite
def scales(draw: st.DrawFn) -> tuple[ScaleSpec, ...]:
    policy = draw(st.sampled_from(["surge", "hpa", "keda", "tracking"]))
    names = draw(st.lists(METRICS, min_size=1, max_size=4, unique=True))
    target = st.floats(0.001, 1e9, allow_nan=False).map(lambda t: round(t, 3))
    return tuple(figure(name, draw(target), policy=policy, window=draw(WINDOWS)) for name in names)


@given(scales(), st.integers(1, 4), st.sampled_from([SPEC, ADAPTER]))
def test_a_declaration_and_its_object_are_the_same(
    scale: tuple[ScaleSpec, ...], low: int, spec: Spec
) -> None:
    declared = workload(*scale, low=low)
    made_of = scaler(declared, spec, Target())
    if chosen(declared, spec) is Scaler.HPA:
        (one,) = made_of
        assert hpa(one) == hpa_kernel(declared)
        names = [metric.name for metric in hpa(one).metrics]
    else:
        kernel, sources = keda_kernel(declared, spec)
        (one,) = made_of
        assert keda(one, sources) == kernel
        names = [trigger.name for trigger in kernel.triggers]
    assert names == [each.metric for each in scale]  # each figure once, and only those


@given(st.floats(1.0, 1e6), st.integers(1, 9), st.floats(0, 1e7))
def test_the_cluster_decides_as_the_laptop_does(target: float, replicas: int, total: float) -> None:
    scale = figure(target=target, policy="hpa")
    here = HpaController([Figure("requests", target)], Bounds(minimum=1, maximum=9))
    (made_of,) = scaler(workload(scale), ADAPTER, Target())
    there = hpa(made_of)
    asked = here.look(Look(replicas, replicas, (total,)), 0.0)
    samples = HpaSamples(replicas, (), ((round(1000 * total),),))
    assert there.decide(there.begin(), samples, 0.0)[1] == asked


def test_a_scaled_object_decides_as_kedas_policy_does_here() -> None:
    scale = figure("requests", 50, policy="keda", window=60)
    bounds = Bounds(minimum=1, maximum=9, window=60.0)
    here = KedaController([Figure("requests", 50)], bounds)
    kernel, _ = keda_kernel(workload(scale), SPEC)
    assert kernel == here._keda


def asked(made_of: list[Object]) -> list[Object]:
    """The figures of the only autoscaler."""
    (one,) = (o for o in made_of if "scaleTargetRef" in o["spec"])
    spec = one["spec"]
    found: list[Object] = spec["metrics" if one["kind"].startswith("Horizontal") else "triggers"]
    return found


def test_what_the_cluster_measures_needs_nobody_else() -> None:
    declared = workload(figure("cpu", 60), figure("memory", 300))
    cpu, memory = asked(scaler(declared, SPEC, Target()))
    assert cpu["resource"]["target"] == {"type": "AverageValue", "averageValue": "600m"}
    assert memory["resource"]["target"] == {"type": "AverageValue", "averageValue": "300000000"}
    assert not needs_adapter(declared, SPEC)
    by_keda = workload(figure("cpu", 60), scaler="keda")
    (trigger,) = asked(scaler(by_keda, SPEC, Target()))
    assert trigger["type"] == "cpu"
    assert trigger["metadata"] == {"value": "600m"}


def test_everything_else_is_asked_of_the_adapter() -> None:
    declared = workload(figure("requests", 12.5), figure("open_orders", 200))
    requests, orders = asked(scaler(declared, SPEC, Target()))
    assert requests["metadata"] == {
        "url": "http://metrics-adapter.shop.svc/keda/orders/requests",
        "valueLocation": "value",
        "targetValue": "12.5",
        "activationTargetValue": "0",
    }
    assert orders["metadata"]["targetValue"] == "200"
    external, _ = asked(scaler(declared, ADAPTER, Target()))
    assert external["external"] == {
        "metric": {"name": "requests", "selector": {"matchLabels": {"service": "orders"}}},
        "target": {"type": "AverageValue", "averageValue": "12500m"},
    }
    assert needs_adapter(declared, SPEC)
    assert needs_adapter(declared, ADAPTER)


def test_one_queue_is_asked_of_its_broker_and_a_sum_of_the_adapter() -> None:
    single = workload(figure("queue", 40, topic="order.paid"), low=0)
    (trigger,) = asked(scaler(single, SPEC, Target()))
    assert trigger["type"] == "redis-streams"
    assert trigger["metadata"]["stream"] == "seawall:{order.paid}"
    assert trigger["metadata"]["lagCount"] == "40"
    assert not needs_adapter(single, SPEC)
    both = workload(figure("queue", 40), low=0)
    (trigger,) = asked(scaler(both, SPEC, Target()))
    assert trigger["type"] == "metrics-api"


def test_a_broker_that_keda_cannot_ask_is_asked_by_the_adapter() -> None:
    hidden = SPEC.model_copy(update={"messages": Server(url="kafka://user:secret@broker:9092")})
    address = SecretRef("SEAWALL_MESSAGES__URL", "shop-servers", "messages-url")
    single = replace(workload(figure("queue", 40, topic="order.paid")), secrets=(address,))
    (trigger,) = asked(scaler(single, hidden, Target()))
    assert trigger["type"] == "metrics-api"
    assert needs_adapter(single, hidden)


def test_the_pace_of_a_policy_is_kept() -> None:
    surge = pace([figure(window=15)], 9)
    assert (surge.up.policies[0].value, surge.up.window) == (9, 0.0)
    assert surge.down.window == 15.0
    assert pace([figure(policy="kpa")], 9).down.window == 60.0
    assert pace([figure(policy="hpa", window=86_400)], 9).down.window == 3600.0  # it takes no more


def test_a_service_without_figures_goes_by_cpu_as_before(tmp_path: Path) -> None:
    spec = project(tmp_path, SMALL.replace("replicas = 2", "replicas = { min = 1, max = 4 }"))
    made_of = one(made(spec), "HorizontalPodAutoscaler", "orders")
    assert made_of["spec"]["metrics"][0]["resource"]["target"]["averageUtilization"] == 70


@pytest.mark.parametrize("spec", [SPEC, ADAPTER])
def test_they_fit_the_schemas(spec: Spec) -> None:
    pytest.importorskip("kubernetes_validate")
    declared = workload(figure("cpu", 60), figure("requests", 50), figure("age", 5))
    target = Target()
    assert invalid(scaler(declared, spec, target), target.version) == []
