"""HTTP/1.1 on the wire: heads, and where the body behind them ends. Strict in, canonical out.

Pure: bytes in, values out, no I/O. What RFC 9112 lets a recipient repair is refused here, since
a repair that the next hop does not make is request smuggling. Rules for whoever edits this:

- `scan_request` and `scan_response` run for every message. `fields` passes over the plain fields;
  everything here happens to the few that are special.
- Fields that frame the message or belong to the connection are taken out of `lines`; who
  forwards the message writes them anew from what was understood (`content_length`, `chunked`).
- A verdict may not depend on how the bytes were cut into pieces.
"""

import re
from typing import TYPE_CHECKING, Final

from seawall.wire import headers, websocket
from seawall.wire.digits import written
from seawall.wire.fields import CONTROLS as CONTROLS
from seawall.wire.fields import BadMessage as BadMessage
from seawall.wire.fields import Head, Kinds, name_of, sifted, walked
from seawall.wire.target import (
    HOSTS,
    IN_PLAIN,
    PLAIN,
    BadTarget,
    host_name,
    split_target,
    split_url,
    walks_plain,
)

if TYPE_CHECKING:
    from mypy_extensions import i64

# The longest head. Above it a client gets 431. For comparison: h11 16 KiB, Tomcat 8, Node.js 16.
MAX_HEAD: Final = 16 * 1024
# RFC 9112, section 3 asks for at least 8,000. Above it a client gets 414.
MAX_TARGET: Final = 8 * 1024
# Browsers send about 20. Each costs a step of the scan, so a flood of tiny ones is bounded too.
MAX_FIELDS: Final = 100
# Viewers of documents ask for a handful of ranges at once. Many small ones make a server send the
# same bytes many times (RFC 9110, section 17.15).
MAX_RANGES: Final = 32
# A response's head; real ones carry cookies and policies of some kilobytes.
MAX_RESPONSE_HEAD: Final = 64 * 1024
MAX_RESPONSE_FIELDS: Final = 500

_COMPILED: Final = not __file__.endswith(".py")
_CR: Final = 0x0D
_LF: Final = 0x0A
_SPACE: Final = 0x20
_SLASH: Final = 0x2F
_DOT: Final = 0x2E

# Longer than any that is registered with IANA.
MAX_METHOD: Final = 32

_METHODS: Final = frozenset((b"GET", b"HEAD", b"POST", b"PUT", b"DELETE", b"OPTIONS", b"PATCH"))
_VERSION: Final = re.compile(rb"HTTP/[0-9]\.[0-9]")
_STATUS_LINE: Final = re.compile(rb"HTTP/1\.[01] [1-5][0-9]{2}(?: [\t\x20-\x7e\x80-\xff]*)?")
# What was found out about status lines: a service answers with few.
_STATUSES: Final[dict[bytes, tuple[int, bool]]] = {}
_MAX_STATUSES: Final = 256
_CODINGS: Final = frozenset((b"chunked", b"gzip", b"x-gzip", b"deflate", b"compress"))
_USUAL_OPTIONS: Final = frozenset((b"close", b"keep-alive", b"upgrade", b"te"))

# How a body ends. A number of bytes is given as it is, from 0.
CHUNKED: Final = -1
UNTIL_CLOSE: Final = -2

_REQUEST: Final = Kinds(
    headers.REQUEST_KINDS,
    headers.FAMILIES,
    headers.reported_kind,
    kept=(headers.HOST, headers.RANGE, headers.CONTENT_LENGTH, headers.CREDENTIAL),
    most=MAX_FIELDS,
    refused=(400, 431),
)
_RESPONSE: Final = Kinds(
    headers.RESPONSE_KINDS,
    (),
    headers.response_kind,
    kept=(headers.CONTENT_LENGTH, headers.SERVED_BY),
    most=MAX_RESPONSE_FIELDS,
    refused=(502, 502),
)


class RequestHead(Head):
    """A request up to its body.

    `lines` are the field lines to pass on, as received, without framing, hop-by-hop and boundary
    fields. Boundary fields (headers.BOUNDARY and above) are in `boundary` by their kind; several
    of one kind are joined by ", ". `body` is a length, or CHUNKED. `credential` is what
    Authorization held, as received; it is one of the lines all the same.
    """

    __slots__ = (
        "authority",
        "body",
        "boundary",
        "credential",
        "expects_continue",
        "host",
        "keep_alive",
        "known_method",
        "method",
        "path",
        "query",
        "trailers",
        "upgrade",
        "version_1_1",
    )

    def __init__(self, method: bytes, path: bytes, query: bytes, authority: bytes) -> None:
        self.whole = b""  # not by super(), which costs each message a call
        self.cut = None
        self.method: bytes = method
        self.known_method: bool = True
        self.path: bytes = path
        self.query: bytes = query
        self.authority: bytes = authority
        self.host: bytes = b""
        self.version_1_1: bool = True
        self.keep_alive: bool = True
        self.body: int = 0
        self.upgrade: bytes = b""
        self.expects_continue: bool = False
        self.trailers: bool = False  # the client reads them
        self.boundary: dict[int, bytes] = {}
        self.credential: bytes | None = None

    def remove(self, name: bytes) -> None:
        """Take a plain field out, so that it is not passed on."""
        self.lines = [line for line in self.lines if name_of(line) != name]

    def sole_credential(self) -> bytes:
        """What the one Authorization of a head holds that nobody has edited; or nothing, which
        says that it must be looked for."""
        return b"" if self.credential is None or self.cut is not None else self.credential

    def remove_credential(self, value: bytes) -> None:
        """Take out the line whose value is what `sole_credential` gave."""
        whole = self.whole
        at = whole.find(value)
        begin, end = whole.rfind(b"\n", 0, at) + 1, whole.find(b"\n", at) + 1
        if self.cut is None and name_of(whole[begin:end]) == headers.AUTHORIZATION:
            self.whole = whole[:begin] + whole[end:]
        else:
            self.remove(headers.AUTHORIZATION)  # edited, or another field holds the same


class ResponseHead(Head):
    """A response up to its body. `status_line` and `lines` are to be passed on as they are."""

    __slots__ = (
        "body",
        "keep_alive",
        "served_by",
        "status",
        "status_line",
        "upgrade",
    )

    def __init__(self, status: int, status_line: bytes) -> None:
        self.whole = b""
        self.cut = None
        self.status: int = status
        self.status_line: bytes = status_line
        self.keep_alive: bool = True
        self.body: int = UNTIL_CLOSE
        self.upgrade: bytes = b""
        self.served_by: bytes = b""

    def has(self, name: bytes) -> bool:
        """Whether a plain field (`name` in lower case) is there."""
        return any(name_of(line) == name for line in self.lines)

    def value(self, name: bytes) -> bytes:
        """The first value of a plain field (`name` in lower case), or nothing."""
        values = self.values(name)
        return values[0] if values else b""

    def is_event_stream(self) -> bool:
        kinds = self.values(b"content-type")
        return any(kind.lower().startswith(b"text/event-stream") for kind in kinds)


def head_end(data: bytes) -> int:
    """The index behind the empty line that ends a head, or -1 if it is not here yet.

    Raises `BadMessage` where these bytes can never begin an acceptable head.
    """
    end = data.find(b"\r\n\r\n")
    if end >= 0:
        if end > MAX_HEAD:
            raise _oversized(data)
        return end + 4
    if len(data) > MAX_HEAD + 4:
        raise _oversized(data)
    if data.count(b"\n") != data.count(b"\r\n"):
        raise BadMessage(400, "a line that does not end in CR LF")
    if data and not 0x21 <= data[0] < 0x7F and data[:1] != b"\r":
        raise BadMessage(400, "this is not HTTP")
    return -1


def _oversized(data: bytes) -> BadMessage:
    first = data.find(b"\r\n")
    if first < 0 or first > MAX_TARGET:
        return BadMessage(414, f"the target is longer than {MAX_TARGET} bytes")
    return BadMessage(431, f"the head is longer than {MAX_HEAD} bytes")


def scan_request(data: bytes, end: int) -> RequestHead:  # noqa: C901 - a call a field costs more
    """Read the head `data[:end]`, whose end `head_end` has found. Raises `BadMessage`."""
    head: RequestHead | None = None
    first = 0
    if _COMPILED:
        head, first = walked_request(data)
    if head is None:
        first = data.find(b"\r\n")
        head = _request_line(data[:first])
    fields = walked(head, data, first + 2, end, _REQUEST) if _COMPILED else None
    if fields is None:
        fields = sifted(head, data, first + 2, end, _REQUEST)
    host: bytes | None = None
    ranges = 0
    special: list[tuple[int, bytes]] = []
    for kind, value in fields:
        if kind == headers.HOST:
            if host is not None:
                raise BadMessage(400, "more than one Host")
            host = value
        elif kind == headers.RANGE:
            ranges += value.count(b",") + 1
            if ranges > MAX_RANGES:
                raise BadMessage(416, f"more than {MAX_RANGES} ranges")
        elif kind < headers.BOUNDARY:
            special.append((kind, value))
        elif kind == headers.CREDENTIAL:
            if head.credential is not None:
                head.cut = head.lines  # there are two: let them be looked for
            head.credential = value
        else:
            before = head.boundary.get(kind)
            head.boundary[kind] = value if before is None else before + b", " + value
    named = None if host is None else HOSTS.get(host)
    if host is None or named is None or head.authority:
        _settle_host(head, host)
    else:
        head.authority, head.host = host, named
    if special:
        _settle_framing(head, special)
    return head


def walked_request(data: bytes) -> tuple[RequestHead | None, int]:
    """What `_request_line` makes of the first line and where this ends, if it is as most are: a
    known method, a plain path and HTTP/1.1. For compiled code."""
    at: i64 = 0
    while data[at] > _SPACE:
        at += 1
    method = data[:at]
    start: i64 = at + 1
    if data[at] != _SPACE or method not in _METHODS or data[start] != _SLASH:
        return None, 0
    at = start
    byte: i64 = _SLASH
    before: i64 = 0
    while IN_PLAIN[byte]:
        if before == _SLASH and (byte == _SLASH or byte == _DOT):  # noqa: SIM109 - a tuple made
            return None, 0
        before = byte
        at += 1
        byte = data[at]
    if at - start > MAX_TARGET or data[at : at + 11] != b" HTTP/1.1\r\n":
        return None, 0
    return RequestHead(method, data[start:at], b"", b""), at + 9


def walked_line(data: bytes) -> int:
    """Where the first line of a head ends. For compiled code."""
    at: i64 = 0
    while data[at] != _CR or data[at + 1] != _LF:
        at += 1
    return at


def _request_line(line: bytes) -> RequestHead:
    parts = line.split(b" ")
    if len(parts) != 3:
        raise BadMessage(400, "the request line is not METHOD TARGET VERSION")
    method, target, version = parts
    known = method in _METHODS
    if not known:
        _check_method(method)
    if len(target) > MAX_TARGET:
        raise BadMessage(414, f"the target is longer than {MAX_TARGET} bytes")
    if walks_plain(target) if _COMPILED else PLAIN.fullmatch(target):
        head = RequestHead(method, target, b"", b"")
    else:
        authority, path, query = _split(method, target)
        head = RequestHead(method, path, query, authority)
    head.known_method = known
    if version != b"HTTP/1.1":
        if version != b"HTTP/1.0":
            other = _VERSION.fullmatch(version) is not None
            raise BadMessage(505 if other else 400, "the version is neither HTTP/1.1 nor 1.0")
        head.version_1_1 = head.keep_alive = False
    return head


def _split(method: bytes, target: bytes) -> tuple[bytes, bytes, bytes]:
    """Authority, canonical path and query of a target in any form."""
    try:
        if target[:1] == b"/":
            return b"", *split_target(target)
        if target == b"*" and method == b"OPTIONS":
            return b"", target, b""
        if target[:7].lower() == b"http://":
            return split_url(target)
        raise BadTarget("the target is neither a path nor an http URL")
    except BadTarget as exc:
        raise BadMessage(400, str(exc)) from None


def _check_method(method: bytes) -> None:
    if not headers.is_token(method):
        raise BadMessage(400, "the method is no token")
    if method == b"TRACE":
        raise BadMessage(405, "TRACE would show the client what the gateway added")
    if method == b"CONNECT" or len(method) > MAX_METHOD:
        raise BadMessage(501, "the method is not implemented")


def _settle_host(head: RequestHead, host: bytes | None) -> None:
    if host is None and head.version_1_1:
        raise BadMessage(400, "no Host")
    named = b"" if host is None else host_name(host)
    if head.authority and named is not None:
        # RFC 9112, 3.2.2: the target says whom, and the Host field is made from it.
        named = host_name(head.authority)
        head.remove(b"host")
        head.lines.append(b"host: " + head.authority)
    else:
        head.authority = host or b""
    if named is None:
        raise BadMessage(400, "an invalid host")
    head.host = named


def _settle_framing(head: RequestHead, special: list[tuple[int, bytes]]) -> None:
    """Settle where the message ends and what the connection does next."""
    head.body = _length(special)
    coding = _coding(special)
    if coding is not None:
        if any(kind == headers.CONTENT_LENGTH for kind, _ in special):
            raise BadMessage(400, "both Content-Length and Transfer-Encoding")
        if not head.version_1_1:
            raise BadMessage(400, "Transfer-Encoding in HTTP/1.0")
        _check_coding(coding)
        head.body = CHUNKED
    options = _options(special)
    if options:
        _take_out(head, options, 400)
        if b"close" in options:
            head.keep_alive = False
    _settle_wishes(head, special, options)


def _settle_wishes(
    head: RequestHead, special: list[tuple[int, bytes]], options: list[bytes]
) -> None:
    """What the client would like of this connection."""
    for kind, value in special:
        if kind == headers.EXPECT and head.version_1_1:
            if value.lower() != b"100-continue":
                raise BadMessage(417, "an expectation other than 100-continue")
            head.expects_continue = True
        elif kind == headers.TE and b"te" in options:
            head.trailers = head.version_1_1 and b"trailers" in headers.tokens(value)
        elif kind == headers.UPGRADE and b"upgrade" in options and not head.body:
            _settle_upgrade(head, value.lower())


def _settle_upgrade(head: RequestHead, wanted: bytes) -> None:
    if not head.version_1_1:
        return
    head.upgrade = wanted
    if wanted != websocket.NAME:
        return
    versions, keys = head.values(b"sec-websocket-version"), head.values(b"sec-websocket-key")
    status, why = websocket.fault(head.method, versions, keys)
    if status:
        raise BadMessage(status, why)


def _number(value: bytes, status: int) -> int:
    number = written(value)
    if number < 0:
        raise BadMessage(status, "a Content-Length that is no number")
    return number


def _length(special: list[tuple[int, bytes]]) -> int:
    values = [value for kind, value in special if kind == headers.CONTENT_LENGTH]
    if len(values) > 1:
        raise BadMessage(400, "more than one Content-Length")
    return _number(values[0], 400) if values else 0


def _coding(special: list[tuple[int, bytes]]) -> bytes | None:
    values = [value for kind, value in special if kind == headers.TRANSFER_ENCODING]
    return b",".join(values) if values else None


def _check_coding(coding: bytes) -> None:
    codings = headers.tokens(coding)
    if any(one not in _CODINGS for one in codings):
        raise BadMessage(501, "an unknown transfer coding")
    if codings[-1:] != [b"chunked"] or codings.count(b"chunked") != 1:
        raise BadMessage(400, "chunked is not the one last transfer coding")
    if len(codings) != 1 or coding.lower() != b"chunked":
        raise BadMessage(501, "a transfer coding beside chunked")


def _options(special: list[tuple[int, bytes]]) -> list[bytes]:
    """What the Connection fields say."""
    return [
        option
        for kind, value in special
        if kind == headers.CONNECTION
        for option in headers.tokens(value)
    ]


def _take_out(head: Head, options: list[bytes], status: int) -> None:
    """Take out the lines that a Connection field names."""
    named = {option for option in options if option not in _USUAL_OPTIONS}
    if not named:
        return
    if named & headers.NOT_CONNECTION_OPTIONS:
        raise BadMessage(status, "Connection names a field that is not about the connection")
    head.lines = [line for line in head.lines if name_of(line) not in named]


def _status(line: bytes) -> tuple[int, bool]:
    """What an answer's first line says, and whether what its fields say of a body holds."""
    if _STATUS_LINE.fullmatch(line) is None:
        raise BadMessage(502, "the status line is not VERSION STATUS REASON")
    status = int(line[9:12])
    simple = status >= 200 and status not in (204, 304) and line[7:8] != b"0"
    if len(_STATUSES) >= _MAX_STATUSES:
        _STATUSES.clear()
    _STATUSES[line] = status, simple
    return status, simple


def scan_response(data: bytes, end: int, method: bytes) -> ResponseHead:
    """Read the head `data[:end]` of an answer to `method`. Raises `BadMessage` with status 502."""
    at = walked_line(data) if _COMPILED else data.find(b"\r\n")
    first = data[:at]
    status, simple = _STATUSES.get(first) or _status(first)
    head = ResponseHead(status, first)
    fields = walked(head, data, at + 2, end, _RESPONSE) if _COMPILED else None
    if fields is None:
        fields = sifted(head, data, at + 2, end, _RESPONSE)
    special: list[tuple[int, bytes]] = []
    for kind, value in fields:
        if kind == headers.CONTENT_LENGTH:
            if head.body >= 0:
                raise BadMessage(502, "more than one Content-Length")
            head.body = _number(value, 502)
        elif value != b"keep-alive":  # a Connection that says what goes without saying
            special.append((kind, value))
    if special or not simple or method == b"HEAD":
        _frame_response(head, method, special)
    return head


def _frame_response(head: ResponseHead, method: bytes, special: list[tuple[int, bytes]]) -> None:
    """RFC 9112, section 6.3, for what is not simply a body of some length."""
    length, status = head.body, head.status
    coding = _coding(special)
    if coding is not None:
        if coding.lower() != b"chunked" or length >= 0 or head.status_line[7:8] == b"0":
            raise BadMessage(502, "a Transfer-Encoding that is not just chunked")
        head.body = CHUNKED
    _settle_connection(head, special)
    if head.status_line[7:8] == b"0":
        head.status_line = b"HTTP/1.1" + head.status_line[8:]
        head.keep_alive = False
    if method == b"HEAD" or status == 304:
        head.body = 0  # a length is passed on all the same: it describes what GET would bring
    elif status < 200 or status == 204:
        head.body = 0
        if length > 0 or coding is not None:
            head.keep_alive = False  # a body that may not be there may come all the same
        if length >= 0:
            head.lines = [line for line in head.lines if name_of(line) != b"content-length"]


def _settle_connection(head: ResponseHead, special: list[tuple[int, bytes]]) -> None:
    options = _options(special)
    _take_out(head, options, 502)
    head.keep_alive = b"close" not in options
    for kind, value in special:
        if kind == headers.UPGRADE and b"upgrade" in options:
            head.upgrade = value.lower()
        elif kind == headers.SERVED_BY:
            head.served_by = value
