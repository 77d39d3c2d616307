"""Request bodies that no handler should meet: too large (413), or not JSON (400).

Python's parser takes NaN, infinities, lone surrogates, UTF-16 and any depth; each of them is
accepted first and fails later, as a 500, when it is stored or answered.
"""

from typing import Any

import msgspec
from fastapi import Request
from starlette.exceptions import HTTPException
from starlette.middleware.body_limit import MAX_BODY_SIZE_SCOPE_KEY
from starlette.types import Message, Receive, Scope

# Deeper than any document people write; below what recursive code can take.
MAX_DEPTH = 100

_decoder = msgspec.json.Decoder()

# Walks a document without building it, and takes a string's bytes as they are.
_walker = msgspec.json.Decoder(msgspec.Raw)


def check(body: bytes) -> str | None:
    """Why this is not JSON as RFC 8259 and I-JSON (RFC 7493) have it; None if it is."""
    try:
        if body.isascii() and body.count(b"[") + body.count(b"{") <= MAX_DEPTH:
            _walker.decode(body)  # no document is deeper than it has opening brackets
            return None
        value = _decoder.decode(body)
    except RecursionError:
        return f"deeper than {MAX_DEPTH} levels"
    except (msgspec.DecodeError, UnicodeDecodeError) as exc:
        return str(exc)
    return f"deeper than {MAX_DEPTH} levels" if _deeper(value, MAX_DEPTH) else None


def _deeper(value: object, levels: int) -> bool:
    if isinstance(value, dict):
        return levels == 0 or any(_deeper(child, levels - 1) for child in value.values())
    if isinstance(value, list):
        return levels == 0 or any(_deeper(child, levels - 1) for child in value)
    return False


class CheckedRequest(Request):
    """A request whose JSON was checked as it came, and is read by the parser that checked it."""

    async def json(self) -> Any:
        if not hasattr(self, "_json"):
            self._json = _decoder.decode(await self.body())
        return self._json


class CheckedBody:
    """A `receive` that refuses more than `limit` bytes with 413 and bad JSON with 400.

    FastAPI's own limit costs three layers, on requests without a body too, so it serves only
    routes that declare one of their own (`max_body_size=`), which then takes the place of ours.
    For JSON a second reference to the chunks is kept until the last one, within the limit.
    """

    __slots__ = ("_chunks", "_declared", "_json", "_limit", "_receive", "_received", "_scope")

    def __init__(
        self, receive: Receive, scope: Scope, declared: bytes | None, limit: int, json: bool
    ) -> None:
        self._receive = receive
        self._scope = scope
        # Digits only: the server in front has parsed it. Compared before a byte is read.
        self._declared = int(declared) if declared and declared.isdigit() else 0
        self._limit = limit
        self._received = 0
        self._json = json
        self._chunks: list[bytes] = []

    async def __call__(self) -> Message:
        scope = self._scope
        limited_by_route = MAX_BODY_SIZE_SCOPE_KEY in scope
        if self._declared > self._limit and not limited_by_route:
            raise self._too_large()
        message = await self._receive()
        if message["type"] != "http.request":
            return message
        chunk = message.get("body", b"")
        self._received += len(chunk)
        if self._received > self._limit and not limited_by_route:
            raise self._too_large()
        if self._json:
            self._look_at(chunk, message.get("more_body", False))
        return message

    def _too_large(self) -> HTTPException:
        return HTTPException(413, f"the body is larger than {self._limit} bytes")

    def _look_at(self, chunk: bytes, more: bool) -> None:
        if more or self._chunks:
            self._chunks.append(chunk)
        if more:
            return
        body = b"".join(self._chunks) if self._chunks else chunk
        self._chunks = []
        if body and (fault := check(body)):
            raise HTTPException(400, f"the body is not valid JSON: {fault}")
