import hashlib
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from seawall.errors import Unavailable
from seawall.gateway.config import LimitBy
from seawall.identity.api_keys import ApiKeys
from seawall.registry.memory import MemoryRegistry
from seawall.registry.watcher import Watcher
from seawall.runtime.gateway import _fetcher, _provider, gateway_config
from seawall.spec import AuthSpec, GatewaySpec, Spec, load_spec

DECLARED = """
[gateway]
trusted_proxies = ["10.0.0.0/8"]
max_body = 1000
drain = 3
[gateway.auth.staff]
kind = "key"
keys = [{ sha256 = "%s", subject = "ann", scopes = ["books"] }]
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
    (limit,) = route.limits
    assert (limit.rate, limit.burst, limit.by) == (5, 10, LimitBy.ADDRESS)
    assert not route.keep_token
    assert (config.trusted_proxies, config.edge.max_body, config.drain) == (
        *(("10.0.0.0/8",), 1000),
        3,
    )
    assert gateway_config(GatewaySpec()).routes == ()


async def test_each_kind_of_authentication_has_a_verifier(spec: Spec, unique: str) -> None:
    async with AsyncExitStack() as stack:
        watcher = await stack.enter_async_context(Watcher(MemoryRegistry(unique)))
        keys = await _provider(spec.gateway.auth["staff"], spec, watcher, stack)
        assert keys.header == "x-api-key"
        assert isinstance(keys.verifier, ApiKeys)
        assert keys.verifier.verify("sw_key", 0.0).subject == "ann"
        shared = AuthSpec(secret="a very secret secret of 32 bytes!", algorithms=["HS256"])
        assert (await _provider(shared, spec, watcher, stack)).header == "authorization"
        remote = AuthSpec(jwks="service:users/.well-known/jwks.json")
        assert (await _provider(remote, spec, watcher, stack)).header == "authorization"


async def test_keys_that_cannot_be_fetched_are_unavailable(unique: str) -> None:
    async with Watcher(MemoryRegistry(unique)) as watcher:
        fetch = _fetcher(watcher)
        with pytest.raises(Unavailable, match="no ready instance of users"):
            await fetch("service:users/jwks.json")
        with pytest.raises(Unavailable):
            await fetch("http://127.0.0.1:1/jwks.json")
        with pytest.raises(Unavailable):
            await fetch("nonsense")
