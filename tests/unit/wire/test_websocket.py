import pytest

from seawall.wire import websocket

KEY = b"dGhlIHNhbXBsZSBub25jZQ=="  # the example of RFC 6455, section 1.3
ACCEPT = b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo="


def test_a_handshake_is_sound() -> None:
    assert websocket.fault(b"GET", [b"13"], [KEY]) == (0, "")


@pytest.mark.parametrize(
    ("method", "versions", "keys", "status"),
    [
        (b"POST", [b"13"], [KEY], 400),
        (b"GET", [b"13"], [], 400),
        (b"GET", [b"13"], [KEY, KEY], 400),
        (b"GET", [b"13"], [KEY[:-1]], 400),
        (b"GET", [b"13"], [b"dGhlIHNhbXBsZSBub25jZR=="], 400),  # spare bits that are not zero
        (b"GET", [], [KEY], 426),
        (b"GET", [b"8"], [KEY], 426),
        (b"GET", [b"13, 8"], [KEY], 426),
        (b"GET", [b"13", b"13"], [KEY], 426),
    ],
)
def test_what_is_no_handshake(
    method: bytes, versions: list[bytes], keys: list[bytes], status: int
) -> None:
    assert websocket.fault(method, versions, keys)[0] == status


def test_only_the_answer_to_a_key_agrees() -> None:
    assert websocket.agrees([KEY], [ACCEPT])
    assert not websocket.agrees([KEY], [])
    assert not websocket.agrees([KEY], [ACCEPT, ACCEPT])
    assert not websocket.agrees([KEY], [ACCEPT.lower()])
    assert not websocket.agrees([], [ACCEPT])
