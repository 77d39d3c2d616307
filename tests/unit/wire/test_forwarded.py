import pytest
from hypothesis import given
from hypothesis import strategies as st

from seawall.wire.forwarded import address, element, hops


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (b"for=192.0.2.7", [{b"for": b"192.0.2.7"}]),
        (
            b'For="[2001:db8::7]:4711";Proto=https , for=10.0.0.1;by=_lb',
            [
                {b"for": b"[2001:db8::7]:4711", b"proto": b"https"},
                {b"for": b"10.0.0.1", b"by": b"_lb"},
            ],
        ),
        (b'for=unknown;host="a\\"b"', [{b"for": b"unknown", b"host": b'a"b'}]),
        (b"", [{}]),
    ],
)
def test_each_proxy_says_what_it_saw(value: bytes, said: list[dict[bytes, bytes]]) -> None:
    assert hops(value) == said


@pytest.mark.parametrize(
    "value",
    [
        b"for",
        b"for=",
        b"for=a b",
        b"for=1.2.3.4,",
        b"for=1.2.3.4;;proto=http",
        b"for=a;for=b",
        b'for="a',
        b"for=[::1]",
        b",for=a",
    ],
)
def test_what_the_standard_does_not_describe_says_nothing(value: bytes) -> None:
    assert hops(value) is None


@pytest.mark.parametrize(
    ("node", "is_of"),
    [
        (b"192.0.2.7", b"192.0.2.7"),
        (b"192.0.2.7:80", b"192.0.2.7"),
        (b"[2001:db8::7]", b"2001:db8::7"),
        (b"[2001:db8::7]:_x", b"2001:db8::7"),
        (b"unknown", b"unknown"),
        (b"_hidden", b"unknown"),
        (b'1.2.3.4"', b"unknown"),
        (b"", b"unknown"),
    ],
)
def test_a_node_is_an_address_or_unknown(node: bytes, is_of: bytes) -> None:
    assert address(node) == is_of


@pytest.mark.parametrize(
    ("peer", "host", "said"),
    [
        ("192.0.2.7", b"a.example", b"for=192.0.2.7;proto=http;host=a.example"),
        ("::1", b"a.example:80", b'for="[::1]";proto=http;host="a.example:80"'),
        ("unix", b"", b"for=unknown;proto=http"),
    ],
)
def test_what_we_say_can_be_read(peer: str, host: bytes, said: bytes) -> None:
    assert element(peer, host, b"http") == said
    assert hops(said) is not None


@given(st.binary(max_size=60))
def test_any_bytes_are_read_or_refused(value: bytes) -> None:
    found = hops(value)
    assert found is None or len(found) >= 1
