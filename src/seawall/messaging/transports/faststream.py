"""What FastStream writes into a stream's entry. Pure.

One field `__data__`, with headers and body in a binary form (numbers are big-endian):

    89 42 49 4E 0D 0A 1A 0A   mark
    u16                       version, 1
    u32 u32                   where the headers begin, where the body begins
    u16                       how many headers
    u16 text u16 text ...     name and value of each

or, from its versions before 0.6, a JSON object with `data` and `headers`. Anything else is a body.
"""

import struct

import msgspec

FIELD = b"__data__"

_MARK = b"\x89BIN\x0d\x0a\x1a\x0a"
_HEAD = struct.Struct(">8sHII")
_SIZE = struct.Struct(">H")
_VERSION = 1


class _Legacy(msgspec.Struct):
    data: str
    headers: dict[str, str] = {}


def read(value: bytes) -> tuple[dict[str, str], bytes]:
    """Headers and body."""
    if not value.startswith(_MARK):
        return _legacy(value)
    try:
        _, version, at, body = _HEAD.unpack_from(value)
        if version != _VERSION or not _HEAD.size <= at <= body <= len(value):
            return {}, value
        (count,) = _SIZE.unpack_from(value, at)
        at += _SIZE.size
        headers: dict[str, str] = {}
        for _ in range(count):
            name, at = _string(value, at, body)
            headers[name], at = _string(value, at, body)
    except (struct.error, ValueError):
        return {}, value
    return headers, value[body:]


def _string(value: bytes, at: int, end: int) -> tuple[str, int]:
    (size,) = _SIZE.unpack_from(value, at)
    at += _SIZE.size
    if at + size > end:
        raise ValueError("a header runs into the body")
    return value[at : at + size].decode(), at + size


def _legacy(value: bytes) -> tuple[dict[str, str], bytes]:
    try:
        found = msgspec.json.decode(value, type=_Legacy)
    except (msgspec.DecodeError, ValueError):
        return {}, value
    return found.headers, found.data.encode()
