"""AMQP 0-9-1's frames, and those of a message taken apart and put together. Pure.

What travels with every message is read and written here, since pamqp looks at each field by its
name and each value by its type. What travels seldom is left to it.
"""

from collections.abc import Mapping
from struct import Struct
from typing import Any, NamedTuple

from pamqp import decode
from pamqp.header import ContentHeader

METHOD, HEADER, BODY = 1, 2, 3
_KINDS = (METHOD, HEADER, BODY, 8)  # 8: a heartbeat
_END = 0xCE

BEFORE = 7  # bytes of a frame before what it carries; one comes after it

# Methods that travel with messages: class and number.
DELIVER, GET_OK, RETURN = 0x003C003C, 0x003C0047, 0x003C0032
CONFIRM, NOT_STORED = 0x003C0050, 0x003C0078  # an acknowledgement, and a negative one
_PUBLISH, _ACK, _REJECT = b"\x00\x3c\x00\x28", 0x003C0050, 0x003C005A

_HEAD = Struct(">BHI")  # kind, channel, size
_CONTENT = Struct(">BHIHHQ")  # the same of a header, its class, nothing, and the size of the body
_NEXT = Struct(">BBHI")  # the end of one frame and the head of the next
_SETTLE = Struct(">BHIIQBB")  # a whole frame
_CLASS = 60  # "basic"

# Flags of a message's properties.
_CONTENT_TYPE = 0x8000
_USUAL = 0x2000 | 0x1000 | 0x0080  # headers, delivery mode, message id


class Splitter:
    """Whole frames out of bytes, however these are cut."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> list[tuple[int, int, bytes]]:
        """Kind, channel and bytes of each frame that is complete now. What is no frame comes as one
        of channel 0, to the last byte."""
        if self._rest:
            data = self._rest + data
        found = []
        at, size = 0, len(data)
        unpack = _HEAD.unpack_from
        while at + BEFORE <= size:
            kind, channel, length = unpack(data, at)
            end = at + BEFORE + length + 1
            if kind not in _KINDS or (end <= size and data[end - 1] != _END):
                found.append((0, 0, data[at:]))
                at = size
                break
            if end > size:
                break
            found.append((kind, channel, data[at:end]))
            at = end
        self._rest = data[at:]
        return found


# Coming in


def method_of(frame: bytes) -> int:
    return int.from_bytes(frame[7:11], "big")


def tag_of(frame: bytes) -> int:
    """The tag of a message that is delivered."""
    at = 12 + frame[11]
    return int.from_bytes(frame[at : at + 8], "big")


def got(frame: bytes) -> int:
    """The tag of a message that was asked for."""
    return int.from_bytes(frame[11:19], "big")


def confirmed(frame: bytes) -> tuple[int, bool]:
    """The tag that is confirmed, or not stored; and whether all before it are, too."""
    return int.from_bytes(frame[11:19], "big"), bool(frame[19] & 1)


def size_of(frame: bytes) -> int:
    """The size of the body that follows a header."""
    return int.from_bytes(frame[11:19], "big")


class Content(NamedTuple):
    """What a header says of its message."""

    message_id: str | None
    content_type: str | None
    headers: Mapping[str, Any]


def content_of(frame: bytes) -> Content:
    flags = frame[19] << 8 | frame[20]
    if flags & ~_CONTENT_TYPE != _USUAL:  # somebody else's
        header = ContentHeader()
        header.unmarshal(frame[BEFORE:-1])
        properties = header.properties
        return Content(properties.message_id, properties.content_type, properties.headers or {})
    at, content_type = 21, None
    if flags & _CONTENT_TYPE:
        at = 22 + frame[21]
        content_type = frame[22:at].decode(errors="replace")
    end = at + 4 + int.from_bytes(frame[at : at + 4], "big")
    headers = _table(frame, at, end)
    name = frame[end + 2 : end + 2 + frame[end + 1]].decode(errors="replace")
    return Content(name, content_type, headers)


def _table(data: bytes, start: int, end: int) -> Mapping[str, Any]:
    """The texts and integers from `start`, where their size is, to `end`; or whatever it is."""
    found: dict[str, Any] = {}
    at = start + 4
    while at < end:
        kind = at + 1 + data[at]
        name = data[at + 1 : kind].decode()
        at = kind + 1
        if data[kind] == 0x53:  # S
            begin = at + 4
            at = begin + int.from_bytes(data[at:begin], "big")
            text = data[begin:at]
            try:
                found[name] = text.decode()
            except UnicodeDecodeError:
                found[name] = text
        elif data[kind] == 0x6C:  # l
            found[name] = int.from_bytes(data[at : at + 8], "big", signed=True)
            at += 8
        else:
            _, table = decode.field_table(data[start:end])
            return table
    return found


# Going out


def short(text: str) -> bytes:
    data = text.encode()
    return b"%c%b" % (len(data), data)


def publishing(channel: int, exchange: str, routing_key: str) -> bytes:
    """What comes before a message that is to be returned if no queue takes it."""
    said = b"%b\x00\x00%b%b\x01" % (_PUBLISH, short(exchange), short(routing_key))
    return b"%b%b%c" % (_HEAD.pack(METHOD, channel, len(said)), said, _END)


def message(channel: int, properties: bytes, body: bytes, most: int) -> list[bytes]:
    """Pieces of a message's header and body; no frame is longer than `most`."""
    head = _CONTENT.pack(HEADER, channel, 12 + len(properties), _CLASS, 0, len(body))
    room = most - BEFORE - 1
    if 0 < len(body) <= room:
        return [head, properties, _NEXT.pack(_END, BODY, channel, len(body)), body, b"\xce"]
    pieces = [head, properties]
    for at in range(0, len(body), room):
        part = body[at : at + room]
        pieces += [_NEXT.pack(_END, BODY, channel, len(part)), part]
    return [*pieces, b"\xce"]


def acknowledging(channel: int, tag: int, *, multiple: bool) -> bytes:
    return _SETTLE.pack(METHOD, channel, 13, _ACK, tag, multiple, _END)


def rejecting(channel: int, tag: int) -> bytes:
    """Have it put back."""
    return _SETTLE.pack(METHOD, channel, 13, _REJECT, tag, 1, _END)
