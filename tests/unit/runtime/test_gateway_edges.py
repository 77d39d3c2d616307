"""What the spec says about browsers, compression and load balancers, in the gateway's words."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from seawall.gateway.compression import Compression
from seawall.gateway.config import GatewayConfig
from seawall.gateway.cors import Cors
from seawall.runtime.gateway_config import gateway_config
from seawall.spec.gateway import GatewaySpec
from seawall.spec.load import load_spec

DECLARED = """
[gateway]
trusted_proxies = ["10.0.0.0/8"]
forwarded = true
proxy_protocol = true
compress = ["zstd", "gzip"]
cors = { origins = ["*"] }
[[gateway.routes]]
path = "/"
service = "shop"
[[gateway.routes]]
path = "/own"
service = "shop"
compress = []
max_upgrades = 9
tunnel_lifetime = 60
tunnel_bytes = 0
[gateway.routes.cors]
origins = ["https://*.shop.example"]
methods = ["put"]
headers = ["x-a"]
expose = ["x-b"]
credentials = true
max_age = 5
[services.shop]
command = ["sleep", "1"]
"""


@pytest.fixture
def config(tmp_path: Path) -> GatewayConfig:
    (tmp_path / "seawall.toml").write_text(DECLARED)
    return gateway_config(load_spec(tmp_path).gateway)


def test_load_balancers(config: GatewayConfig) -> None:
    assert (config.forwarded, config.proxy_protocol) == (True, True)


def test_a_route_has_what_the_gateway_has(config: GatewayConfig) -> None:
    route = config.routes[0]
    assert route.cors == Cors(origins=("*",))
    assert route.compression == Compression(codings=("zstd", "gzip"))


def test_a_route_has_its_own(config: GatewayConfig) -> None:
    route = config.routes[1]
    assert route.cors == Cors(
        origins=("https://*.shop.example",),
        methods=("PUT",),
        headers=("x-a",),
        expose=("x-b",),
        credentials=True,
        max_age=5,
    )
    assert route.compression is None
    assert (route.max_upgrades, route.tunnel_lifetime, route.tunnel_bytes) == (9, 60, 0)
    assert config.routes[0].tunnel_lifetime is config.routes[0].tunnel_bytes is None


def test_nothing_is_done_unasked() -> None:
    config = gateway_config(GatewaySpec.model_validate({"routes": [{"service": "shop"}]}))
    assert (config.forwarded, config.proxy_protocol) == (False, False)
    assert (config.routes[0].cors, config.routes[0].compression) == (None, None)


def test_an_unknown_coding_is_refused() -> None:
    with pytest.raises(ValidationError, match="zstd"):
        GatewaySpec.model_validate({"compress": ["deflate"]})
