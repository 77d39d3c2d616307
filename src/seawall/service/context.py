"""What a running handler knows about whom it works for: request id, deadline, identity.

Set by the HTTP edge and by message handling, read by the client, the database and dependencies.
One context variable holds one object, so that a request pays for it once.
"""

from collections.abc import Mapping
from contextvars import ContextVar, Token
from dataclasses import dataclass
from types import MappingProxyType
from typing import Annotated, Any

from fastapi import Depends, HTTPException

from seawall.clock import SYSTEM, Clock
from seawall.resilience.deadline import Deadline

SUBJECT = "x-identity-subject"
SCOPES = "x-identity-scopes"
ISSUER = "x-identity-issuer"
REQUEST_ID = "x-request-id"
IDEMPOTENCY_KEY = "idempotency-key"


@dataclass(frozen=True, slots=True)
class Identity:
    """Who asks, as the gateway has checked it."""

    subject: str
    scopes: frozenset[str] = frozenset()
    issuer: str = ""


_NOBODY: Mapping[str, str] = MappingProxyType({})


class Context:
    """The work under way. Treat it as frozen: a frozen dataclass would cost a microsecond of
    every request."""

    __slots__ = ("caller", "deadline", "idempotency_key", "request_id")

    def __init__(
        self,
        request_id: str = "",
        deadline: Deadline | None = None,
        caller: Mapping[str, str] = _NOBODY,
        idempotency_key: str | None = None,
    ) -> None:
        self.request_id = request_id
        self.deadline = deadline  # nobody wants the answer later
        self.caller = caller  # the identity headers as received
        self.idempotency_key = idempotency_key

    @property
    def identity(self) -> Identity | None:
        """Who asks; None if nobody has said."""
        subject = self.caller.get(SUBJECT)
        if not subject:
            return None
        scopes = frozenset(self.caller.get(SCOPES, "").replace(",", " ").split())
        return Identity(subject, scopes, self.caller.get(ISSUER, ""))

    def remaining(self, clock: Clock = SYSTEM) -> float | None:
        """Seconds until nobody wants the answer; None without a deadline."""
        return None if self.deadline is None else self.deadline.remaining(clock.now())

    def __repr__(self) -> str:
        return f"<Context {self.request_id} {self.deadline} {self.identity}>"


NOTHING = Context()

_CURRENT: ContextVar[Context] = ContextVar("seawall_context", default=NOTHING)


def current() -> Context:
    """The context of the running code; an empty one outside requests and messages."""
    return _CURRENT.get()


def enter(context: Context) -> None:
    """Make `context` current for the rest of this task."""
    _CURRENT.set(context)


def swap(context: Context) -> Token[Context]:
    """As `enter`, for code that shares its task with other work: `restore` afterwards."""
    return _CURRENT.set(context)


def restore(token: Token[Context]) -> None:
    _CURRENT.reset(token)


async def identity() -> Identity:
    """Dependency: who asks. Answers 401 where the gateway let nobody be known."""
    found = current().identity
    if found is None:
        raise HTTPException(401, "This needs an identity.", {"www-authenticate": "Bearer"})
    return found


Caller = Annotated[Identity, Depends(identity)]
"""A parameter of this type is who asks: `async def place(order: NewOrder, caller: Caller)`."""


def requires(*scopes: str) -> Any:
    """Dependency: who asks, if they hold every one of `scopes`; answers 403 otherwise.

    `admin: Annotated[Identity, requires("orders:write")]`
    """

    async def check(found: Caller) -> Identity:
        missing = [name for name in scopes if name not in found.scopes]
        if missing:
            raise HTTPException(403, f"This needs the scope {' '.join(missing)}.")
        return found

    return Depends(check)
