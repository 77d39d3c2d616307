"""Which route a request takes. Pure; the order is the Gateway API's (see `config.Route`).

Routes are compiled into a table for each host, with a mapping of exact paths and one of
prefixes. A request costs one look-up for each of its leading segments that a prefix can have,
whatever the number of routes, and the path is the canonical one that is also forwarded.
"""

from collections.abc import Callable, Iterable
from typing import Final, Generic, TypeVar

from seawall.gateway.config import Route
from seawall.wire.http1 import RequestHead

T = TypeVar("T")


class Entry(Generic[T]):
    """A route, prepared for matching, and what its owner attached to it."""

    __slots__ = ("_headers", "_methods", "_plain", "order", "route", "value")

    def __init__(self, route: Route, order: int, value: T) -> None:
        self.route: Final = route
        self.order: Final = order
        self.value: Final = value
        self._methods = frozenset(method.upper().encode() for method in route.methods)
        self._headers = tuple(
            (name.lower().encode(), value_.encode()) for name, value_ in route.headers.items()
        )
        self._plain = not self._methods and not self._headers

    def fits(self, head: RequestHead) -> bool:
        """Whether method and header fields match; host and path do already."""
        if self._plain:
            return True
        if self._methods and head.method not in self._methods:
            return False
        for name, wanted in self._headers:
            values = head.values(name)
            if not values or (wanted != b"*" and wanted not in values):
                return False
        return True

    def rank(self) -> tuple[bool, int, int]:
        return not self._methods, -len(self._headers), self.order


class _Table(Generic[T]):
    """The routes of one host."""

    __slots__ = ("deepest", "exact", "prefix")

    def __init__(self, entries: Iterable[Entry[T]]) -> None:
        self.exact: dict[bytes, tuple[Entry[T], ...]] = {}
        self.prefix: dict[bytes, tuple[Entry[T], ...]] = {}
        self.deepest = 0  # segments of the longest prefix
        for entry in entries:
            path = entry.route.path.encode()
            if entry.route.exact:
                self.exact[path] = _ranked(self.exact.get(path, ()), entry)
            else:
                path = path.rstrip(b"/")
                self.prefix[path] = _ranked(self.prefix.get(path, ()), entry)
                self.deepest = max(self.deepest, path.count(b"/"))

    def find(self, head: RequestHead) -> Entry[T] | None:
        path = head.path
        for entry in self.exact.get(path, ()):
            if entry.fits(head):
                return entry
        # Cut to the segments that a prefix can have, then drop them from the right.
        parts = path.split(b"/", self.deepest + 1)
        prefix = path if len(parts) < self.deepest + 2 else path[: -len(parts[-1]) - 1]
        while True:
            for entry in self.prefix.get(prefix, ()):
                if entry.fits(head):
                    return entry
            if not prefix:
                return None
            prefix = prefix[: prefix.rfind(b"/")]


def _ranked(entries: tuple[Entry[T], ...], new: Entry[T]) -> tuple[Entry[T], ...]:
    return tuple(sorted((*entries, new), key=Entry.rank))


class Routes(Generic[T]):
    """All routes; `attach` says what each carries along."""

    __slots__ = ("_any", "_hosts", "_wildcards", "entries")

    def __init__(self, routes: Iterable[Route], attach: Callable[[Route], T]) -> None:
        self.entries = tuple(
            Entry(route, order, attach(route)) for order, route in enumerate(routes)
        )
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
        if self._hosts and (table := self._hosts.get(head.host)) is not None:
            found = table.find(head)
            if found is not None:
                return found
        if self._wildcards:
            found = self._find_by_wildcard(head)
            if found is not None:
                return found
        return self._any.find(head)

    def _find_by_wildcard(self, head: RequestHead) -> Entry[T] | None:
        dot = head.host.find(b".")
        while dot >= 0:
            table = self._wildcards.get(head.host[dot:])
            if table is not None and (found := table.find(head)) is not None:
                return found
            dot = head.host.find(b".", dot + 1)
        return None


def rewritten(route: Route, path: bytes) -> bytes:
    """The path to forward: the matched part replaced by `rewrite`, the rest as it is."""
    if route.rewrite is None:
        return path
    if route.exact:
        return route.rewrite.encode()
    rest = path[len(route.path.rstrip("/")) :]
    return route.rewrite.encode().rstrip(b"/") + rest or b"/"
