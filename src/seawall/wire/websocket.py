"""WebSocket (RFC 6455), as far as a proxy has to see it: the handshake, and where frames end.

Behind a handshake a proxy goes blind: it passes bytes on and looks at none. Who makes it go blind
while the service still reads HTTP has a connection to the service without a gateway. So both
halves of the handshake are checked: what is asked must be a handshake, and what is answered must
be the answer to just that. What frames hold is nobody's business here, but a proxy that must go can
say so only between two of them. Pure.
"""

import hashlib
import re
from base64 import b64encode
from typing import Final

NAME: Final = b"websocket"
VERSION: Final = b"13"

# The frame that says: the server goes away (section 7.4.1).
GOING_AWAY: Final = b"\x88\x02" + (1001).to_bytes(2, "big")

_OPCODE: Final = 0x0F
_CLOSE: Final = 0x08
_MASKED: Final = 0x80
_LENGTH: Final = 0x7F
# What stands for a length of two bytes, and of eight.
_SHORT: Final = 126
_LONG: Final = 127

_GUID: Final = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_KEY: Final = re.compile(rb"[A-Za-z0-9+/]{21}[AQgw]==")  # 16 bytes in canonical base64


def fault(method: bytes, versions: list[bytes], keys: list[bytes]) -> tuple[int, str]:
    """What is wrong with a request that asks for WebSocket, as a status; 0 = nothing."""
    if method != b"GET":
        return 400, "a WebSocket begins with GET"
    if len(keys) != 1 or _KEY.fullmatch(keys[0]) is None:
        return 400, "Sec-WebSocket-Key is not one value of 16 bytes"
    if versions != [VERSION]:
        return 426, "the version of WebSocket is not 13"
    return 0, ""


def agrees(keys: list[bytes], accepts: list[bytes]) -> bool:
    """Whether `accepts` (Sec-WebSocket-Accept) answers `keys` (Sec-WebSocket-Key)."""
    if len(keys) != 1:
        return False
    digest = hashlib.sha1(keys[0] + _GUID, usedforsecurity=False).digest()
    return accepts == [b64encode(digest)]


class Frames:
    """Finds the ends of the frames that one side sends (section 5.2)."""

    __slots__ = ("_begun", "_closed", "_left")

    def __init__(self) -> None:
        self._begun: bytes = b""  # of a frame's head; fewer than 14 bytes
        self._left: int = 0  # of a frame's payload
        self._closed: bool = False

    @property
    def may_close(self) -> bool:
        """Whether the frame that closes could follow now."""
        return not (self._left or self._begun or self._closed)

    def feed(self, data: bytes) -> None:
        """The next bytes."""
        at, size = self._left, len(data)
        if self._begun:
            data = self._begun + data
            size, self._begun = len(data), b""
        while at < size:
            begin = at + _head_length(data, at)
            if begin > size:
                self._begun = data[at:]
                break
            if data[at] & _OPCODE == _CLOSE:
                self._closed = True
            length = data[at + 1] & _LENGTH
            if length >= _SHORT:
                length = int.from_bytes(data[at + 2 : at + (4 if length == _SHORT else 10)], "big")
            at = begin + length
        self._left = max(0, at - size)


def _head_length(data: bytes, at: int) -> int:
    """Of the frame that begins at `at`, as far as its beginning tells."""
    if at + 1 >= len(data):
        return 2
    second = data[at + 1]
    length = second & _LENGTH
    extended = 8 if length == _LONG else 2 if length == _SHORT else 0
    return 2 + extended + (4 if second & _MASKED else 0)
