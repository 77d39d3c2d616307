"""The fields of a head: checked, kept as the bytes they came in, the few special ones reported.

Almost every line is passed on as it is, so what is kept is one piece of bytes, and it is cut into
lines only for whoever asks for them. There are two ways to read a head, since compiled code is
quickest where it looks at bytes itself and the interpreter where it leaves that to methods:

- `sifted` says what holds, and why a head is refused. A line that it found to mean nothing here it
  knows again the next time: most lines of most clients are the same in every head;
- `walked` reads good heads only, in one pass, and gives up on every other. What it finds is what
  `sifted` finds, and a test holds it to that.
"""

from collections.abc import Callable, Iterable
from itertools import filterfalse
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from mypy_extensions import i64  # to mypyc a plain integer of C, to everybody else an int

# What no line may hold: every control character but the tab.
CONTROLS: Final = bytes([*range(9), *range(10, 32), 127])
# Bytes that have none are the same behind this; half the price of deleting them and counting.
_NO_CONTROLS: Final = bytes(0x21 if byte in CONTROLS else byte for byte in range(256))
_IN_TOKEN: Final = bytes(
    chr(byte).isalnum() or byte in b"!#$%&'*+-.^_`|~" if byte < 128 else 0 for byte in range(256)
)
# Longer names are no tokens to us (headers.is_token): `sifted` refuses them.
_MAX_NAME: Final = 256

# A letter, be it small or a capital, by its last five bits; lengths of names below this.
_LETTER: Final = 0x1F
_LETTERS: Final = 32
_LENGTHS: Final = 64

# Lines that are known again: so many, and none that is longer. All are forgotten when there are
# more, which costs the next heads what it costs to read their lines once.
MAX_JUDGED: Final = 2048
_KINDS: Final = 64  # more than there are
_LONGEST: Final = 512
_SHORT: Final = 64  # of those that mean something: shorter than a credential

_COMPILED: Final = not __file__.endswith(".py")
_TAB: Final = 0x09
_LF: Final = 0x0A
_CR: Final = 0x0D
_SPACE: Final = 0x20
_COLON: Final = 0x3A
_DELETE: Final = 0x7F


class BadMessage(ValueError):
    """These bytes are not a message that is safe to read. `status` is what a client is told."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason


class Kinds:
    """What the names of one direction's fields mean, prepared for reading heads."""

    __slots__ = (
        "away", "bad", "crowded", "is_judged", "judged", "kept", "kind_of", "known", "likely",
        "most", "reported",
    )  # fmt: skip

    def __init__(
        self,
        known: dict[bytes, int],
        families: Iterable[bytes],
        kind_of: Callable[[bytes], int],
        kept: Iterable[int],
        *,
        most: int,
        refused: tuple[int, int],
    ) -> None:
        """`known` are names in the spellings of almost every program and 0 where they mean
        nothing, `families` are beginnings of others, and `kind_of` tells of any name, -1 if it is
        none. Lines of the kinds `kept` are passed on all the same. More lines than `most` are
        answered by the second status of `refused`, what is no field by the first."""
        self.known: dict[bytes, int] = known
        self.kind_of: Callable[[bytes], int] = kind_of
        self.most: int = most
        self.bad: int = refused[0]
        self.crowded: int = refused[1]
        # Whole lines that were found to be fields which mean nothing here.
        self.judged: set[bytes] = set()
        self.is_judged: Callable[[bytes], bool] = self.judged.__contains__
        # Short ones that mean something, and what.
        self.reported: dict[bytes, tuple[int, bytes]] = {}
        self.kept: int = sum(1 << kind for kind in set(kept))
        self.away: frozenset[int] = frozenset(range(1, _KINDS)).difference(kept)
        # Which names may mean something, by their first letter and length alone.
        likely = bytearray(_LETTERS * _LENGTHS)
        for name, kind in known.items():
            if kind:
                likely[(name[0] & _LETTER) * _LENGTHS + len(name)] = 1
        for beginning in families:
            place = (beginning[0] & _LETTER) * _LENGTHS
            for length in range(len(beginning), _LENGTHS):
                likely[place + length] = 1
        self.likely: bytes = bytes(likely)


class Head:
    """The field lines of a message that are to be passed on, as received."""

    __slots__ = ("cut", "whole")

    def __init__(self) -> None:
        self.whole: bytes = b""  # in one piece, each line with its end
        self.cut: list[bytes] | None = None  # once somebody asked: then these hold

    @property
    def lines(self) -> list[bytes]:
        """The lines, without their ends; may be edited."""
        lines = self.cut
        if lines is None:
            lines = self.cut = self.whole.split(b"\r\n")
            lines.pop()
        return lines

    @lines.setter
    def lines(self, lines: list[bytes]) -> None:
        self.cut = lines

    def values(self, name: bytes) -> list[bytes]:
        """The values of a plain field (`name` in lower case), in their order."""
        return values_of(self.lines, name)

    def has(self, name: bytes) -> bool:
        """Whether a plain field (`name` in lower case) is there."""
        return any(name_of(line) == name for line in self.lines)

    def block(self) -> bytes:
        """The same in one piece, each line with its end."""
        lines = self.cut
        return self.whole if lines is None else b"\r\n".join([*lines, b""])


def sifted(head: Head, data: bytes, begin: int, end: int, kinds: Kinds) -> list[tuple[int, bytes]]:
    """Take the lines of the head `data[:end]`, which begin at `begin`, and report the kinds and
    values of those that mean something. Raises `BadMessage`."""
    lines = data[begin : end - 4].split(b"\r\n") if begin < end - 2 else []
    if len(lines) > kinds.most:
        raise BadMessage(kinds.crowded, f"more than {kinds.most} fields")
    found: list[tuple[int, bytes]] = []
    taken: list[bytes] = []
    for line in filterfalse(kinds.is_judged, lines):
        told = kinds.reported.get(line) or _judge(line, kinds)
        if told is not None:
            found.append(told)
            if told[0] in kinds.away:
                taken.append(line)
    if taken:
        for line in taken:
            lines.remove(line)
        lines.append(b"")
        head.whole = b"\r\n".join(lines)
    else:
        head.whole = data[begin : end - 2]
    return found


def _judge(line: bytes, kinds: Kinds) -> tuple[int, bytes] | None:
    """What a line means, and its value; None if it means nothing here. Raises `BadMessage`."""
    if line.translate(_NO_CONTROLS) != line:
        raise BadMessage(kinds.bad, "a control character in the head")
    name, colon, value = line.partition(b":")
    kind = kinds.known.get(name)
    if kind is None:
        kind = kinds.kind_of(name)
    if kind < 0 or not colon:
        raise BadMessage(kinds.bad, "a line that is no field")
    if not kind:
        if len(line) <= _LONGEST:
            if len(kinds.judged) >= MAX_JUDGED:
                kinds.judged.clear()
            kinds.judged.add(line)
        return None
    told = kind, value.strip(b" \t")
    if len(line) <= _SHORT:
        if len(kinds.reported) >= MAX_JUDGED:
            kinds.reported.clear()
        kinds.reported[line] = told
    return told


def walked(  # noqa: C901 - a call a field costs more
    head: Head, data: bytes, begin: int, end: int, kinds: Kinds
) -> list[tuple[int, bytes]] | None:
    """The same, a byte at a time; None if there is anything wrong. For compiled code."""
    in_token, likely = _IN_TOKEN, kinds.likely
    found: list[tuple[int, bytes]] = []
    kept: list[bytes] = []
    since: i64 = begin  # of what is kept in one piece
    at: i64 = begin
    last: i64 = end - 2
    count: i64 = 0
    while at < last:
        first: i64 = at
        byte: i64 = data[at]
        while in_token[byte]:
            at += 1
            byte = data[at]
        length: i64 = at - first
        if byte != _COLON or length == 0 or length > _MAX_NAME:
            return None
        at += 1
        start: i64 = at
        byte = data[at]
        while (byte >= _SPACE and byte != _DELETE) or byte == _TAB:
            at += 1
            byte = data[at]
        if byte != _CR or data[at + 1] != _LF:
            return None
        stop: i64 = at
        at += 2
        count += 1
        byte = data[first]
        if length < _LENGTHS and not likely[(byte & _LETTER) * _LENGTHS + length]:
            continue
        name = data[first : start - 1]
        kind = kinds.known.get(name)
        if kind is None:
            kind = kinds.kind_of(name)
        if not kind:
            continue
        found.append((kind, _stripped(data, start, stop)))
        if not kinds.kept >> kind & 1:
            kept.append(data[since:first])
            since = at
    if count > kinds.most:
        return None
    head.whole = data[since:last]
    if kept:
        head.whole = b"".join(kept) + head.whole
    return found


def _stripped(data: bytes, start: "i64", stop: "i64") -> bytes:
    """A value without the white space around it."""
    while start < stop and (data[start] == _SPACE or data[start] == _TAB):
        start += 1
    while start < stop and (data[stop - 1] == _SPACE or data[stop - 1] == _TAB):
        stop -= 1
    return data[start:stop]


def name_of(line: bytes) -> bytes:
    """The name in a line, lower case."""
    return line.partition(b":")[0].lower()


def values_of(lines: list[bytes], name: bytes) -> list[bytes]:
    """The values of the lines with a name, in their order."""
    return [line.partition(b":")[2].strip(b" \t") for line in lines if name_of(line) == name]
