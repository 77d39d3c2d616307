"""The opening handshake of WebSocket (RFC 6455, section 4), as a proxy has to see it.

Behind a handshake a proxy goes blind: it passes bytes on and looks at none. Who makes it go blind
while the service still reads HTTP has a connection to the service without a gateway. So both
halves of the handshake are checked: what is asked must be a handshake, and what is answered must
be the answer to just that. Pure.
"""

import hashlib
import re
from base64 import b64encode
from typing import Final

NAME: Final = b"websocket"
VERSION: Final = b"13"

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
