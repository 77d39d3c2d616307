"""What a configuration may say of balancing, and what a request sticks to."""

from typing import Any, cast

import pytest

from seawall.errors import Misconfigured
from seawall.gateway.balance import HealthCheck, Sticky
from seawall.gateway.config import GatewayConfig, Upstreams
from seawall.gateway.connection import Downstream
from seawall.gateway.exchange import Exchange
from seawall.gateway.gateway import Gateway, Static
from seawall.gateway.keys import Stickiness, key_of
from seawall.resilience.balancing import Balancing
from seawall.resilience.slow_start import SlowStart
from seawall.testing.clock import ManualClock
from seawall.wire.http1 import scan_request
from tests.support.wires import Wire

HASH = Balancing.CONSISTENT_HASH


def exchange(*fields: str, target: str = "/") -> Exchange:
    gateway = Gateway(GatewayConfig(), Static(), clock=ManualClock())
    down = Downstream(gateway.proxy)
    down.connection_made(cast(Any, Wire()))
    lines = [f"GET {target} HTTP/1.1", "host: shop.example", *fields, "", ""]
    data = "\r\n".join(lines).encode("latin-1")
    return Exchange(gateway.proxy, down, scan_request(data, len(data)), 0.0)


@pytest.mark.parametrize(
    ("hash_on", "target", "fields", "expected"),
    [
        ("header:X-Tenant", "/", ["x-tenant: ann", "x-tenant: bob"], "ann"),
        ("header:X-Tenant", "/", [], ""),
        ("cookie:cart", "/", ["cookie: a=1;cart=2; cart=3"], "2"),
        ("cookie:cart", "/", ["cookie: a=1", "cookie: cart=2"], "2"),
        ("cookie:cart", "/", ["cookie: xcart=2"], ""),
        ("query:q", "/?p=1&q=2", [], "2"),
        ("query:q", "/?qq=1", [], ""),
        ("query:q", "/", [], ""),
        ("path", "/a/../b?c", [], "/b"),
        ("address", "/", [], "192.0.2.1"),
        ("identity", "/", [], "192.0.2.1"),
    ],
)
def test_a_key_is_a_part_of_the_request(
    hash_on: str, target: str, fields: list[str], expected: str
) -> None:
    assert key_of(hash_on)(exchange(*fields, target=target)) == expected


def test_an_identity_is_a_key_of_its_own() -> None:
    one = exchange()
    one.subject = "192.0.2.1"
    assert key_of("identity")(one) != key_of("identity")(exchange())


def test_a_cookie_is_told_to_whoever_has_another() -> None:
    one = Stickiness(Sticky(secret="s", path="/app", secure=True), "shop")
    token = one.token("shop-1")
    assert one.told(exchange(f"cookie: seawall-instance={token}"), token) == b""
    line = f"set-cookie: seawall-instance={token}; Path=/app; HttpOnly; SameSite=Lax; Secure\r\n"
    for fields in ([], ["cookie: seawall-instance=x"]):
        assert one.told(exchange(*fields), token) == line.encode()


def test_a_cookie_s_value_depends_on_secret_service_and_place() -> None:
    makers = [
        Stickiness(Sticky(secret=secret), service)
        for secret in ("s", "t" * 100)
        for service in ("shop", "mail")
    ]
    values = {one.token(place) for one in makers for place in ("shop-1", "shop-2")}
    assert len(values) == 8
    assert Stickiness(Sticky(secret="s"), "shop").token("shop-1") in values


@pytest.mark.parametrize(
    "wrong",
    [
        {"balancing": HASH},
        {"hash_on": "path"},
        {"balancing": HASH, "hash_on": "weather"},
        {"balancing": HASH, "hash_on": "header:"},
        {"balancing": HASH, "hash_on": "path:x"},
        {"balancing": HASH, "hash_on": "header:connection"},
        {"balancing": HASH, "hash_on": "header:not a name"},
        {"balancing": HASH, "hash_on": "path", "sticky": Sticky()},
        {"balancing": HASH, "hash_on": "path", "slow_start": SlowStart()},
        {"balancing": HASH, "hash_on": "path", "hash_bound": 1.0},
        {"balancing": Balancing.ROUND_ROBIN, "slow_start": SlowStart()},
    ],
    ids=str,
)
def test_what_does_not_go_together_is_said(wrong: dict[str, Any]) -> None:
    with pytest.raises(Misconfigured):
        Upstreams(**wrong)


@pytest.mark.parametrize(
    "wrong",
    [{"cookie": "a b"}, {"cookie": ""}, {"path": "app"}, {"path": "/;x"}, {"ttl": -1.0}],
    ids=str,
)
def test_a_cookie_can_be_written(wrong: dict[str, Any]) -> None:
    with pytest.raises(Misconfigured):
        Sticky(**wrong)


@pytest.mark.parametrize(
    "wrong",
    [
        {"path": "live"},
        {"path": "/a\r\nb"},
        {"timeout": 0.0},
        {"timeout": 6.0},
        {"unhealthy": 0},
        {"healthy": 0},
        {"port": 65536},
        {"expect": ()},
        {"expect": (99,)},
    ],
    ids=str,
)
def test_a_check_can_be_asked(wrong: dict[str, Any]) -> None:
    with pytest.raises(Misconfigured):
        HealthCheck(**wrong)
