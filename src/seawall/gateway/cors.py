"""Which pages of other origins may ask, and read the answers (the Fetch standard's CORS). Pure.

A browser sends `Origin`, and before a request that a plain form could not make it asks with a
preflight: OPTIONS that names the method and the fields to come. What is answered here binds
browsers only; who may do what is for authentication to say.
"""

import re
from dataclasses import dataclass
from typing import Final

from seawall.errors import Misconfigured
from seawall.wire.headers import is_token
from seawall.wire.http1 import RequestHead

ANY: Final = "*"

# Of what a page may ask for on a route that takes every method.
_METHODS: Final = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")

# A browser lists the fields that its page sets; honest pages set a handful.
MAX_ASKED: Final = 50

_REQUEST_METHOD: Final = b"access-control-request-method"

_SCHEMES: Final = r"[a-z][a-z0-9+.\-]*"
_LABELS: Final = r"[a-z0-9_](?:[a-z0-9_.\-]{0,251}[a-z0-9_])?"
_ORIGIN: Final = re.compile(
    rf"({_SCHEMES})://(\*\.)?({_LABELS}|\[[0-9a-f:.]{{2,45}}\])((?::[0-9]{{1,5}})?)"
)
_BELOW: Final = re.compile(_LABELS.encode())


@dataclass(frozen=True, kw_only=True, slots=True)
class Cors:
    """What a route allows pages of other origins. Raises `Misconfigured`.

    An origin is `https://shop.example`, `https://*.shop.example` (any name below it, not itself)
    or `*`, which is every page there is.
    """

    origins: tuple[str, ...]
    methods: tuple[str, ...] = ()  # those of the route if empty
    headers: tuple[str, ...] = ()  # that a page may set beside the harmless ones; "*" = any
    expose: tuple[str, ...] = ()  # that a page may read beside the harmless ones
    credentials: bool = False  # cookies and HTTP authentication go along
    max_age: int = 600  # seconds that a browser may remember the answer to a preflight

    def __post_init__(self) -> None:
        if not self.origins:
            raise Misconfigured("cors without origins", fix='origins = ["https://shop.example"]')
        if ANY in self.origins and self.credentials:
            raise Misconfigured(
                'cors: origins "*" with credentials let every page act for its visitors',
                fix="name the origins, or credentials = false",
            )
        for origin in self.origins:
            if origin != ANY and _ORIGIN.fullmatch(origin.lower()) is None:
                raise Misconfigured(
                    f"cors: {origin!r} is no origin", fix="https://host, without a path"
                )
        for name in (*self.methods, *self.headers, *self.expose):
            if not name.isascii() or not is_token(name.encode()):
                raise Misconfigured(f"cors: {name!r} is no name of a method or field")
        if self.max_age < 0:
            raise Misconfigured(f"cors: max_age is seconds from 0, not {self.max_age}")


def wanted_method(head: RequestHead) -> bytes:
    """The method that a preflight asks for; nothing if this is none."""
    if head.method != b"OPTIONS":
        return b""
    asked = head.values(_REQUEST_METHOD)
    return asked[0] if len(asked) == 1 and head.has(b"origin") else b""


class Origins:
    """Which origins are allowed, prepared."""

    __slots__ = ("_any", "_below", "_exact")

    def __init__(self, origins: tuple[str, ...]) -> None:
        self._any: bool = ANY in origins
        self._exact: frozenset[bytes] = frozenset(origin.lower().encode() for origin in origins)
        below: list[tuple[bytes, bytes]] = []
        for origin in origins:
            found = _ORIGIN.fullmatch(origin.lower())
            if found is not None and found.group(2):
                scheme, _, name, port = found.groups()
                below.append((f"{scheme}://".encode(), f".{name}{port}".encode()))
        self._below: tuple[tuple[bytes, bytes], ...] = tuple(below)

    def allows(self, origin: bytes) -> bool:
        origin = origin.lower()
        if self._any or origin in self._exact:
            return True
        for scheme, ending in self._below:
            if origin.startswith(scheme) and origin.endswith(ending):
                name = origin[len(scheme) : -len(ending)]
                if _BELOW.fullmatch(name) is not None:
                    return True
        return False


class Policy:
    """What a `Cors` says to a request, prepared."""

    __slots__ = (
        "_any",
        "_expose",
        "_headers",
        "_max_age",
        "_methods",
        "_origins",
        "_told",
        "_vary",
    )

    def __init__(self, cors: Cors, methods: tuple[str, ...]) -> None:
        self._origins: Origins = Origins(cors.origins)
        self._any: bool = ANY in cors.origins
        self._methods: str = ", ".join(cors.methods or methods or _METHODS)
        self._headers: tuple[str, ...] = cors.headers
        self._expose: str = ", ".join(cors.expose)
        self._max_age: int = cors.max_age
        self._told: dict[str, str] = {}
        if cors.credentials:
            self._told["access-control-allow-credentials"] = "true"
        self._vary: dict[str, str] = {} if self._any else {"vary": "origin"}

    def allows(self, origins: list[bytes]) -> bool:
        """Whether a request with these `Origin` fields comes from an allowed page."""
        return len(origins) == 1 and self._origins.allows(origins[0])

    def answer(self, origins: list[bytes]) -> dict[str, str]:
        """Fields of the answer to an ordinary request."""
        if not self.allows(origins):
            return self._vary
        fields = {**self._allow(origins[0]), **self._vary}
        if self._expose:
            fields["access-control-expose-headers"] = self._expose
        return fields

    def preflight(self, origins: list[bytes], asked: list[bytes]) -> dict[str, str]:
        """Fields of the answer to a preflight from an allowed origin, which asks for fields."""
        fields = {**self._allow(origins[0]), **self._vary}
        fields["access-control-allow-methods"] = self._methods
        names = self._headers
        if ANY in names:  # in browsers it stands for every field but Authorization
            names = tuple(name.decode() for name in asked[:MAX_ASKED] if is_token(name))
        if names:
            fields["access-control-allow-headers"] = ", ".join(names)
        fields["access-control-max-age"] = str(self._max_age)
        return fields

    def _allow(self, origin: bytes) -> dict[str, str]:
        allowed = ANY if self._any else origin.decode("latin-1")
        return {"access-control-allow-origin": allowed, **self._told}
