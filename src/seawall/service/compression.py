"""Which answers are worth compressing, and what compressing does to their headers (pure).

Only whole answers are compressed, never streams: a compressor in the way of an event stream
holds events back. Answers below a kilobyte gain nothing in one packet. A strong ETag names the
exact bytes, so a compressed answer carries a weak one.
"""

import zlib

# Below it an answer fits into one packet anyway.
MINIMUM = 1024  # bytes

# A fifth of the CPU of level 9 for about 97 % of its effect on JSON.
LEVEL = 4

RawHeaders = list[tuple[bytes, bytes]]

_TYPES = frozenset(
    {
        b"application/json",
        b"application/problem+json",
        b"application/javascript",
        b"application/xml",
        b"application/x-ndjson",
        b"application/openmetrics-text",
        b"image/svg+xml",
    }
)


def accepts_gzip(accept_encoding: bytes) -> bool:
    """Does `Accept-Encoding` allow gzip (RFC 9110, 12.5.3)?"""
    allowed = False
    for part in accept_encoding.lower().split(b","):
        name, _, parameters = part.partition(b";")
        name = name.strip()
        if name not in (b"gzip", b"x-gzip", b"*"):
            continue
        quality = parameters.strip()
        refused = quality.startswith(b"q=0") and not quality.strip(b"q=0.")
        if name != b"*":
            return not refused
        allowed = not refused
    return allowed


def compressible(status: int, headers: RawHeaders) -> bool:
    """May an answer with these headers be compressed at all, whatever the client accepts?"""
    if status < 200 or status in (204, 206, 304):
        return False
    kind = b""
    for name, value in headers:
        if name == b"content-type":
            kind = value.partition(b";")[0].strip().lower()
        elif name in (b"content-encoding", b"content-range") or (
            name == b"cache-control" and b"no-transform" in value.lower()
        ):
            return False
    if kind == b"text/event-stream":
        return False
    return kind in _TYPES or kind.startswith(b"text/") or kind.endswith((b"+json", b"+xml"))


def compress(body: bytes) -> bytes:
    """`body` as gzip, always the same bytes for the same body."""
    packer = zlib.compressobj(LEVEL, zlib.DEFLATED, 31)
    return packer.compress(body) + packer.flush()


def vary(headers: RawHeaders) -> RawHeaders:
    """Headers that say: this answer depends on Accept-Encoding."""
    for index, (name, value) in enumerate(headers):
        if name == b"vary":
            if value.strip() == b"*" or b"accept-encoding" in value.lower():
                return headers
            joined = (name, value + b", accept-encoding")
            return [*headers[:index], joined, *headers[index + 1 :]]
    return [*headers, (b"vary", b"accept-encoding")]


def packed(headers: RawHeaders, length: int) -> RawHeaders:
    """Headers of the compressed answer of that many bytes."""
    found: RawHeaders = []
    for name, value in headers:
        if name == b"content-length":
            value = str(length).encode()
        elif name == b"etag" and not value.startswith(b"W/"):
            value = b"W/" + value
        found.append((name, value))
    found.append((b"content-encoding", b"gzip"))
    return found
