import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seawall.wire.proxy_protocol import MAX_BODY, SIGNATURE, BadPreamble, read


def v2(command: int, family: int, body: bytes, length: int | None = None) -> bytes:
    size = len(body) if length is None else length
    return SIGNATURE + bytes((command, family)) + size.to_bytes(2, "big") + body


def addresses(source: str, target: str) -> bytes:
    packed = [ipaddress.ip_address(address).packed for address in (source, target)]
    return b"".join(packed) + b"\x10\x00\x00\x50"


FOUR = addresses("192.0.2.7", "10.0.0.1")
SIX = addresses("2001:db8::7", "::1")


@pytest.mark.parametrize(
    ("header", "client"),
    [
        (b"PROXY TCP4 192.0.2.7 10.0.0.1 4000 80\r\n", "192.0.2.7"),
        (b"PROXY TCP6 2001:DB8::7 ::1 4000 80\r\n", "2001:db8::7"),
        (b"PROXY UNKNOWN\r\n", ""),
        (b"PROXY UNKNOWN ffff::1 ffff::2 1 2\r\n", ""),
        (v2(0x21, 0x11, FOUR), "192.0.2.7"),
        (v2(0x21, 0x21, SIX), "2001:db8::7"),
        (v2(0x21, 0x11, FOUR + b"\x04\x00\x02ab"), "192.0.2.7"),
        (v2(0x20, 0x00, b""), ""),
        (v2(0x20, 0x11, FOUR), ""),
        (v2(0x21, 0x00, b""), ""),
        (v2(0x21, 0x31, bytes(216)), ""),
    ],
)
def test_who_it_comes_from(header: bytes, client: str) -> None:
    said = read(header + b"GET / HTTP/1.1\r\n")
    assert said is not None
    assert (said.client, said.size) == (client, len(header))
    for cut in range(len(header)):
        assert read(header[:cut]) is None


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\n",
        b"\r\nGET",
        b"PROXY\r\n",
        b"PROXY TCP4 192.0.2.7 10.0.0.1 4000\r\n",
        b"PROXY TCP4 192.0.2.7 10.0.0.1 4000 80 \r\n",
        b"PROXY TCP4 192.0.2.7 10.0.0.1 4000 65536\r\n",
        b"PROXY TCP4 192.0.2.7 10.0.0.1 04000 80\r\n",
        b"PROXY TCP4 192.0.2.256 10.0.0.1 4000 80\r\n",
        b"PROXY TCP4 ::1 ::1 4000 80\r\n",
        b"PROXY TCP6 192.0.2.7 10.0.0.1 4000 80\r\n",
        b"PROXY TCP5 192.0.2.7 10.0.0.1 4000 80\r\n",
        b"PROXY TCP4  192.0.2.7 10.0.0.1 4000 80\r\n",
        b"PRIX",
        b"PROXY " + b"x" * 101,
        v2(0x11, 0x11, FOUR),
        v2(0x22, 0x11, FOUR),
        v2(0x21, 0x41, FOUR),
        v2(0x21, 0x11, FOUR[:-1]),
        v2(0x21, 0x21, FOUR),
        v2(0x21, 0x11, FOUR + b"\x04\x00"),
        v2(0x21, 0x11, FOUR + b"\x04\x00\x03ab"),
        v2(0x21, 0x11, FOUR, MAX_BODY + 1),
    ],
)
def test_what_is_not_exactly_that(data: bytes) -> None:
    with pytest.raises(BadPreamble):
        read(data)


@given(st.binary(max_size=80), st.sampled_from([b"", b"PROXY ", SIGNATURE]))
def test_any_bytes_are_a_header_or_more_is_needed_or_they_are_none(
    data: bytes, begin: bytes
) -> None:
    try:
        said = read(begin + data)
    except BadPreamble:
        return
    assert said is None or said.size <= len(begin + data)
