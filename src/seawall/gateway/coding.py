"""Answers through a compressor, piece by piece, so that a large one holds up nobody for long.

A piece is what the loop read at once, at most 256 KiB: 2 ms of zstd, 8 ms of brotli, 12 ms of
gzip on our machine. What a body of unknown length has so far is flushed with each piece, since
its service may be waiting before the next.
"""

import zlib
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

from seawall.errors import Misconfigured
from seawall.gateway.compression import Compression, chosen, encoded, forbids, is_compressible, vary
from seawall.wire.chunked import Chunked
from seawall.wire.http1 import CHUNKED, ResponseHead

if TYPE_CHECKING:
    from seawall.gateway.exchange import Exchange

# Answers that one gateway compresses at once; more go as they are. A compressor of gzip holds
# 256 KiB, one of brotli 900, so this is at most 115 MB where every client reads slowly.
MAX_CODERS: Final = 128

# About 97 % of what the highest levels save, for a fifth of their time and less of memory.
_GZIP_LEVEL: Final = 4
_BROTLI_QUALITY: Final = 4
_ZSTD_LEVEL: Final = 3
_WINDOW: Final = 18  # 256 KiB, as a power of two: what larger ones save they cost in memory


class Packer:
    """A compressor of one answer: gzip."""

    __slots__ = ("_work",)

    def __init__(self, library: Any) -> None:
        self._work: Any = self.made(library)

    def made(self, library: Any) -> Any:
        return library.compressobj(_GZIP_LEVEL, zlib.DEFLATED, 31)

    def pack(self, data: bytes) -> bytes:
        out: bytes = self._work.compress(data)
        return out

    def flush(self) -> bytes:
        out: bytes = self._work.flush(zlib.Z_SYNC_FLUSH)
        return out

    def end(self) -> bytes:
        out: bytes = self._work.flush()
        return out


class Brotli(Packer):
    __slots__ = ()

    def made(self, library: Any) -> Any:
        return library.Compressor(quality=_BROTLI_QUALITY, lgwin=_WINDOW)

    def pack(self, data: bytes) -> bytes:
        out: bytes = self._work.process(data)
        return out

    def flush(self) -> bytes:
        out: bytes = self._work.flush()
        return out

    def end(self) -> bytes:
        out: bytes = self._work.finish()
        return out


class Zstd(Packer):
    __slots__ = ("_block",)

    def __init__(self, library: Any) -> None:
        super().__init__(library)
        self._block: int = library.COMPRESSOBJ_FLUSH_BLOCK

    def made(self, library: Any) -> Any:
        parameters = library.ZstdCompressionParameters.from_level(_ZSTD_LEVEL, window_log=_WINDOW)
        return library.ZstdCompressor(compression_params=parameters).compressobj()

    def flush(self) -> bytes:
        out: bytes = self._work.flush(self._block)
        return out


_LIBRARIES: Final = {"gzip": "zlib", "br": "brotli", "zstd": "zstandard"}


def _library(coding: str) -> Any:
    """What compresses so, imported when somebody wants it: zstandard takes 60 ms."""
    name = _LIBRARIES[coding]
    try:
        return import_module(name)
    except ImportError:
        raise Misconfigured(
            f"compress: {coding} needs the package {name}",
            fix="pip install 'seawall[compression]'",
        ) from None


def packer(coding: bytes, library: Any) -> Packer:
    if coding == b"br":
        return Brotli(library)
    return Zstd(library) if coding == b"zstd" else Packer(library)


class Room:
    """How many answers are compressed now."""

    __slots__ = ("taken",)

    def __init__(self) -> None:
        self.taken: int = 0

    def is_full(self) -> bool:
        return self.taken >= MAX_CODERS


class Coder:
    """The body of one answer: in as it is passed on, out as chunks of what was made of it."""

    __slots__ = ("_chunks", "_packer", "_room")

    def __init__(self, room: Room, packer: Packer, is_framed: bool) -> None:
        room.taken += 1
        self._room: Room = room
        self._packer: Packer = packer
        self._chunks: Chunked | None = Chunked(unwrap=True) if is_framed else None

    def coded(self, piece: bytes, ended: bool) -> bytes:
        chunks, packer = self._chunks, self._packer
        out = b""
        if chunks is not None:
            piece = chunks.feed(piece)
        if piece:
            out = packer.pack(piece)
            if chunks is not None and not ended:
                out += packer.flush()
        if ended:
            out += packer.end()
        framed = b"%x\r\n%b\r\n" % (len(out), out) if out else b""
        return framed + b"0\r\n\r\n" if ended else framed

    def close(self) -> None:
        """The exchange is over, whether the answer is whole or not."""
        self._room.taken -= 1


class Compress:
    """A finisher that compresses the answers of a route."""

    __slots__ = ("_libraries", "_min_size", "_offered")

    def __init__(self, config: Compression) -> None:
        self._min_size: int = config.min_size
        self._offered: tuple[bytes, ...] = tuple(coding.encode() for coding in config.codings)
        self._libraries: dict[bytes, Any] = {
            coding.encode(): _library(coding) for coding in config.codings
        }

    def __call__(self, exchange: "Exchange", head: ResponseHead) -> None:
        request = exchange.head
        if not is_compressible(head, self._min_size):
            return
        head.lines = vary(head.lines)
        if not request.version_1_1 or forbids(request):
            return
        coding = chosen(b",".join(request.values(b"accept-encoding")), self._offered)
        room = exchange.proxy.coding_room
        if not coding or room.is_full():
            return
        made = packer(coding, self._libraries[coding])
        exchange.coder = Coder(room, made, head.body < 0)
        head.lines = encoded(head.lines, coding)
        head.body = CHUNKED
