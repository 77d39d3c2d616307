import pytest

from seawall.errors import Misconfigured
from seawall.runtime.gateway_export import PROGRAMS, Wanted, exported
from seawall.spec.gateway import GatewaySpec, RouteSpec

SPEC = GatewaySpec(
    host="0.0.0.0", port=8123, replicas=2, routes=[RouteSpec(service="orders", timeout=40)]
)


@pytest.mark.parametrize("program", PROGRAMS)
def test_the_project_s_gateways_are_behind_it(program: str) -> None:
    made = exported(SPEC, Wanted(program=program))
    assert "127.0.0.1" in made.text
    assert "8123" in made.text
    assert made.check.startswith(program)
    assert made.trusted_proxies == ("127.0.0.0/8",)


@pytest.mark.parametrize("program", PROGRAMS)
def test_those_elsewhere_are_too(program: str) -> None:
    wanted = Wanted(program=program, gateways=["10.0.0.7:8000", "[::1]:9000"], listen="[::]:8080")
    made = exported(SPEC, wanted)
    assert "8123" not in made.text
    assert "10.0.0.7" in made.text
    assert "9000" in made.text
    assert made.trusted_proxies == ("ADDRESS OF THE EDGE",)


def test_nothing_is_left_to_do_where_proxies_are_named() -> None:
    spec = SPEC.model_copy(update={"trusted_proxies": ["10.0.0.0/8"]})
    assert exported(spec, Wanted(program="nginx")).trusted_proxies == ()


def test_what_cannot_be_is_told() -> None:
    with pytest.raises(Misconfigured, match="without a certificate"):
        exported(SPEC, Wanted(program="nginx", key="edge.key"))
    with pytest.raises(Misconfigured, match="nobody knows"):
        exported(GatewaySpec(port=0), Wanted(program="nginx"))
