"""Headers of a NATS message, as ADR-4 has them: a block of bytes, read when somebody asks. Pure.

Most that handles a message asks for one header or two, if for any, and most of those are not there:
to take a block apart costs more than all else that is done for the message.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

VERSION = "NATS/1.0"  # a block begins with it, or with it and a status
PLAIN = b"NATS/1.0\r\n"  # how one begins that has no status
END = b"\r\n\r\n"


class Headers(Mapping[str, str]):
    """The headers of a block; of one that comes twice, the last."""

    __slots__ = ("_begin", "_read", "block")

    def __init__(self, block: bytes) -> None:
        self.block = block
        self._begin = 0
        self._read: dict[str, str] | None = None

    def skip(self, end: int) -> None:
        """Leave out those up to the break at `end`, while none was read."""
        self._begin = end

    def read(self) -> dict[str, str]:
        """All of them. Not to be changed."""
        found = self._read
        if found is None:
            block = self.block
            if self._begin:
                block = VERSION.encode() + block[self._begin :]
            _, found = parse_block(block)
            self._read = found
        return found

    def __getitem__(self, name: str) -> str:
        return self.read()[name]

    def get(self, name: str, default: Any = None, /) -> Any:
        # Seen without reading them.
        if self._read is None and name.encode() not in self.block:
            return default
        return self.read().get(name, default)

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and self.get(name) is not None

    def __iter__(self) -> Iterator[str]:
        return iter(self.read())

    def __len__(self) -> int:
        return len(self.read())

    def __repr__(self) -> str:
        return repr(self.read())


def parse_block(block: bytes) -> tuple[str, dict[str, str]]:
    """The status and the headers of a block; of a header that comes twice, the last one."""
    first, *lines, _, _ = block.decode(errors="replace").split("\r\n")
    try:
        headers = dict([line.split(": ", 1) for line in lines])  # as nearly everybody writes them
    except ValueError:
        headers = _headers(lines)
    return first[len(VERSION) :].strip().partition(" ")[0] if first != VERSION else "", headers


def _headers(lines: Sequence[str]) -> dict[str, str]:
    """Of lines with any white space around their colons, or without one."""
    split = [line.partition(":") for line in lines]
    return {name: value.strip() for name, colon, value in split if colon}


def block(headers: Mapping[str, str]) -> bytes:
    """Headers as they travel. Names are tokens, and values without line breaks."""
    lines = "".join([f"{name}: {value}\r\n" for name, value in headers.items()])
    return f"{VERSION}\r\n{lines}\r\n".encode()
