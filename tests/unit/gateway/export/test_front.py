import pytest
from hypothesis import given
from hypothesis import strategies as st

from seawall.errors import Misconfigured
from seawall.gateway.config import Edge, GatewayConfig, Route, Timeouts
from seawall.gateway.export.front import (
    Certificate,
    Front,
    address,
    front,
    reachable,
    trusted_proxies,
)
from seawall.topology import Address

HERE = Address("127.0.0.1", 8000)
AWAY = Address("gateway.internal", 8000)


def _listed(*routes: Route) -> Front:
    return front(GatewayConfig(routes=routes), (HERE,))


def test_the_edge_waits_longer_than_any_route() -> None:
    quick = Route(service="a", timeouts=Timeouts(total=3))
    slow = Route(service="b", timeouts=Timeouts(total=29.5))
    assert _listed().longest == 20
    assert _listed(quick).longest == 8
    assert _listed(quick, slow).longest == 35
    assert _listed(slow).silence == 305
    long = Route(service="c", timeouts=Timeouts(total=900, stream_idle=60))
    assert (_listed(quick, long).silence, _listed(quick, long).longest) == (905, 905)
    endless = Route(service="d", timeouts=Timeouts(total=0))
    assert _listed(endless).longest > 86_400


def test_it_closes_idle_connections_first() -> None:
    for idle in (75.0, 5.0, 2.0):
        made = front(GatewayConfig(edge=Edge(idle_timeout=idle)), (HERE,))
        assert 0 < made.gateway_idle < idle


def test_it_lets_through_what_some_route_does() -> None:
    config = GatewayConfig(
        routes=(
            Route(service="a", max_body=5),
            Route(service="b", max_body=500, upgrades=("websocket", "MQTT")),
        ),
        edge=Edge(max_body=50, max_connections=100),
    )
    made = front(config, (HERE, AWAY), processes=3)
    assert (made.max_body, made.upgrades, made.max_connections) == (500, ("mqtt", "websocket"), 600)


def test_it_listens_where_the_world_looks() -> None:
    assert front(GatewayConfig(), (HERE,)).listen == Address("0.0.0.0", 80)
    certificate = Certificate(file="/etc/tls/shop.pem")
    assert front(GatewayConfig(), (HERE,), certificate=certificate).listen.port == 443


def test_addresses_are_read_as_they_are_written() -> None:
    assert address("10.0.0.7:8000") == Address("10.0.0.7", 8000)
    assert address("[::1]:8000") == Address("::1", 8000)
    for text in ("8000", "::1:8000", "host", "host:", "host:80000000", "host:-1", "[::1]"):
        with pytest.raises(Misconfigured, match="no address"):
            address(text)


def test_a_gateway_is_found_from_its_own_machine() -> None:
    assert reachable(Address("0.0.0.0", 8000)) == HERE
    assert reachable(Address("::", 8000)) == Address("::1", 8000)
    assert reachable(AWAY) == AWAY
    with pytest.raises(Misconfigured, match="nobody knows"):
        reachable(Address("127.0.0.1", 0))


def test_only_loopback_is_known_to_be_trusted() -> None:
    both = (HERE, Address("::1", 8000))
    assert trusted_proxies(front(GatewayConfig(), both)) == ("127.0.0.0/8", "::1/128")
    for elsewhere in (AWAY, Address("10.0.0.7", 8000)):
        assert trusted_proxies(front(GatewayConfig(), (HERE, elsewhere))) == ()


@pytest.mark.parametrize(
    "host", ["", "a b", "a;b", "a{", 'a"b', "a$b", "a\nb", "-a", "a..b", "a/b", "fe80::1%eth0", "é"]
)
def test_a_host_that_could_be_more_is_refused(host: str) -> None:
    with pytest.raises(Misconfigured):
        Front(listen=HERE, gateways=(Address(host, 80),))
    with pytest.raises(Misconfigured):
        Front(listen=Address(host, 80), gateways=(HERE,))


def test_what_makes_no_edge_is_refused() -> None:
    with pytest.raises(Misconfigured, match="no gateway"):
        Front(listen=HERE, gateways=())
    with pytest.raises(Misconfigured, match="port"):
        Front(listen=HERE, gateways=(Address("a", 65536),))
    with pytest.raises(Misconfigured, match="listen"):
        Front(listen=AWAY, gateways=(HERE,))
    with pytest.raises(Misconfigured, match="protocol"):
        Front(listen=HERE, gateways=(HERE,), upgrades=("a b",))


@given(st.text(max_size=20))
def test_what_is_let_in_can_be_written_without_quotes(text: str) -> None:
    special = set(" \t\r\n\"'\\;{}$#,&|<>()*?`!%")
    for make in (
        lambda: Certificate(file=text),
        lambda: Certificate(file="a", key=text),
        lambda: Front(listen=HERE, gateways=(Address(text, 80),)),
        lambda: Front(listen=HERE, gateways=(HERE,), upgrades=(text,)),
    ):
        try:
            make()
        except Misconfigured:
            continue
        assert not special & set(text)
