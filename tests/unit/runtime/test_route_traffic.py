"""What `seawall.toml` says of a route's traffic reaches the gateway."""

import re
from pathlib import Path

import pytest
from pydantic import ValidationError

from seawall.errors import Misconfigured
from seawall.gateway.traffic import Abort, Arm, Delay, Faults, Mirror, Split, When
from seawall.runtime.gateway_config import gateway_config
from seawall.spec.gateway import RouteSpec
from seawall.spec.load import load_spec
from seawall.topology import Constraint

DECLARED = """
[[gateway.routes]]
path = "/orders"
split = [
    { service = "orders", version = "^1", weight = 90 },
    { service = "orders", version = "^2", weight = 10, name = "canary", match = { headers = { x-try = "*" }, cookies = { beta = "yes" } } },
]
mirror = { service = "orders", version = "^3", percent = 5, max_in_flight = 8, timeout = 2 }

[[gateway.routes]]
path = "/cart"
[gateway.routes.split]
arms = [{ service = "orders", weight = 1, name = "a" }, { service = "orders", weight = 1, name = "b" }]
sticky = { cookie = "ab", ttl = 60, secure = true }
fallback = false
experiment = "cart"
tell = true

[[gateway.routes]]
path = "/slow"
service = "orders"
[gateway.routes.faults]
delay = { seconds = 1, jitter = 2, percent = 50 }
abort = { status = 500, percent = 10, reset = true }
match = { headers = { x-fault = "1" } }
trusted = true

[services.orders]
command = ["sleep", "1"]
"""  # noqa: E501 - an inline table of TOML is one line


def test_the_spec_is_told_in_the_gateway_s_words(tmp_path: Path) -> None:
    (tmp_path / "seawall.toml").write_text(DECLARED)
    orders, cart, slow = gateway_config(load_spec(tmp_path).gateway).routes
    match = When(headers={"x-try": "*"}, cookies={"beta": "yes"})
    canary = Arm(
        service="orders",
        version=Constraint.parse("^2"),
        weight=10,
        name="canary",
        match=match,
    )
    stable = Arm(service="orders", version=Constraint.parse("^1"), weight=90)
    assert orders.split == Split(arms=(stable, canary))
    assert orders.mirror == Mirror(
        service="orders",
        version=Constraint.parse("^3"),
        percent=5,
        max_in_flight=8,
        timeout=2,
    )
    assert cart.split == Split(
        arms=tuple(Arm(service="orders", weight=1, name=name) for name in "ab"),
        cookie="ab",
        cookie_ttl=60,
        secure=True,
        fallback=False,
        experiment="cart",
        tell=True,
    )
    assert slow.faults == Faults(
        delay=Delay(seconds=1, jitter=2, percent=50),
        abort=Abort(status=500, percent=10, reset=True),
        match=When(headers={"x-fault": "1"}),
        trusted=True,
    )


@pytest.mark.parametrize(
    "route",
    [
        {"split": [{"service": "a", "weight": 1}], "service": "a"},
        {"split": [{"service": "a", "version": "one", "weight": 1}]},
        {"split": [{"service": "a", "weight": -1}]},
        {"service": "a", "mirror": {"service": "b", "percent": 101}},
        {"service": "a", "mirror": {"service": "b", "max_in_flight": 0}},
        {"service": "a", "faults": {"delay": {"seconds": 301}}},
        {"service": "a", "faults": {"abort": {"state": 500}}},
    ],
)
def test_what_makes_no_sense_is_refused_where_it_is_written(route: dict[str, object]) -> None:
    with pytest.raises((ValidationError, Misconfigured)):
        RouteSpec.model_validate(route)


@pytest.mark.parametrize("key", ["split[1].service", "mirror.service"])
def test_a_service_that_is_not_declared_is_named(tmp_path: Path, key: str) -> None:
    old = 'service = "orders", version = ' + ('"^2"' if "split" in key else '"^3"')
    text = DECLARED.replace(old, old.replace("orders", "order"))
    (tmp_path / "seawall.toml").write_text(text)
    with pytest.raises(Misconfigured, match=re.escape(f"{key}: 'order' is not declared")):
        load_spec(tmp_path)
