"""What a route does itself: redirect, answer, edit fields. Frozen values, checked once.

The filters that do it are in `reshaping`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Final

from seawall.errors import Misconfigured
from seawall.gateway.paths import Substitution, check_target, parameters
from seawall.wire.headers import FORWARDED, PLAIN, RANGE, UNBELIEVED, is_token
from seawall.wire.http1 import CONTROLS
from seawall.wire.target import host_name

REDIRECTS: Final = (301, 302, 303, 307, 308)
# Of an answer written in the configuration. More is a file, and belongs to a service.
MAX_BODY: Final = 64 * 1024
_BODILESS: Final = (204, 205, 304)
_STATUSES: Final = frozenset(status.value for status in HTTPStatus if status >= 200)


@dataclass(frozen=True, kw_only=True, slots=True)
class RegexRewrite:
    """The first match of `pattern` (RE2) in the path becomes `to`, with `\\1` for its groups."""

    pattern: str
    to: str

    def __post_init__(self) -> None:
        Substitution(self.pattern, self.to)


@dataclass(frozen=True, kw_only=True, slots=True)
class Redirect:
    """Send the client elsewhere: what is not named stays as it was asked, the query always."""

    scheme: str = ""
    host: str = ""
    port: int | None = None
    path: str | None = None  # what the matched path becomes, as in `Route.rewrite`
    status: int = 302

    def __post_init__(self) -> None:
        if self.status not in REDIRECTS:
            raise Misconfigured(f"redirect: {self.status} is none of {REDIRECTS}")
        if self.scheme not in ("", "http", "https"):
            raise Misconfigured(f"redirect: scheme {self.scheme!r}", fix="http or https")
        if self.host and (":" in self.host or host_name(self.host.encode("utf-8")) is None):
            raise Misconfigured(f"redirect: {self.host!r} is no host", fix="a name; port apart")
        if self.port is not None and not 0 < self.port < 65536:
            raise Misconfigured(f"redirect: {self.port} is no port")
        if self.path is not None:
            parameters(self.path)
            check_target(self.path)
        if not self.scheme and not self.host and self.port is None and self.path is None:
            raise Misconfigured("redirect: it leads back to itself", fix="scheme, host or path")


@dataclass(frozen=True, kw_only=True, slots=True)
class Respond:
    """Answer without asking anybody."""

    status: int = 200
    body: str = ""
    content_type: str = "text/plain; charset=utf-8"

    def __post_init__(self) -> None:
        if self.status not in _STATUSES:
            raise Misconfigured(f"respond: {self.status} is no status of an answer")
        if self.body and self.status in _BODILESS:
            raise Misconfigured(f"respond: {self.status} has no body")
        if len(self.body.encode()) > MAX_BODY:
            raise Misconfigured(f"respond: a body of more than {MAX_BODY} bytes")
        _check_value("content-type", self.content_type)


@dataclass(frozen=True, kw_only=True, slots=True)
class Edits:
    """Header fields to take away, to replace and to add, in this order."""

    remove: tuple[str, ...] = ()
    set: Mapping[str, str] = field(default_factory=dict)
    add: Mapping[str, str] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.remove or self.set or self.add)

    def check(self, kind: Callable[[bytes], int], what: str) -> None:
        """Refuse what only the gateway says: framing, the connection, who asks, from where."""
        for name in (*self.remove, *self.set, *self.add):
            if not name.isascii() or not is_token(name.encode()):
                raise Misconfigured(f"{what}: {name!r} is no name of a field")
            if kind(name.lower().encode()) not in (PLAIN, RANGE, UNBELIEVED, FORWARDED):
                fix = "host_rewrite" if name.lower() == "host" else None
                raise Misconfigured(f"{what}: {name!r} is the gateway's own", fix=fix)
        for fields in (self.set, self.add):
            for name, value in fields.items():
                _check_value(name, value)


NO_EDITS: Final = Edits()


def _check_value(name: str, value: str) -> None:
    if not value.isascii() or value.encode().translate(None, CONTROLS) != value.encode():
        raise Misconfigured(f"{name}: {value!r} holds what no field can")
