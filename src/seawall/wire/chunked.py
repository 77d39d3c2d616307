"""Chunked bodies: their end is found, and every byte of their framing checked, piece by piece."""

import re
from typing import Final

from seawall.wire import headers
from seawall.wire.http1 import CONTROLS, BadMessage

# A chunk's size line with its extensions, which nobody uses.
MAX_CHUNK_LINE: Final = 256
# All extensions of one message: a body of tiny chunks may not cost us many times what it weighs.
MAX_EXTENSIONS: Final = 16 * 1024
# All trailers of one message.
MAX_TRAILERS: Final = 8 * 1024
# Chunks are counted in 60 bits: what needs more is an attack on somebody's integers.
_CHUNK_SIZE: Final = re.compile(rb"[0-9A-Fa-f]{1,15}")
_CHUNK_EXTENSIONS: Final = re.compile(
    rb"(?:;[!#$%&'*+\-.^_`|~0-9A-Za-z]+(?:=(?:[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
    rb'|"(?:[\t \x21\x23-\x5b\x5d-\x7e\x80-\xff]|\\[\t \x21-\x7e])*"))?)+'
)

# States of `Chunked`.
_SIZE: Final = 0
_DATA: Final = 1
_DATA_END: Final = 2
_TRAILERS: Final = 3


class Chunked:
    """Finds the end of a chunked body, piece by piece, and checks every byte of its framing.

    `feed` returns what to pass on: the same chunks without extensions and trailers, or, made
    with `unwrap`, only what is in them. Made with `trailers`, those stay that mean the same there
    as in a head, which is for who asked for them. `length` counts the bytes in the chunks, `done`
    says that the body has ended, and `surplus` is what came behind its end.
    """

    __slots__ = (
        "_extensions",
        "_held",
        "_kept",
        "_left",
        "_state",
        "_trailers",
        "_unwrap",
        "_wants_trailers",
        "done",
        "length",
        "surplus",
    )

    def __init__(self, unwrap: bool = False, trailers: bool = False) -> None:
        self._unwrap: bool = unwrap
        self._state: int = _SIZE
        self._left: int = 0  # bytes of this chunk that are still to come
        self._held: bytes = b""  # the beginning of a line
        self._extensions: int = 0
        self._trailers: int = 0
        self._wants_trailers: bool = trailers
        self._kept: bytes = b""  # trailers to pass on, each with its line end
        self.length: int = 0
        self.done: bool = False
        self.surplus: bytes = b""

    def feed(self, data: bytes) -> bytes:  # noqa: C901 - one loop over the states
        """Take the next bytes of the connection. Raises `BadMessage` with status 400."""
        if self._held:
            data = self._held + data
            self._held = b""
        out: list[bytes] = []
        size = len(data)
        run = at = 0  # data[run:at] is passed on as it is
        while at < size and not self.done:
            if self._state == _DATA:
                step = min(self._left, size - at)
                if self._unwrap:
                    out.append(data[at : at + step])
                at += step
                self.length += step
                self._left -= step
                if not self._left:
                    self._state = _DATA_END
                continue
            if self._state == _SIZE and data.startswith(b"0\r\n\r\n", at):
                at += 5
                self.done = True
                break
            end = data.find(b"\r\n", at)
            if end < 0:
                self._hold(data[at:])
                size = at
            elif self._state == _DATA_END:
                if end != at:
                    raise BadMessage(400, "a chunk that is longer than its size")
                self._state = _SIZE
                at = end + 2
            else:
                kept = self._line(data[at:end])
                if kept is not None:
                    out += (data[run:at], kept) if not self._unwrap else ()
                    run = end + 2
                at = end + 2
        if self.done:
            self.surplus = data[at:]
        if self._unwrap:
            return b"".join(out)
        if not out:
            return data if run == 0 and at == len(data) else data[run:at]
        out.append(data[run:at])
        return b"".join(out)

    def _line(self, line: bytes) -> bytes | None:
        """Read a size or a trailer; what to pass on instead, or None if it goes on as it is."""
        if self._state == _TRAILERS:
            return self._trailer(line)
        digits, semicolon, extensions = line.partition(b";")
        if _CHUNK_SIZE.fullmatch(digits) is None or len(line) > MAX_CHUNK_LINE:
            raise BadMessage(400, "a chunk size that is no number")
        if semicolon and _CHUNK_EXTENSIONS.fullmatch(semicolon + extensions) is None:
            raise BadMessage(400, "a broken chunk extension")
        self._extensions += len(extensions)
        if self._extensions > MAX_EXTENSIONS:
            raise BadMessage(400, f"chunk extensions of more than {MAX_EXTENSIONS} bytes")
        self._left = int(digits, 16)
        if not self._left:
            self._state = _TRAILERS
            return b""
        self._state = _DATA
        return digits + b"\r\n" if semicolon else None

    def _trailer(self, line: bytes) -> bytes:
        """Trailers are checked and kept for the end, or dropped: merged into the head, as some
        programs do, they could change its meaning."""
        if not line:
            self.done = True
            return b"0\r\n%b\r\n" % self._kept
        self._trailers += len(line) + 2
        if self._trailers > MAX_TRAILERS:
            raise BadMessage(400, f"trailers of more than {MAX_TRAILERS} bytes")
        name, colon, value = line.partition(b":")
        if (
            not colon
            or not headers.is_token(name)
            or len(value.translate(None, CONTROLS)) != len(value)
        ):
            raise BadMessage(400, "a trailer that is no field")
        if self._wants_trailers and headers.may_trail(name):
            self._kept += line + b"\r\n"
        return b""

    def _hold(self, rest: bytes) -> None:
        """Keep the beginning of a line, if it can still become one."""
        if self._state == _DATA_END and rest != b"\r":
            raise BadMessage(400, "a chunk that is longer than its size")
        bound = MAX_CHUNK_LINE if self._state == _SIZE else MAX_TRAILERS
        if len(rest) > bound + 1:
            raise BadMessage(400, "a line of the chunked framing that is too long")
        self._held = rest
