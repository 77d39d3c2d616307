"""JSON bodies that no handler should meet: refused with 400 before they are parsed for real.

Python's parser takes NaN, infinities, lone surrogates, UTF-16 and any depth; each of them is
accepted first and fails later, as a 500, when it is stored or answered.
"""

import msgspec
from starlette.exceptions import HTTPException
from starlette.types import Message, Receive

# Deeper than any document people write; below what recursive code can take.
MAX_DEPTH = 100

_decoder = msgspec.json.Decoder()


def check(body: bytes) -> str | None:
    """Why this is not JSON as RFC 8259 and I-JSON (RFC 7493) have it; None if it is."""
    try:
        value = _decoder.decode(body)
    except RecursionError:
        return f"deeper than {MAX_DEPTH} levels"
    except (msgspec.DecodeError, UnicodeDecodeError) as exc:
        return str(exc)
    # No document is deeper than it has opening brackets: two fast counts settle the usual case.
    if body.count(b"[") + body.count(b"{") > MAX_DEPTH and _deeper(value, MAX_DEPTH):
        return f"deeper than {MAX_DEPTH} levels"
    return None


def _deeper(value: object, levels: int) -> bool:
    if isinstance(value, dict):
        return levels == 0 or any(_deeper(child, levels - 1) for child in value.values())
    if isinstance(value, list):
        return levels == 0 or any(_deeper(child, levels - 1) for child in value)
    return False


class StrictJson:
    """A `receive` that looks at a JSON body once it is complete.

    It keeps a second reference to the chunks until the last one, which the body limit bounds.
    """

    __slots__ = ("_chunks", "_receive")

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._chunks: list[bytes] = []

    async def __call__(self) -> Message:
        message = await self._receive()
        if message["type"] != "http.request":
            return message
        if chunk := message.get("body", b""):
            self._chunks.append(chunk)
        if not message.get("more_body", False) and self._chunks:
            body = b"".join(self._chunks)
            self._chunks = []
            if fault := check(body):
                raise HTTPException(400, f"the body is not valid JSON: {fault}")
        return message
