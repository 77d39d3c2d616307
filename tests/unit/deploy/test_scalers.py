from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seawall.deploy.naming import Object
from seawall.deploy.queues import source
from seawall.deploy.scalers import Source, horizontal, hpa, keda, scaled
from seawall.deploy.target import Target
from seawall.deploy.workload import Paths, Workload
from seawall.errors import Misconfigured
from seawall.messaging.base import Subscription
from seawall.scaling.hpa import Hpa, HpaSamples, Kind, Metric
from seawall.scaling.hpa_behavior import Behavior, Policy, Rules, Select, Unit
from seawall.scaling.hpa_metrics import Pod
from seawall.scaling.keda import Fallback, FallbackBehavior, Keda, Trigger
from seawall.spec.deploy import ServiceDeploySpec

ORDERS = Workload(
    name="orders",
    version="1.0.0",
    image="shop:1",
    command=("seawall",),
    folder="/app",
    environment={},
    secrets=(),
    reads_files=True,
    paths=Paths(started="/", ready="/", live="/"),
    probe_port=8080,
    metrics_port=None,
    replicas=(1, 9),
    start_within=30,
    drain=10,
    closing=10,
    drains_itself=True,
    callers=(),
    callees=(),
    size=ServiceDeploySpec(),
    cluster_registry=False,
)
NAMES = st.sampled_from(["cpu", "memory", "orders_open"])
COUNTS = st.integers(1, 10_000)


def seconds(most: int) -> st.SearchStrategy[float]:
    return st.integers(0, most).map(float)


RULES = st.builds(
    Rules,
    st.lists(
        st.builds(Policy, st.sampled_from(Unit), COUNTS, st.integers(1, 1800).map(float)),
        min_size=1,
        max_size=3,
    ).map(tuple),
    window=seconds(3600),
    select=st.sampled_from(Select),
)
BEHAVIOR = st.none() | st.builds(Behavior, up=RULES, down=RULES)
METRICS = st.builds(Metric, NAMES, st.sampled_from(Kind), COUNTS)
KERNELS = st.builds(
    Hpa,
    st.lists(METRICS, min_size=1, max_size=3).map(tuple),
    minimum=st.integers(0, 5),
    maximum=st.integers(5, 50),
    behavior=BEHAVIOR,
)
SOURCE = Source(type="redis-streams", target="lagCount", activation="activationLagCount")


@given(KERNELS)
def test_an_autoscaler_and_its_object_are_the_same(kernel: Hpa) -> None:
    assert hpa(horizontal(kernel, ORDERS, "shop", Target())) == kernel


@given(
    triggers=st.lists(
        st.builds(Trigger, NAMES, COUNTS.map(float), st.integers(0, 99).map(float)), min_size=1
    ).map(tuple),
    minimum=st.integers(1, 5),
    idle=st.none() | st.just(0),
    cooldown=seconds(600),
    fallback=st.none()
    | st.builds(Fallback, st.integers(0, 9), st.integers(0, 9), st.sampled_from(FallbackBehavior)),
    behavior=BEHAVIOR,
    paused=st.booleans(),
    forced=st.booleans(),
)
def test_a_scaled_object_and_its_kernel_are_the_same(**said: Any) -> None:
    kernel = Keda(**said)
    sources = [SOURCE] * len(kernel.triggers)
    (made,) = scaled(kernel, sources, ORDERS, "shop")
    assert keda(made, sources) == kernel


def test_the_object_decides_as_the_kernel_does() -> None:
    kernel = Hpa((Metric("cpu", Kind.UTILIZATION, 70),), maximum=8, minimum=2)
    again = hpa(horizontal(kernel, ORDERS, "shop", Target()))
    samples = HpaSamples(9, (Pod("a"),), (None,))
    assert again.decide(again.begin(), samples, 0.0) == kernel.decide(kernel.begin(), samples, 0.0)


def made_for(url: str | None, secret: tuple[str, str] | None = None) -> Object:
    found = source(Subscription("order.done", "mails"), url, secret)
    trigger = Keda(triggers=(Trigger("mails", 50),))
    return scaled(trigger, [found], ORDERS, "shop")[-1]["spec"]["triggers"][0]


def test_each_broker_is_asked_in_its_own_way() -> None:
    redis = made_for("rediss://valkey:6380/2")["metadata"]
    assert redis["stream"] == "seawall:{order.done}"
    assert redis["consumerGroup"] == "mails"
    assert (redis["address"], redis["databaseIndex"]) == ("valkey:6380", "2")
    assert (redis["enableTLS"], redis["lagCount"]) == ("true", "50")
    rabbit = made_for("amqps://broker/", ("servers", "messages-url"))
    assert rabbit["metadata"]["queueName"] == "seawall/order:2Edone/group/mails"
    assert rabbit["authenticationRef"] == {"name": "orders"}
    kafka = made_for("kafka://a:9092,b:9092")["metadata"]
    assert kafka["bootstrapServers"] == "a:9092,b:9092"
    assert kafka["consumerGroup"] == "order.done.mails"
    nats = made_for("nats://broker:4222")["metadata"]
    assert nats["natsServerMonitoringEndpoint"] == "broker:8222"
    sqs = made_for("sqs://eu-west-1")
    assert sqs["type"] == "aws-sqs-queue"
    assert sqs["metadata"]["awsRegion"] == "eu-west-1"


def test_what_is_secret_stays_in_its_secret() -> None:
    found = source(Subscription("a", "b"), None, ("servers", "messages-url"))
    auth, made = scaled(Keda(triggers=(Trigger("a", 1),)), [found], ORDERS, "shop")
    assert auth["spec"]["secretTargetRef"] == [
        {"parameter": "address", "name": "servers", "key": "messages-address"},
        {"parameter": "password", "name": "servers", "key": "messages-password"},
    ]
    assert "address" not in made["spec"]["triggers"][0]["metadata"]


def test_of_a_url_with_a_password_only_the_rest_is_shown() -> None:
    shown = made_for("redis://:hunter2@valkey:6379/1", ("servers", "messages-url"))
    assert shown["metadata"]["address"] == "valkey:6379"
    assert "hunter2" not in str(shown)
    with pytest.raises(Misconfigured, match="KEDA cannot be told"):
        made_for("kafka://user:hunter2@broker:9092", ("servers", "messages-url"))
