"""Which route a request takes. Pure; the order is the Gateway API's (see `config.Route`).

Routes are compiled into a table for each host: a mapping of exact paths, one of prefixes, and
where routes have parameters, a tree with a level for each segment, in which a parameter is a
branch beside the literal ones. A request goes down the tree once and comes back up to the
deepest route that fits, or drops segments from its path until a prefix is left: it costs its
depth, whatever the number of routes. The path is the canonical one that is also forwarded.
"""

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Final, Generic, TypeVar

from seawall.errors import Misconfigured
from seawall.gateway.choice import Choice, Entry
from seawall.gateway.config import Route
from seawall.gateway.cors import wanted_method
from seawall.gateway.paths import Pattern, beginning, regex, segments
from seawall.wire.http1 import RequestHead

if TYPE_CHECKING:
    from mypy_extensions import i64  # see `seawall.wire.fields`

T = TypeVar("T")

_COMPILED: Final = not __file__.endswith(".py")
_SLASH: Final = 0x2F

# Of the patterns that begin with the same literal segments, each is asked: about 1 us.
MAX_PATTERNS: Final = 32
# The most nodes of the tree that one path can lead to. A literal beside a parameter doubles the
# ways, and a hundred steps cost a request some microseconds.
MAX_WAYS: Final = 128


class _Node(Generic[T]):
    """Where the routes are that begin with the same segments."""

    __slots__ = ("children", "exact", "parameter", "patterns", "prefix", "sure")

    def __init__(self) -> None:
        self.children: dict[bytes, _Node[T]] = {}
        self.parameter: _Node[T] | None = None
        self.exact: Choice[T] | None = None
        self.prefix: Choice[T] | None = None
        self.patterns: tuple[tuple[Pattern, Choice[T]], ...] = ()
        # What `find` gives for every request, where it is the same for all.
        self.sure: Entry[T] | None = None

    def at(self, path: list[str]) -> "_Node[T]":
        """The node of a path below this one, made if it is new."""
        node = self
        for part in path:
            if part[:1] == "{":
                child = node.parameter
                if child is None:
                    child = node.parameter = _Node()
            else:
                child = node.children.get(part.encode())
                if child is None:
                    child = node.children[part.encode()] = _Node()
            node = child
        return node

    def ways(self) -> int:
        """The most nodes that one path leads to from here on."""
        below = max([child.ways() for child in self.children.values()], default=0)
        return 1 + below + (0 if self.parameter is None else self.parameter.ways())

    def find(self, head: RequestHead) -> Entry[T] | None:
        """The best route of which this node's path is only the beginning."""
        if self.patterns:
            for pattern, choice in self.patterns:
                if pattern.fullmatch(head.path) is not None:
                    found = choice.find(head)
                    if found is not None:
                        return found
        return None if self.prefix is None else self.prefix.find(head)


class _Table(Generic[T]):
    """The routes of one host."""

    __slots__ = ("_branches", "_deepest", "_exact", "_nodes", "_root")

    def __init__(self, entries: Iterable[Entry[T]]) -> None:
        self._root: _Node[T] = _Node()
        self._exact: dict[bytes, Choice[T]] = {}
        self._nodes: dict[bytes, _Node[T]] = {}  # those that are not only on the way, by path
        self._deepest: int = 0  # segments of the longest path in the tree
        self._branches: bool = False  # whether a path can lead two ways
        groups: dict[tuple[str, str], list[Entry[T]]] = {}
        for entry in entries:
            groups.setdefault(_place(entry.route), []).append(entry)
        patterns: list[tuple[str, Choice[T]]] = []
        for (kind, path), group in groups.items():
            choice = Choice(group)
            if kind == "regex":
                patterns.append((path, choice))
            elif kind == "exact" and "{" not in path:
                self._exact[path.encode()] = choice
            else:
                node = self._at(segments(path))
                if kind == "exact":
                    node.exact = choice
                else:
                    node.prefix = choice
                    node.sure = choice.sure
        for path, choice in sorted(patterns, key=lambda one: (-len(one[0]), one[1].first)):
            node = self._at(beginning(path))
            node.sure = None
            node.patterns = (*node.patterns, (regex(path), choice))
            if len(node.patterns) > MAX_PATTERNS:
                raise Misconfigured(
                    f"more than {MAX_PATTERNS} patterns begin as {path!r} does",
                    fix="let each begin with literal segments that tell them apart",
                )
        if self._root.ways() > MAX_WAYS:
            raise Misconfigured(
                f"a path can match in more than {MAX_WAYS} ways",
                fix="fewer parameters in places where other routes have literal segments",
            )

    def _at(self, path: list[str]) -> _Node[T]:
        self._deepest = max(self._deepest, len(path))
        self._branches = self._branches or any(part[:1] == "{" for part in path)
        node = self._root.at(path)
        self._nodes["".join(f"/{part}" for part in path).encode()] = node
        return node

    def find(self, head: RequestHead) -> Entry[T] | None:
        path = head.path
        if self._exact and (choice := self._exact.get(path)) is not None:
            found = choice.find(head)
            if found is not None:
                return found
        if self._branches:
            # What lies deeper than every route is one last piece.
            return self._find_branching(head, path.split(b"/", self._deepest + 1)[1:])
        if _COMPILED:
            prefix = walked_beginning(path, self._deepest)
        else:
            prefix = beginning_of(path, self._deepest)
        while True:
            node = self._nodes.get(prefix)
            if node is not None:
                if node.sure is not None:
                    return node.sure
                found = node.find(head)
                if found is not None:
                    return found
            if not prefix:
                return None
            prefix = prefix[: prefix.rfind(b"/")]

    def _find_branching(self, head: RequestHead, parts: list[bytes]) -> Entry[T] | None:
        """The same where a path can lead several ways, the more literal ones first."""
        levels = self._levels(parts)
        for node in levels[-1]:
            if node.exact is not None:
                found = node.exact.find(head)
                if found is not None:
                    return found
        for level in reversed(levels):
            for node in level:
                found = node.find(head)
                if found is not None:
                    return found
        return None

    def _levels(self, parts: list[bytes]) -> list[list[_Node[T]]]:
        """The nodes that the path's beginnings lead to; the last are the whole path's, if any."""
        level = [self._root]
        levels = [level]
        for part in parts:
            below: list[_Node[T]] = []
            for node in level:
                child = node.children.get(part)
                if child is not None:
                    below.append(child)
                if part and node.parameter is not None:
                    below.append(node.parameter)
            levels.append(below)
            if not below:
                break
            level = below
        return levels


def beginning_of(path: bytes, count: int) -> bytes:
    """At most `count` segments of a path."""
    parts = path.split(b"/", count + 1)
    return path if len(parts) < count + 2 else path[: -len(parts[-1]) - 1]


def walked_beginning(path: bytes, count: int) -> bytes:
    """The same, a byte at a time. For compiled code."""
    left: i64 = count
    length: i64 = len(path)
    at: i64 = 1
    while at < length:
        if path[at] == _SLASH:
            left -= 1
            if left == 0:
                return path[:at]
        at += 1
    return path if count else b""


def _place(route: Route) -> tuple[str, str]:
    """What routes share that lie at one place: how their path is meant, and what it matches."""
    if route.regex:
        return "regex", route.path
    parts = route.path.split("/")
    path = "/".join("{}" if part[:1] == "{" else part for part in parts)
    return ("exact", path) if route.exact else ("prefix", path.rstrip("/"))


class Routes(Generic[T]):
    """All routes; `attach` says what each carries along."""

    __slots__ = ("_any", "_has_cors", "_hosts", "_wildcards", "entries")

    def __init__(self, routes: Iterable[Route], attach: Callable[[Route], T]) -> None:
        self.entries = tuple(
            Entry(route, order, attach(route)) for order, route in enumerate(routes)
        )
        self._has_cors: bool = any(entry.route.cors is not None for entry in self.entries)
        by_host: dict[bytes, list[Entry[T]]] = {}
        for entry in self.entries:
            by_host.setdefault(entry.route.host.lower().encode(), []).append(entry)
        self._any: _Table[T] = _Table(by_host.pop(b"", []))
        self._wildcards = {
            host[1:]: _Table(entries) for host, entries in by_host.items() if host[:2] == b"*."
        }
        self._hosts = {
            host: _Table(entries) for host, entries in by_host.items() if host[:2] != b"*."
        }

    def find(self, head: RequestHead) -> Entry[T] | None:
        """The route of a request, or None."""
        if self._has_cors and head.method == b"OPTIONS":
            found = self._find_for_preflight(head)
            if found is not None:
                return found
        if self._hosts and (table := self._hosts.get(head.host)) is not None:
            found = table.find(head)
            if found is not None:
                return found
        if self._wildcards:
            found = self._find_by_wildcard(head)
            if found is not None:
                return found
        return self._any.find(head)

    def _find_for_preflight(self, head: RequestHead) -> Entry[T] | None:
        """The route of the request that a preflight asks about, if CORS is settled there."""
        wanted = wanted_method(head)
        if not wanted or wanted == b"OPTIONS":
            return None
        head.method = wanted
        found = self.find(head)
        head.method = b"OPTIONS"
        return None if found is None or found.route.cors is None else found

    def _find_by_wildcard(self, head: RequestHead) -> Entry[T] | None:
        dot = head.host.find(b".")
        while dot >= 0:
            table = self._wildcards.get(head.host[dot:])
            if table is not None and (found := table.find(head)) is not None:
                return found
            dot = head.host.find(b".", dot + 1)
        return None
