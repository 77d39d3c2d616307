import asyncio
import hashlib
import json
from contextlib import AsyncExitStack
from dataclasses import fields, replace
from pathlib import Path
from typing import get_args

import pytest
from pydantic import ValidationError

from seawall.concurrency.tasks import Tasks
from seawall.errors import Misconfigured, Unavailable
from seawall.gateway.actions import Edits, Redirect, RegexRewrite, Respond
from seawall.gateway.balance import HealthCheck, Sticky
from seawall.gateway.config import Edge, GatewayConfig, Route, Upstreams
from seawall.gateway.ledger import MemoryLedger
from seawall.gateway.limits import Algorithm, Limit, LimitBy
from seawall.identity.api_keys import ApiKeys
from seawall.identity.remote_keys import RemoteKeys
from seawall.identity.signing import SigningKey, jwks
from seawall.registry.memory import MemoryRegistry
from seawall.registry.watcher import Watcher
from seawall.resilience.balancing import Balancing
from seawall.resilience.breaker import BreakerConfig
from seawall.resilience.locality import LocalityConfig
from seawall.resilience.outlier import OutlierConfig
from seawall.resilience.slow_start import SlowStart
from seawall.runtime.gateway import admin_place, limits_ledger
from seawall.runtime.gateway_auth import _fetcher, _provider, keys_read
from seawall.runtime.gateway_config import gateway_config
from seawall.spec.gateway import AuthSpec, GatewaySpec, RouteSpec
from seawall.spec.load import load_spec
from seawall.spec.project import Spec
from seawall.spec.upstreams import UpstreamsSpec
from seawall.topology import Address

DECLARED = """
[gateway]
trusted_proxies = ["10.0.0.0/8"]
max_body = 1000
tunnel_lifetime = 60
tunnel_bytes = 5000
drain = 3
default_plan = "free"
[gateway.plans.free]
limits = [{ requests = 1000, window = 3600 }]
[gateway.plans.gold]
limits = [{ rate = 50, burst = 100, algorithm = "token-bucket", name = "steady" }]
[gateway.auth.staff]
kind = "key"
keys = [{ sha256 = "%s", subject = "ann", scopes = ["books"], plan = "gold" }]
[[gateway.routes]]
path = "/orders"
path_type = "exact"
host = "shop.example"
methods = ["post"]
headers = { "x-canary" = "1" }
service = "orders"
version = "^2"
rewrite = "/v2/orders"
timeout = 3
auth = "staff"
scopes = ["books"]
limit = { rate = 5, burst = 10, by = "address" }
[services.orders]
command = ["sleep", "1"]
"""


@pytest.fixture
def spec(tmp_path: Path) -> Spec:
    key = hashlib.sha256(b"sw_key").hexdigest()
    (tmp_path / "seawall.toml").write_text(DECLARED % key)
    return load_spec(tmp_path)


def test_the_spec_is_told_in_the_gateway_s_words(spec: Spec) -> None:
    config = gateway_config(spec.gateway)
    (route,) = config.routes
    assert (route.path, route.exact, route.host, route.methods) == (
        *("/orders", True, "shop.example"),
        ("POST",),
    )
    assert (dict(route.headers), str(route.version), route.rewrite) == (
        *({"x-canary": "1"}, "^2"),
        "/v2/orders",
    )
    assert (route.timeouts.total, route.auth, route.scopes) == (3, "staff", ("books",))
    assert config.plans == {
        "free": (Limit(algorithm=Algorithm.SLIDING_WINDOW, requests=1000, window=3600.0),),
        "gold": (Limit(rate=50, burst=100, algorithm=Algorithm.TOKEN_BUCKET, name="steady"),),
    }
    assert (config.default_plan, route.plans) == ("free", False)
    (limit,) = route.limits
    assert (limit.rate, limit.burst, limit.by) == (5, 10, LimitBy.ADDRESS)
    assert not route.keep_token
    assert (config.trusted_proxies, config.edge.max_body, config.drain) == (
        *(("10.0.0.0/8",), 1000),
        3,
    )
    assert (config.edge.tunnel_lifetime, config.edge.tunnel_bytes) == (60, 5000)
    default = gateway_config(GatewaySpec())
    assert default.routes == ()
    assert default.edge == Edge()


def test_what_a_route_does_itself_is_told_in_the_gateway_s_words() -> None:
    moved = RouteSpec.model_validate(
        {
            "path": "/old/{id}",
            "query": {"v": "1"},
            "cookies": {"beta": "*"},
            "redirect": {"scheme": "https", "host": "a", "port": 8443, "path": "/{id}"},
            "response_headers": {"remove": ["a"], "set": {"b": "1"}, "add": {"c": "2"}},
        }
    )
    told = RouteSpec.model_validate({"respond": {"status": 404, "body": "no"}})
    sent = RouteSpec.model_validate(
        {
            "path": "/[a-z]+",
            "path_type": "regex",
            "service": "orders",
            "rewrite_regex": {"pattern": "a", "to": "b"},
            "host_rewrite": "in.side",
            "request_headers": {"set": {"x": "1"}},
        }
    )
    routes = gateway_config(GatewaySpec(routes=[moved, told, sent])).routes
    assert routes[0].redirect == Redirect(
        scheme="https", host="a", port=8443, path="/{id}", status=302
    )
    assert (routes[0].query, routes[0].cookies) == ({"v": "1"}, {"beta": "*"})
    assert routes[0].response_headers == Edits(remove=("a",), set={"b": "1"}, add={"c": "2"})
    assert (routes[1].service, routes[1].respond) == ("", Respond(status=404, body="no"))
    assert (routes[2].regex, routes[2].host_rewrite) == (True, "in.side")
    assert routes[2].rewrite_regex == RegexRewrite(pattern="a", to="b")
    assert routes[2].request_headers == Edits(set={"x": "1"})


@pytest.mark.parametrize(
    "wrong",
    [
        {"path": "/"},
        {"service": "a", "respond": {}},
        {"redirect": {"path": "/b", "status": 200}},
        {"respond": {"headers": {}}},
    ],
)
def test_a_route_goes_to_one_place(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        RouteSpec.model_validate(wrong)


async def test_each_kind_of_authentication_has_a_verifier(spec: Spec, unique: str) -> None:
    async with AsyncExitStack() as stack:
        watcher = await stack.enter_async_context(Watcher(MemoryRegistry(unique)))
        fetch = _fetcher(watcher)
        waited_for: list[RemoteKeys] = []
        keys = await _provider(spec.gateway.auth["staff"], spec, fetch, stack, waited_for)
        assert keys.header == "x-api-key"
        assert isinstance(keys.verifier, ApiKeys)
        assert keys.verifier.verify("sw_key", 0.0).subject == "ann"
        assert keys.verifier.verify("sw_key", 0.0).plan == "gold"
        shared = AuthSpec(secret="a very secret secret of 32 bytes!", algorithms=["HS256"])
        assert (await _provider(shared, spec, fetch, stack, waited_for)).header == "authorization"
        remote = AuthSpec(jwks="service:users/.well-known/jwks.json")
        assert waited_for == []
        assert (await _provider(remote, spec, fetch, stack, waited_for)).header == "authorization"
        assert len(waited_for) == 1
        # Nobody is called users here: the gateway gives up waiting, and serves all others.
        assert not await keys_read(waited_for, 0.01)
        assert await keys_read([], 0.01)


async def test_keys_that_cannot_be_fetched_are_unavailable(unique: str) -> None:
    async with Watcher(MemoryRegistry(unique)) as watcher:
        fetch = _fetcher(watcher)
        with pytest.raises(Unavailable, match="no ready instance of users"):
            await fetch("service:users/jwks.json")
        with pytest.raises(Unavailable):
            await fetch("http://127.0.0.1:1/jwks.json")
        with pytest.raises(Unavailable):
            await fetch("nonsense")


async def test_a_gateway_waits_until_the_keys_are_read() -> None:
    asked = asyncio.Event()
    document = json.dumps(jwks(SigningKey.generate())).encode()

    async def fetch(url: str) -> bytes:
        await asked.wait()
        return document

    async with RemoteKeys("http://users/jwks.json", fetch) as keys, Tasks() as tasks:
        waiting = tasks.start(keys_read([keys], 10.0))
        assert not await keys_read([keys], 0.01)
        asked.set()
        assert await waiting
        assert len(keys.find(None, "ES256").kid or "") > 0


async def test_shared_limits_are_divided_where_sessions_are_or_as_told() -> None:
    limit = Limit(rate=1, shared=True)
    of_a_route = GatewayConfig(routes=(Route(service="shop", limits=(limit,)),))
    of_a_plan = GatewayConfig(plans={"gold": (limit,)})

    def ledger(config: GatewayConfig = of_a_route, **urls: str) -> str:
        tables = {name: {"url": url} for name, url in urls.items() if name != "limits_url"}
        if "limits_url" in urls:
            tables["gateway"] = {"limits_url": urls["limits_url"]}
        return repr(limits_ledger(config, Spec.model_validate(tables)))

    assert limits_ledger(GatewayConfig(), Spec()) is None
    assert isinstance(limits_ledger(of_a_plan, Spec()), MemoryLedger)
    registry, sessions = "redis://registry/0", "valkey://sessions/0?namespace=shop"
    assert ledger(registry=registry).endswith(f"at {registry}>")
    shown = ledger(of_a_plan, registry=registry, sessions=sessions)
    assert shown == "<ValkeyLedger {shop}:limits: at valkey://sessions/0>"
    assert ledger(sessions=sessions, limits_url="unix:///x.sock").endswith("at unix:///x.sock>")
    with pytest.raises(Misconfigured, match=r"limits_url: .nats. is no kind"):
        ledger(limits_url="nats://x")
    # A cluster keeps no limits, but where messages are, if that is a Valkey.
    assert ledger(registry="kubernetes://", messages=registry).endswith(f"at {registry}>")
    with pytest.raises(Misconfigured, match="'kubernetes' is no kind of ledger"):
        ledger(registry="kubernetes://", messages="amqp://broker/")


def test_the_admin_listener_has_a_place() -> None:
    assert admin_place("") is None
    assert admin_place("/run/gateway.sock") == Path("/run/gateway.sock")
    assert admin_place("0.0.0.0:9901") == Address("0.0.0.0", 9901)
    assert admin_place("[::1]:9901") == Address("::1", 9901)
    with pytest.raises(Misconfigured, match="no path"):
        admin_place("9901")


BALANCED = """
[gateway]
zone = "a"
[gateway.upstreams."*"]
attempts = 2
outliers = { eject_for = 20 }
health = { path = "/live", expect = [200, 204] }
[gateway.upstreams.orders]
balancing = "consistent-hash"
hash_on = "header:x-tenant"
breaker = { open_for = 1 }
health = { interval = 9 }
locality = { panic = 0.2 }
[gateway.upstreams.users]
balancing = "weighted"
sticky = { ttl = 60 }
slow_start = { window = 5 }
[services.orders]
command = ["sleep", "1"]
[services.users]
command = ["sleep", "1"]
zone = "b"
"""


def test_upstreams_begin_from_those_of_all(tmp_path: Path) -> None:
    (tmp_path / "seawall.toml").write_text(BALANCED)
    config = gateway_config(load_spec(tmp_path).gateway, zone="ignored")
    default, plain = Upstreams(), config.upstreams_of("mail")
    assert config.zone == "a"
    assert (plain.attempts, plain.outliers.eject_for) == (2, 20)
    assert plain.outliers.consecutive_failures == default.outliers.consecutive_failures
    assert plain.health == HealthCheck(path="/live", expect=(200, 204))
    orders = config.upstreams_of("orders")
    assert (orders.balancing, orders.hash_on) == (Balancing.CONSISTENT_HASH, "header:x-tenant")
    assert orders.attempts == 2
    assert orders.breaker == replace(default.breaker, open_for=1)
    assert orders.health == HealthCheck(path="/live", expect=(200, 204), interval=9)
    assert orders.locality == LocalityConfig(panic=0.2)
    users = config.upstreams_of("users")
    assert (users.balancing, users.sticky) == (Balancing.WEIGHTED, Sticky(ttl=60))
    assert users.slow_start == SlowStart(window=5)
    assert gateway_config(GatewaySpec(), zone="c").zone == "c"
    assert gateway_config(GatewaySpec()).upstreams == default


def test_every_key_of_upstreams_is_a_field() -> None:
    """The mapping goes by name."""
    nested = {
        "breaker": BreakerConfig,
        "instance_breaker": BreakerConfig,
        "outliers": OutlierConfig,
        "sticky": Sticky,
        "slow_start": SlowStart,
        "locality": LocalityConfig,
        "health": HealthCheck,
    }
    assert UpstreamsSpec.model_fields.keys() == {field.name for field in fields(Upstreams)}
    for name, kind in nested.items():
        (spec, _) = get_args(UpstreamsSpec.model_fields[name].annotation)
        assert spec.model_fields.keys() <= {field.name for field in fields(kind)}


def test_upstreams_of_nobody_are_a_mistake(tmp_path: Path) -> None:
    (tmp_path / "seawall.toml").write_text("[gateway.upstreams.order]\n" + BALANCED)
    with pytest.raises(Misconfigured, match="did you mean 'orders'"):
        load_spec(tmp_path)
