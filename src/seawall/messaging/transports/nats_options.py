"""Where a NATS is and how its streams are made: typed, and read from an address."""

from dataclasses import dataclass, fields
from typing import Any, Literal
from urllib.parse import parse_qsl, urlsplit, urlunsplit

from seawall.errors import Misconfigured

# Messages a topic holds because some group has not settled them; then `publish` refuses with
# `Full`. On disk, about half a gigabyte at 300 bytes each.
BACKLOG = 1_000_000

UNREAD = 100_000  # messages kept of a full topic that has no group; the oldest go


@dataclass(frozen=True, kw_only=True, slots=True)
class Nats:
    """Where a NATS is and how its streams are made; `nats://HOST:4222?replicas=3` says the same."""

    servers: tuple[str, ...]  # tried in this order
    replicas: int = 1  # of each stream, in a cluster
    storage: Literal["file", "memory"] = "file"
    fsync: bool = False  # the server runs with `sync_interval: always`; it does not tell
    duplicates: float = 120.0  # seconds in which a second message of the same id is dropped
    domain: str = ""  # JetStream's, behind a leaf node
    credentials: str = ""  # a file of user JWT and seed
    timeout: float = 5.0  # seconds an answer may take
    backlog: int = BACKLOG
    unread: int = UNREAD

    def __post_init__(self) -> None:
        if not self.servers:
            raise Misconfigured("no NATS server", fix="nats://HOST:4222")
        if self.replicas not in (1, 3, 5):
            raise Misconfigured(f"replicas={self.replicas}", fix="1, 3 or 5")
        if self.storage not in ("file", "memory"):
            raise Misconfigured(f"storage={self.storage!r}", fix="file or memory")
        if self.timeout <= 0 or self.duplicates <= 0:
            raise Misconfigured(f"timeout={self.timeout} s, duplicates={self.duplicates} s")

    @staticmethod
    def parse(url: str) -> "Nats":
        """From `nats://USER:PASSWORD@HOST:4222,HOST:4222?replicas=3&fsync=true`; `tls://` too."""
        parts = urlsplit(url)
        login, at, hosts = parts.netloc.rpartition("@")
        servers = tuple(
            urlunsplit((parts.scheme, f"{login}{at}{host}", "", "", ""))
            for host in (hosts or "localhost:4222").split(",")
        )
        known = {field.name: field.default for field in fields(Nats)}
        options: dict[str, Any] = {}
        for name, text in parse_qsl(parts.query):
            if name not in known or name == "servers":
                raise Misconfigured(f"{name!r} in a NATS URL", fix="one of " + ", ".join(known))
            options[name] = _value(name, text, known[name])
        return Nats(servers=servers, **options)


def _value(name: str, text: str, default: object) -> object:
    if isinstance(default, bool):
        return text.lower() in ("1", "true", "yes", "on")
    try:
        return type(default)(text)  # type: ignore[call-arg]  # int, float or str
    except ValueError:
        raise Misconfigured(f"{name}={text!r} in a NATS URL", fix="a number") from None
