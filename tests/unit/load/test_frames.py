"""WebSocket frames as a listening client takes them: in any pieces, to the Close."""

import pytest

from seawall.load.frames import Closed, Frames

TEXT = b"\x81\x05hello"
PING = b"\x89\x02hi"
PONG = b"\x8a\x82\x00\x00\x00\x00hi"
CLOSE = b"\x88\x02\x03\xe9"  # 1001, going away


def test_what_is_said_is_dropped_and_a_ping_is_answered() -> None:
    frames = Frames()
    assert frames.receive(TEXT + PING + TEXT) == PONG


@pytest.mark.parametrize("size", [126, 70_000])
def test_long_frames(size: int) -> None:
    wide = (126, 2) if size < 65536 else (127, 8)
    head = bytes((0x82, wide[0])) + size.to_bytes(wide[1], "big")
    assert Frames().receive(head + b"x" * size + PING) == PONG


@pytest.mark.parametrize(("close", "code"), [(CLOSE, 1001), (b"\x88\x00", 1005)])
def test_a_close_says_why(close: bytes, code: int) -> None:
    with pytest.raises(Closed) as closed:
        Frames().receive(TEXT + close)
    assert closed.value.code == code


def test_bytes_may_come_one_by_one() -> None:
    frames = Frames()
    assert b"".join(frames.receive(bytes((byte,))) for byte in TEXT + PING + CLOSE[:-1]) == PONG
    with pytest.raises(Closed):
        frames.receive(CLOSE[-1:])
