"""How routes write paths: literally, with parameters (`/orders/{id}`), as regular expressions.

Pure. Regular expressions are RE2's: their time grows with the path's length and with nothing
else, whatever the pattern. Python's `re` backtracks, so a pattern of an operator and a path of
an attacker could stop the gateway; it is never asked about a pattern that is not our own.
"""

import re
from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import Any, Final, Protocol, cast

from seawall.errors import Misconfigured
from seawall.wire.target import BadTarget, canonical

# Segments of a route's path. Real ones have up to ten; each costs a request a step.
MAX_SEGMENTS: Final = 64
# Instructions of a compiled pattern: RE2's time is their number times the path's length at the
# worst, which is 4 million steps here. An UUID takes about 160.
MAX_PROGRAM: Final = 500
# What RE2 may keep to be fast. Beyond it a match is slower, and still linear.
_MEMORY: Final = 256 * 1024
# Parameters or groups in one text: each may hold the whole path, and 16 of them 128 KB.
MAX_REFERENCES: Final = 16
# How much of a pattern's literal beginning is looked at.
_BEGINNING: Final = 256

_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}")
_PARAMETER: Final = re.compile(r"\{([^{}]*)\}")
_GROUP: Final = re.compile(r"\\([0-9]|\\)")


class Match(Protocol):
    """Where a pattern matched. `start` and `end` are those of the whole match."""

    def start(self) -> int: ...
    def end(self) -> int: ...
    def group(self, group: bytes | int, /) -> bytes | None: ...


class Pattern(Protocol):
    """A compiled regular expression."""

    @property
    def groups(self) -> int: ...
    @property
    def groupindex(self) -> Mapping[bytes, int]: ...
    def fullmatch(self, text: bytes, /) -> Match | None: ...
    def search(self, text: bytes, /) -> Match | None: ...


def regex(pattern: str) -> Pattern:
    """Compile a pattern in RE2's syntax. Raises `Misconfigured`."""
    compiled = _compiled(pattern)
    size = compiled.programsize
    if size > MAX_PROGRAM:
        raise Misconfigured(
            f"pattern {pattern!r} takes {size} instructions, more than {MAX_PROGRAM}",
            fix="shorter repetitions: + in place of {1,500}",
        )
    return cast(Pattern, compiled)


def _compiled(pattern: str) -> Any:
    try:
        re2 = import_module("re2")
    except ImportError:
        raise Misconfigured(
            f"pattern {pattern!r}: regular expressions need google-re2",
            fix="pip install 'seawall[regex]'",
        ) from None
    options = re2.Options()
    options.encoding = re2.Options.Encoding.LATIN1  # paths are bytes, and these are ASCII
    options.log_errors = False
    options.max_mem = _MEMORY
    try:
        return re2.compile(pattern.encode("ascii"), options)
    except UnicodeEncodeError:
        raise Misconfigured(f"pattern {pattern!r}: paths are ASCII, escaped by %") from None
    except re2.error as exc:
        reason = exc.args[0].decode("latin-1") if exc.args else "it is no pattern"
        raise Misconfigured(f"pattern {pattern!r}: {reason} (RE2's syntax)") from None


def beginning(pattern: str) -> list[str]:
    """The whole segments that every path begins with which a pattern matches."""
    compiled = _compiled(pattern)
    try:
        least, most = compiled.possiblematchrange(_BEGINNING)
    except import_module("re2").error:
        return []
    same = 0
    while same < min(len(least), len(most)) and least[same] == most[same]:
        same += 1
    shared: str = least[:same].decode("latin-1")
    return shared[: shared.rfind("/") + 1].split("/")[1:-1][:MAX_SEGMENTS]


def segments(path: str) -> list[str]:
    """`/orders/{id}/` as `["orders", "{id}", ""]`."""
    return path.split("/")[1:]


def parameters(path: str) -> tuple[str, ...]:
    """The names in a path or in a text to fill. Raises `Misconfigured`."""
    names = tuple(_PARAMETER.findall(path))
    for name in names:
        if _NAME.fullmatch(name) is None:
            raise Misconfigured(f"{path!r}: {{{name}}} is no parameter", fix="{name}")
    if "{" in _PARAMETER.sub("", path) or "}" in _PARAMETER.sub("", path):
        raise Misconfigured(f"{path!r}: a brace without its other half", fix="{name}")
    _check_references(path, names)
    return names


def group_names(pattern: str) -> tuple[str, ...]:
    """The named groups of a pattern, which are its parameters."""
    return tuple(name.decode("ascii") for name in regex(pattern).groupindex)


def check_path(path: str) -> None:
    """Whether a request can have this path, parameters aside. Raises `Misconfigured`."""
    names = parameters(path)
    if len(set(names)) != len(names):
        raise Misconfigured(f"path {path!r}: a parameter is named twice")
    parts = segments(path)
    for part in parts:
        if "{" in part and _PARAMETER.fullmatch(part) is None:
            raise Misconfigured(
                f"path {path!r}: a parameter is a whole segment", fix="a regular expression"
            )
    if len(parts) > MAX_SEGMENTS:
        raise Misconfigured(f"path {path!r} has more than {MAX_SEGMENTS} segments")
    check_target(path)


def check_target(path: str) -> None:
    """Whether a path is canonical whatever its parameters are. Raises `Misconfigured`."""
    sample = _PARAMETER.sub("x", path)
    if not sample.startswith("/"):
        raise Misconfigured(f"path {path!r} does not start with /")
    try:
        clean = canonical(sample.encode("ascii"))
    except (BadTarget, UnicodeEncodeError) as exc:
        raise Misconfigured(f"path {path!r}: {exc}") from None
    if clean != sample.encode():
        raise Misconfigured(f"path {path!r} matches nothing", fix=clean.decode())


class Template:
    """A text with `{name}` in it, to be filled from what a path was found to hold."""

    __slots__ = ("_literals", "_names")

    def __init__(self, text: str) -> None:
        pieces = _PARAMETER.split(text)
        self._literals: tuple[bytes, ...] = tuple(piece.encode() for piece in pieces[::2])
        self._names: tuple[str, ...] = tuple(pieces[1::2])

    def filled(self, values: Mapping[str, bytes]) -> bytes:
        text = self._literals[0]
        for name, literal in zip(self._names, self._literals[1:], strict=True):
            text += values[name] + literal
        return text


class Substitution:
    """Replaces the first match of a pattern; `\\1` to `\\9` are its groups, `\\0` is all of it.

    Only the first, since to search on after each match takes the square of the path's length.
    """

    __slots__ = ("_groups", "_literals", "_pattern")

    def __init__(self, pattern: str, to: str) -> None:
        self._pattern: Pattern = regex(pattern)
        pieces = _GROUP.split(to)
        self._literals: tuple[bytes, ...] = _encoded(pieces[::2])
        self._groups: tuple[str, ...] = tuple(pieces[1::2])
        _check_references(to, self._groups)
        for group in self._groups:
            if group != "\\" and int(group) > self._pattern.groups:
                raise Misconfigured(f"{to!r}: pattern {pattern!r} has no group {group}")

    def replaced(self, path: bytes) -> bytes:
        found = self._pattern.search(path)
        if found is None:
            return path
        text = path[: found.start()] + self._literals[0]
        for group, literal in zip(self._groups, self._literals[1:], strict=True):
            text += (b"\\" if group == "\\" else found.group(int(group)) or b"") + literal
        return text + path[found.end() :]


def _check_references(text: str, references: Sequence[str]) -> None:
    if len(references) > MAX_REFERENCES:
        raise Misconfigured(f"{text!r}: more than {MAX_REFERENCES} references")


def _encoded(pieces: Sequence[str]) -> tuple[bytes, ...]:
    try:
        return tuple(piece.encode("ascii") for piece in pieces)
    except UnicodeEncodeError:
        raise Misconfigured("paths are ASCII, escaped by %") from None
