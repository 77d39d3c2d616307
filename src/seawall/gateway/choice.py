"""Which of the routes with one path a request takes: by method, header, query and cookie. Pure.

Few are asked one after another, the best first. Many are looked up by something that each wants
to be equal, so that a thousand tenants told apart by a header cost what one does.
"""

from collections.abc import Mapping
from functools import lru_cache
from typing import Final, Generic, TypeVar
from urllib.parse import unquote_to_bytes

from seawall.errors import Misconfigured
from seawall.gateway.config import Route
from seawall.wire.http1 import RequestHead

T = TypeVar("T")

# So many are asked one by one; more are indexed.
STRAIGHT: Final = 8
# The most that may be left to ask one by one after the index. At some 300 ns each, 64 take
# as long as a system call or two.
MAX_ALIKE: Final = 64
# The most names of fields, parameters and cookies that one path's routes are indexed by.
MAX_NAMES: Final = 16

HEADER: Final = 0
QUERY: Final = 1
COOKIE: Final = 2

ANY: Final = b"*"

# A thing that a request must say: where, under which name, and what.
Sign = tuple[int, bytes, bytes]


@lru_cache(maxsize=8)  # for the request at hand, about which many routes may ask
def query_values(query: bytes) -> dict[bytes, list[bytes]]:
    """The parameters of a query (with its "?"), decoded as forms are."""
    found: dict[bytes, list[bytes]] = {}
    for pair in query[1:].split(b"&"):
        name, _, value = pair.partition(b"=")
        found.setdefault(_decoded(name), []).append(_decoded(value))
    return found


def _decoded(text: bytes) -> bytes:
    if b"+" in text:
        text = text.replace(b"+", b" ")
    return unquote_to_bytes(text) if b"%" in text else text


@lru_cache(maxsize=8)
def cookie_values(cookies: bytes) -> dict[bytes, list[bytes]]:
    """The cookies of a request (RFC 6265, section 4.2), as they were sent."""
    found: dict[bytes, list[bytes]] = {}
    for pair in cookies.split(b";"):
        name, _, value = pair.partition(b"=")
        found.setdefault(name.strip(b" \t"), []).append(value.strip(b" \t"))
    return found


def said(head: RequestHead, kind: int, name: bytes) -> list[bytes]:
    """What a request says under a name."""
    if kind == HEADER:
        return head.values(name)
    if kind == QUERY:
        return query_values(head.query).get(name, []) if head.query else []
    cookies = head.values(b"cookie")
    return cookie_values(b";".join(cookies)).get(name, []) if cookies else []


def signs(
    headers: Mapping[str, str], query: Mapping[str, str], cookies: Mapping[str, str]
) -> tuple[Sign, ...]:
    """What is wanted of a request, prepared for `says`."""
    return (
        *_signs(HEADER, {name.lower(): value for name, value in headers.items()}),
        *_signs(QUERY, query),
        *_signs(COOKIE, cookies),
    )


def _signs(kind: int, wanted: Mapping[str, str]) -> tuple[Sign, ...]:
    return tuple((kind, name.encode(), value.encode()) for name, value in wanted.items())


def says(head: RequestHead, wanted: tuple[Sign, ...]) -> bool:
    """Whether a request says all of it."""
    for kind, name, value in wanted:
        values = said(head, kind, name)
        if not values or (value != ANY and value not in values):
            return False
    return True


class Entry(Generic[T]):
    """A route, prepared for matching, and what its owner attached to it."""

    __slots__ = ("_methods", "_plain", "_signs", "order", "rank", "route", "value")

    def __init__(self, route: Route, order: int, value: T) -> None:
        self.route: Final = route
        self.order: Final = order
        self.value: Final = value
        self._methods: frozenset[bytes] = frozenset(
            method.upper().encode() for method in route.methods
        )
        self._signs: tuple[Sign, ...] = signs(route.headers, route.query, route.cookies)
        self._plain: bool = not self._methods and not self._signs
        # The Gateway API's order among routes with one path.
        self.rank: Final = (
            not self._methods,
            -len(route.headers),
            -len(route.query),
            -len(route.cookies),
            order,
        )

    def fits(self, head: RequestHead) -> bool:
        """Whether all but host and path matches; these do already."""
        if self._plain:
            return True
        if self._methods and head.method not in self._methods:
            return False
        return says(head, self._signs)

    def is_plain(self) -> bool:
        """Whether every request fits."""
        return self._plain

    def wants(self) -> tuple[frozenset[bytes], frozenset[Sign]]:
        """All that must hold; what is equal here, fits the same requests."""
        return self._methods, frozenset(self._signs)

    def equalities(self) -> list[Sign]:
        return [sign for sign in self._signs if sign[2] != ANY]


def _rank(entry: Entry[T]) -> tuple[bool, int, int, int, int]:
    return entry.rank


class Choice(Generic[T]):
    """Routes with one path. Raises `Misconfigured` for many that nothing tells apart quickly."""

    __slots__ = ("_index", "_rest", "first", "sure")

    def __init__(self, entries: list[Entry[T]]) -> None:
        ranked = _reachable(sorted(entries, key=_rank))
        self.first: Final = min(entry.order for entry in entries)
        self._rest: tuple[Entry[T], ...] = tuple(ranked)
        # The first, if every request fits: on most paths there is but one.
        self.sure: Entry[T] | None = ranked[0] if ranked[0].is_plain() else None
        self._index: dict[tuple[int, bytes], dict[bytes, list[Entry[T]]]] = {}
        if len(ranked) > STRAIGHT:
            self._make_index(ranked)

    def find(self, head: RequestHead) -> Entry[T] | None:
        """The best that fits."""
        if self.sure is not None:
            return self.sure
        candidates = self._candidates(head) if self._index else self._rest
        for entry in candidates:
            if entry.fits(head):
                return entry
        return None

    def _candidates(self, head: RequestHead) -> tuple[Entry[T], ...]:
        found: list[Entry[T]] = []
        for (kind, name), by_value in self._index.items():
            for value in set(said(head, kind, name)):
                found += by_value.get(value, [])
        return tuple(sorted((*found, *self._rest), key=_rank)) if found else self._rest

    def _make_index(self, entries: list[Entry[T]]) -> None:
        """Put each under the equality that it shares with the fewest others."""
        shared: dict[Sign, int] = {}
        for entry in entries:
            for sign in entry.equalities():
                shared[sign] = shared.get(sign, 0) + 1
        rest: list[Entry[T]] = []
        for entry in entries:
            signs = entry.equalities()
            if not signs:
                rest.append(entry)
                continue
            kind, name, value = min(signs, key=lambda sign: (shared[sign], sign[:2]))
            self._index.setdefault((kind, name), {}).setdefault(value, []).append(entry)
        self._rest = tuple(rest)
        self._check(entries[0].route)

    def _check(self, route: Route) -> None:
        groups = [group for by in self._index.values() for group in by.values()]
        most = max([len(self._rest), *[len(group) for group in groups]])
        if most > MAX_ALIKE or len(self._index) > MAX_NAMES:
            raise Misconfigured(
                f"{most} routes of {route.host}{route.path} are to be told apart one by one, "
                f"by {len(self._index)} names",
                fix="let each want an equal value of one header, query parameter or cookie",
            )


def _reachable(ranked: list[Entry[T]]) -> list[Entry[T]]:
    """Without those that an earlier one always comes before."""
    kept: list[Entry[T]] = []
    seen: set[tuple[frozenset[bytes], frozenset[Sign]]] = set()
    for entry in ranked:
        if entry.wants() not in seen:
            seen.add(entry.wants())
            kept.append(entry)
        if entry.is_plain():
            break
    return kept
