"""Sessions kept on the server: the browser holds a random name, the data stays here.

A replica keeps nothing, so any replica may answer, and a session can be ended. The protocol and
its values; the suite in `tests/contract/test_sessions.py` is this file as code.
"""

import hashlib
import json
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol
from urllib.parse import urlsplit

from seawall.errors import Misconfigured, Refused
from seawall.registry.connect import RESP_SCHEMES, split_namespace

# Bytes of a session as JSON. It is read with every request; what is larger belongs in a database.
MAX_SESSION = 16 * 1024

_ID = re.compile(r"[A-Za-z0-9_-]{43}")  # 256 bits in base64url


class SessionLost(Refused):
    """There is no such session any more: it expired, was ended, or its name was changed."""


class SessionConflict(Refused):
    """Somebody else saved this session since it was loaded. Load it again, and decide again."""


class SessionTooLarge(Refused):
    """The data is more than `MAX_SESSION` bytes as JSON, or no JSON."""


@dataclass(frozen=True, slots=True)
class Session:
    """A session as it was loaded. `session_id` is the secret in the cookie."""

    session_id: str = field(repr=False)
    data: Mapping[str, Any]
    version: int = 1


@dataclass(frozen=True, kw_only=True, slots=True)
class SessionRules:
    """How long a session lives."""

    idle: float = 30 * 60.0  # seconds without a request
    lifetime: float = 7 * 24 * 3600.0  # seconds from its creation, whatever happens

    def __post_init__(self) -> None:
        if not 0 < self.idle <= self.lifetime:
            raise Misconfigured("idle is in seconds above 0, and no more than lifetime")


class Sessions(Protocol):
    """A store of sessions, shared by all replicas.

    Nothing is overwritten unseen: `save` and `rotate` succeed only on the version that was
    loaded. Every method raises `Unavailable` when the store cannot be reached.
    """

    async def create(self, data: Mapping[str, Any]) -> Session:
        """Store `data` under a new random name."""

    async def load(self, session_id: str) -> Session | None:
        """The session, which thereby starts its idle time anew; None for whatever is none."""

    async def save(self, session: Session, data: Mapping[str, Any]) -> Session:
        """Replace the data. Raises `SessionConflict`, `SessionLost` or `SessionTooLarge`."""

    async def rotate(self, session: Session, data: Mapping[str, Any]) -> Session:
        """Replace the data and the name, in one step; the old name is worth nothing then.

        For log-in and every other change of rights: a name planted in a browser before does not
        become a name with rights. Raises as `save` does.
        """

    async def end(self, session_id: str) -> None:
        """Forget the session. No error if there is none."""

    async def aclose(self) -> None:
        """Give back connections. Calling it twice is fine."""


def new_session_id() -> str:
    return secrets.token_urlsafe(32)


def stored_name(session_id: str) -> str | None:
    """The name a session is stored under: a hash, so that whoever reads the store cannot enter
    with what is there. None for what cannot be a session's name."""
    if not _ID.fullmatch(session_id):
        return None
    return hashlib.sha256(session_id.encode()).hexdigest()


def written(data: Mapping[str, Any]) -> bytes:
    """`data` as JSON. Raises `SessionTooLarge`."""
    try:
        document = json.dumps(dict(data), separators=(",", ":"), allow_nan=False).encode()
    except (TypeError, ValueError, RecursionError) as exc:
        raise SessionTooLarge(f"a session holds JSON: {exc}") from exc
    if len(document) > MAX_SESSION:
        raise SessionTooLarge(f"{len(document)} bytes; at most {MAX_SESSION}")
    return document


def open_sessions(url: str, rules: SessionRules | None = None) -> Sessions:
    """The store at `url`, of the kinds of `seawall.registry.connect.open_registry`."""
    rules = rules or SessionRules()
    scheme = urlsplit(url).scheme
    # Imported here, since whoever uses one store need not load the other's libraries.
    if scheme == "memory":
        from seawall.identity.sessions_memory import MemorySessions

        return MemorySessions(urlsplit(url).netloc or "default", rules)
    if scheme in RESP_SCHEMES:
        from seawall.identity.sessions_valkey import ValkeySessions

        url, namespace = split_namespace(url)
        return ValkeySessions(url, rules, namespace=namespace)
    raise Misconfigured(
        f"{scheme or url!r} is no kind of session store",
        fix="memory://NAME, redis://HOST:6379/0, valkey://…, rediss://… or unix:///PATH.sock?db=0",
    )
