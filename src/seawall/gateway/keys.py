"""What a request sticks to: the key that a consistent hash places, or that a cookie names.

Made when a cluster is; a cluster without a key asks for none. An empty key is no key: the request
is balanced like any other.
"""

from collections.abc import Callable
from hashlib import blake2b
from typing import TYPE_CHECKING

from seawall.gateway.balance import Sticky, checked_hash_on
from seawall.gateway.choice import COOKIE, HEADER, QUERY, said

if TYPE_CHECKING:
    from seawall.gateway.exchange import Exchange

Key = Callable[["Exchange"], str]


def key_of(hash_on: str) -> Key:
    """The key that a configuration asks for. Raises `Misconfigured`."""
    kind, name = checked_hash_on(hash_on)
    match kind:
        case "header":
            return Said(HEADER, name)
        case "cookie":
            return Said(COOKIE, name)
        case "query":
            return Said(QUERY, name)
        case "address":
            return by_address
        case "identity":
            return by_identity
        case _:
            return by_path


def by_address(exchange: "Exchange") -> str:
    return exchange.client


def by_identity(exchange: "Exchange") -> str:
    """Who asks; the address where nobody is known, and never the two taken for each other."""
    return f"subject {exchange.subject}" if exchange.subject else exchange.client


def by_path(exchange: "Exchange") -> str:
    return exchange.head.path.decode("latin-1")


class Said:
    """The first of what a request says under a name."""

    __slots__ = ("_kind", "_name")

    def __init__(self, kind: int, name: str) -> None:
        self._kind: int = kind
        self._name: bytes = name.encode()

    def __call__(self, exchange: "Exchange") -> str:
        values = said(exchange.head, self._kind, self._name)
        return values[0].decode("latin-1") if values else ""


class Stickiness:
    """Names instances in cookies, and says when a client needs another one."""

    __slots__ = ("_head", "_key", "_secret", "_service", "_tail")

    def __init__(self, config: Sticky, service: str) -> None:
        self._key: Said = Said(COOKIE, config.cookie)
        self._service: str = service
        # A key of BLAKE2b has 64 bytes at most.
        self._secret: bytes = blake2b(config.secret.encode()).digest()
        self._head: bytes = b"set-cookie: %b=" % config.cookie.encode()
        age = f"; Max-Age={int(config.ttl)}" if config.ttl else ""
        secure = "; Secure" if config.secure else ""
        self._tail: bytes = (
            f"; Path={config.path}{age}; HttpOnly; SameSite=Lax{secure}\r\n"
        ).encode()

    def key(self, exchange: "Exchange") -> str:
        return self._key(exchange)

    def token(self, instance_id: str) -> str:
        """What a cookie calls an instance. The place, so that it outlives a restart."""
        text = f"{self._service}/{instance_id}".encode()
        return blake2b(text, digest_size=12, key=self._secret).hexdigest()

    def told(self, exchange: "Exchange", token: str) -> bytes:
        """The header line for the client: a cookie, unless it has this one."""
        if self._key(exchange) == token:
            return b""
        return self._head + token.encode() + self._tail
