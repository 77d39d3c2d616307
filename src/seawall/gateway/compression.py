"""Which answers are compressed, and with which coding: RFC 9110, sections 8.4 and 12.5.3. Pure.

Left alone are streams, whose events a compressor would hold back, what is encoded already or is a
part of something, what is small, and what says `no-transform`.
"""

import re
from dataclasses import dataclass
from typing import Final

from seawall.errors import Misconfigured
from seawall.wire.http1 import RequestHead, ResponseHead

CODINGS: Final = ("zstd", "br", "gzip")

_TYPES: Final = frozenset(
    b"application/json application/javascript application/xml application/x-ndjson "
    b"application/openmetrics-text application/wasm application/manifest+json "
    b"image/svg+xml image/x-icon font/ttf font/otf".split()
)
# Digests are of the bytes that were there before, and a part has no coding of its own.
_EXACT: Final = frozenset(
    b"content-encoding content-range content-digest repr-digest digest content-md5".split()
)
_WEIGHT: Final = re.compile(rb"q=(?:0(?:\.[0-9]{0,3})?|1(?:\.0{0,3})?)")
_NAMES: Final = {b"x-gzip": b"gzip"}


@dataclass(frozen=True, kw_only=True, slots=True)
class Compression:
    """How the answers of a route are compressed. Raises `Misconfigured`."""

    codings: tuple[str, ...] = CODINGS  # of those that a client likes equally, the first
    min_size: int = 1024  # bytes; less fits into one packet anyway

    def __post_init__(self) -> None:
        for coding in self.codings:
            if coding not in CODINGS:
                raise Misconfigured(
                    f"compress: {coding!r} is no coding", fix="one of " + ", ".join(CODINGS)
                )
        if not self.codings or len(set(self.codings)) != len(self.codings):
            raise Misconfigured("compress: each coding once, and at least one")
        if self.min_size < 1:
            raise Misconfigured(f"compress: min_size is bytes from 1, not {self.min_size}")


def chosen(accept: bytes, offered: tuple[bytes, ...]) -> bytes:
    """The coding for a client with this `Accept-Encoding`; nothing to leave the answer as it is."""
    weights = _weights(accept)
    others = weights.get(b"*", 0)
    best, most = b"", weights.get(b"identity", 0)
    for coding in offered:
        weight = weights.get(coding, others)
        # Who likes the plain answer as much as the best coding gets the shorter one.
        if weight > most or (weight == most > 0 and not best):
            best, most = coding, weight
    return best


def _weights(accept: bytes) -> dict[bytes, int]:
    """Thousandths by coding. A member that cannot be read counts as not wanted."""
    weights: dict[bytes, int] = {}
    for member in accept.lower().split(b","):
        parts = member.split(b";")
        name = parts[0].strip(b" \t")
        weight = 1000
        if len(parts) > 1:
            text = parts[1].strip(b" \t")
            weight = 0
            if len(parts) == 2 and _WEIGHT.fullmatch(text) is not None:
                weight = round(float(text[2:]) * 1000)
        weights[_NAMES.get(name, name)] = weight
    return weights


def is_compressible(head: ResponseHead, min_size: int) -> bool:
    """Whether an answer gains by compression, and may be changed."""
    if head.status < 200 or head.status in (204, 206, 304) or 0 <= head.body < min_size:
        return False
    kind = b""
    for line in head.lines:
        name, _, value = line.partition(b":")
        name = name.lower()
        if name == b"content-type":
            kind = value.partition(b";")[0].strip(b" \t").lower()
        elif name in _EXACT or (name == b"cache-control" and b"no-transform" in value.lower()):
            return False
    if kind == b"text/event-stream":
        return False
    return kind in _TYPES or kind.startswith(b"text/") or kind.endswith((b"+json", b"+xml"))


def vary(lines: list[bytes]) -> list[bytes]:
    """`lines` that say: this answer depends on what the client accepts."""
    for line in lines:
        name, _, value = line.partition(b":")
        if name.lower() == b"vary":
            names = [one.strip(b" \t") for one in value.lower().split(b",")]
            if b"*" in names or b"accept-encoding" in names:
                return lines
    return [*lines, b"vary: accept-encoding"]


def encoded(lines: list[bytes], coding: bytes) -> list[bytes]:
    """`lines` of an answer whose body is in `coding`.

    A strong ETag names exact bytes, and these are others. Ranges would be of others too.
    """
    kept: list[bytes] = []
    for line in lines:
        name, _, value = line.partition(b":")
        name = name.lower()
        if name in (b"content-length", b"accept-ranges"):
            continue
        value = value.strip(b" \t")
        if name == b"etag" and not value.startswith(b"W/"):
            line = b"etag: W/" + value
        kept.append(line)
    kept.append(b"content-encoding: " + coding)
    return kept


def forbids(head: RequestHead) -> bool:
    """Whether the client wants nothing changed on the way."""
    return any(b"no-transform" in value.lower() for value in head.values(b"cache-control"))
