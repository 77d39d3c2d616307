from itertools import accumulate

import pytest
from hypothesis import given
from hypothesis import strategies as st

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


def frame(opcode: int, size: int, *, mask: bool = False) -> bytes:
    """One that holds nothing but bytes that look like closing frames."""
    bit = 0x80 if mask else 0
    if size < 126:
        length = bytes((bit | size,))
    elif size < 1 << 16:
        length = bytes((bit | 126,)) + size.to_bytes(2, "big")
    else:
        length = bytes((bit | 127,)) + size.to_bytes(8, "big")
    return (
        bytes((0x80 | opcode,)) + length + (b"\x88\x88\x88\x88" if mask else b"") + b"\x88" * size
    )


@given(
    st.lists(st.tuples(st.sampled_from([0, 1, 2, 9, 10]), st.integers(0, 300), st.booleans())),
    st.lists(st.integers(1, 40)),
)
def test_frames_end_where_they_end_however_they_come(
    frames: list[tuple[int, int, bool]], sizes: list[int]
) -> None:
    whole = [frame(opcode, size, mask=mask) for opcode, size, mask in frames]
    ends = {0, *accumulate(map(len, whole))}
    data, seen, at = b"".join(whole), websocket.Frames(), 0
    for size in [*sizes, len(data)]:
        seen.feed(data[at : at + size])
        at = min(at + size, len(data))
        assert seen.may_close == (at in ends)


def test_a_long_frame_is_passed_over_and_the_last_one_is_seen() -> None:
    seen = websocket.Frames()
    seen.feed(frame(2, 70_000)[:-1])
    assert not seen.may_close
    seen.feed(b"\x88")
    assert seen.may_close
    seen.feed(websocket.GOING_AWAY)
    assert not seen.may_close
