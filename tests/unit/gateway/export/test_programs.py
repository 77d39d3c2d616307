import re
from collections.abc import Callable
from dataclasses import replace

import pytest

from seawall.errors import Misconfigured
from seawall.gateway.export.envoy import envoy
from seawall.gateway.export.front import Certificate, Front
from seawall.gateway.export.haproxy import haproxy
from seawall.gateway.export.nginx import nginx
from seawall.topology import Address

ONE = Address("127.0.0.1", 8000)
TWO = Address("10.0.0.7", 8001)
FRONT = Front(
    listen=Address("127.0.0.1", 8080),
    gateways=(ONE,),
    head=7,
    client_idle=71,
    gateway_idle=61,
    silence=333,
    longest=44,
    max_body=4321,
)
Writer = Callable[[Front], str]


def _lines(text: str) -> list[str]:
    """Without indentation and comments."""
    return [line.strip() for line in text.splitlines() if not line.strip().startswith("#")]


@pytest.mark.parametrize("write", [nginx, haproxy, envoy])
def test_every_number_reaches_the_program(write: Writer) -> None:
    text = "\n".join(_lines(write(FRONT)))
    for number in ("7s", "71s", "333s", "8080", "8000"):
        assert re.search(rf"\b{number}\b", text), number
    assert re.search(r"\b432[12]\b", text)
    assert write(FRONT) == write(FRONT)


@pytest.mark.parametrize("write", [nginx, haproxy, envoy])
def test_what_clients_say_about_themselves_is_dropped(write: Writer) -> None:
    text = "\n".join(_lines(write(FRONT))).lower()
    for name in (*FRONT.dropped, "x-forwarded-for"):
        assert name in text


@pytest.mark.parametrize("write", [nginx, haproxy, envoy])
def test_the_heading_says_what_is_left_to_do(write: Writer) -> None:
    assert '#     trusted_proxies = ["127.0.0.0/8"]' in write(FRONT)
    assert '#     trusted_proxies = ["ADDRESS OF THE EDGE"]' in write(
        replace(FRONT, gateways=(TWO,))
    )


@pytest.mark.parametrize("write", [nginx, haproxy, envoy])
def test_tls_ends_where_there_is_a_certificate(write: Writer) -> None:
    assert "edge.pem" not in write(FRONT)
    text = write(replace(FRONT, certificate=Certificate(file="/etc/edge.pem")))
    assert "/etc/edge.pem" in text
    assert re.search(r"h2|http2", text)


def test_nginx_leaves_out_a_gateway_only_where_there_is_another() -> None:
    alone = [line for line in _lines(nginx(FRONT)) if line.startswith("server 1")]
    assert alone == ["server 127.0.0.1:8000 max_fails=0;"] * 2
    both = _lines(nginx(replace(FRONT, gateways=(ONE, TWO))))
    assert "server 127.0.0.1:8000 max_fails=3 fail_timeout=1s;" in both
    assert "server 10.0.0.7:8001 max_fails=3 fail_timeout=1s;" in both


def test_nginx_takes_no_body_where_none_is_allowed() -> None:
    # Its own 0 would be "as much as you like".
    assert "client_max_body_size 1;" in _lines(nginx(replace(FRONT, max_body=0)))


def test_haproxy_checks_readiness_where_it_can() -> None:
    assert "server gateway-1 127.0.0.1:8000 check inter 1s fall 2 rise 1" in _lines(haproxy(FRONT))
    asked = haproxy(replace(FRONT, admin_port=9901))
    assert "check inter 1s fall 2 rise 1 port 9901" in asked
    assert "uri /readyz" in asked


def test_haproxy_reads_the_key_from_where_it_can() -> None:
    beside = Certificate(file="/etc/edge.pem", key="/etc/edge.pem.key")
    assert "crt /etc/edge.pem" in haproxy(replace(FRONT, certificate=beside))
    apart = Certificate(file="/etc/edge.pem", key="/etc/edge.key")
    with pytest.raises(Misconfigured, match="same file"):
        haproxy(replace(FRONT, certificate=apart))


def test_names_are_resolved_again_and_again() -> None:
    named = replace(FRONT, gateways=(Address("gateway.internal", 8000),))
    assert "resolvers system init-addr last,libc,none" in haproxy(named)
    assert "resolvers" not in haproxy(FRONT)
    assert "type: STRICT_DNS" in _lines(envoy(named))
    assert "type: STATIC" in _lines(envoy(FRONT))


def test_envoy_checks_readiness_where_it_can() -> None:
    assert "tcp_health_check: {}" in _lines(envoy(FRONT))
    asked = envoy(replace(FRONT, admin_port=9901))
    assert "http_health_check: { path: /readyz, host: gateway }" in asked
    assert "health_check_config: { port_value: 9901 }" in asked
