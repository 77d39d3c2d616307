"""How a service's instances share its requests: what a configuration says of it, checked."""

from dataclasses import dataclass

from seawall.errors import Misconfigured
from seawall.wire.headers import PLAIN, is_token, request_kind

_NAMED = ("header", "cookie", "query")
_WHOLE = ("address", "identity", "path")


def checked_hash_on(text: str) -> tuple[str, str]:
    """The kind and the name in `header:x-tenant`. Raises `Misconfigured`; nothing is nothing."""
    kind, colon, name = text.partition(":")
    if not text or (kind in _WHOLE and not colon):
        return kind, ""
    if kind not in _NAMED or not name:
        raise Misconfigured(
            f"hash_on: {text!r} is nothing that a request has",
            fix="header:NAME, cookie:NAME, query:NAME, address, identity or path",
        )
    if kind == "header" and request_kind(name.lower().encode("ascii", "replace")) != PLAIN:
        raise Misconfigured(f"hash_on: {name} is taken out of a request before it is balanced")
    return kind, name.lower() if kind == "header" else name


@dataclass(frozen=True, kw_only=True, slots=True)
class Sticky:
    """A cookie that names the instance which answered, so that the client's next request goes
    there. Raises `Misconfigured`.

    The value is a keyed hash of the instance's place: it says nothing of addresses, and is the
    same from every gateway with the same `secret`.
    """

    cookie: str = "seawall-instance"
    ttl: float = 0.0  # seconds; 0 = until the browser is closed
    path: str = "/"
    secure: bool = False  # only over TLS, which ends in front of the gateway
    secret: str = ""  # whoever knows it can tell which instance a cookie means

    def __post_init__(self) -> None:
        if not is_token(self.cookie.encode("ascii", "replace")) or "?" in self.cookie:
            raise Misconfigured(f"{self.cookie!r} cannot name a cookie", fix="seawall-instance")
        plain = self.path.isascii() and self.path.isprintable() and ";" not in self.path
        if not self.path.startswith("/") or not plain:
            raise Misconfigured(f"a cookie's path starts with /, unlike {self.path!r}")
        if self.ttl < 0:
            raise Misconfigured(f"ttl is 0 seconds or more, not {self.ttl}")


@dataclass(frozen=True, kw_only=True, slots=True)
class HealthCheck:
    """Asks each instance whether it is well. Raises `Misconfigured`."""

    path: str = "/readyz"
    interval: float = 5.0  # seconds between checks of one instance, give or take a tenth
    timeout: float = 1.0  # seconds from the connection to the answer's first line
    unhealthy: int = 3  # failures in a row
    healthy: int = 2  # passes in a row
    port: int = 0  # where it is asked; 0 = where it serves
    expect: tuple[int, ...] = (200,)

    def __post_init__(self) -> None:
        good = self.path.isascii() and self.path.isprintable() and " " not in self.path
        if not self.path.startswith("/") or not good:
            raise Misconfigured(f"a check's path starts with /, unlike {self.path!r}")
        if not 0 < self.timeout <= self.interval:
            raise Misconfigured("timeout is above 0 and at most interval", fix="timeout = 1.0")
        if self.unhealthy < 1 or self.healthy < 1:
            raise Misconfigured("unhealthy and healthy are checks in a row: 1 or more")
        if not 0 <= self.port <= 65535:
            raise Misconfigured(f"port is in [0, 65535], not {self.port}")
        if not self.expect or not all(100 <= status <= 599 for status in self.expect):
            raise Misconfigured("expect names statuses", fix="expect = [200]")
