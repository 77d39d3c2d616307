"""Who is asking: bearer tokens (RFC 6750) and API keys, checked by `seawall.identity`."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Protocol
from urllib.parse import unquote_to_bytes

from seawall.errors import Refused, Unavailable
from seawall.gateway.answers import Answer, Flag
from seawall.gateway.forwarding import identity_lines
from seawall.identity.claims import Claims
from seawall.wire.headers import AUTHORIZATION
from seawall.wire.http1 import RequestHead

if TYPE_CHECKING:
    from seawall.gateway.exchange import Exchange

# Callers whose fields are kept. Usual tokens have 0.5 to 1 KiB, and each is kept twice.
MAX_CALLERS: Final = 1024


class Verifier(Protocol):
    """Whether a credential is to be believed. Never waits."""

    def verify(self, presented: str, now: float) -> Claims:
        """What it says, at the wall-clock time `now`.

        Raises `Refused` if it is not believed, `Unavailable` if that cannot be said now.
        """


class Caller:
    """Whom a field once named: what in it was presented, and what was made of the claims."""

    __slots__ = ("claims", "identity", "presented")

    def __init__(self, presented: str, claims: Claims) -> None:
        self.presented: str = presented
        self.claims: Claims = claims
        self.identity: bytes = identity_lines(claims)


@dataclass(frozen=True, slots=True)
class Provider:
    """A verifier, and the header field that holds what it verifies.

    In `authorization` the credential is a bearer token; another field holds it bare.
    """

    verifier: Verifier
    header: str = "authorization"
    # By what Authorization holds. That they are believed is asked of the verifier each time.
    callers: dict[bytes, Caller] = field(default_factory=dict, init=False, compare=False)


class Authenticate:
    """A filter that lets only those pass who are known and have every scope.

    The service hears who it is in `x-identity-*`, which nobody else can set.
    """

    __slots__ = ("_bearer", "_callers", "_header", "_keep", "_scopes", "_verify", "_wall")

    def __init__(
        self,
        provider: Provider,
        scopes: tuple[str, ...],
        keep: bool,
        wall: Callable[[], float],
    ) -> None:
        self._verify: Callable[[str, float], Claims] = provider.verifier.verify
        self._header: bytes = provider.header.lower().encode()
        self._bearer: bool = self._header == AUTHORIZATION
        self._scopes: frozenset[str] = frozenset(scopes)
        self._keep: bool = keep
        self._wall: Callable[[], float] = wall
        self._callers: dict[bytes, Caller] = provider.callers

    def __call__(self, exchange: "Exchange", now: float) -> Answer | None:
        head = exchange.head
        value = head.sole_credential() if self._bearer else b""
        caller = self._callers.get(value)
        if caller is None or (head.query and self._is_elsewhere(head)):
            presented = self._presented(head, value)
            if isinstance(presented, Answer):
                return presented
        else:
            presented = caller.presented
        try:
            claims = self._verify(presented, self._wall())
        except Refused as refusal:
            return self._refusal("invalid_token", str(refusal))
        except Unavailable as unavailable:
            return Answer(
                status=503,
                flag=Flag.UNAUTHORIZED,
                detail=f"who you are cannot be checked now: {unavailable}",
                retry_after=unavailable.retry_after or 1.0,
                retryable=True,
            )
        if self._scopes and not self._scopes.issubset(claims.scopes):
            missing = " ".join(sorted(self._scopes.difference(claims.scopes)))
            return Answer(
                status=403,
                flag=Flag.UNAUTHORIZED,
                detail=f"the scope {missing} is needed",
                headers=self._challenge(f'error="insufficient_scope", scope="{missing}"'),
            )
        if caller is None or caller.claims is not claims:
            caller = Caller(presented, claims)
            if value:
                self._remember(value, caller)
        if not self._keep:
            if value:
                head.remove_credential(value)
            else:
                head.remove(self._header)
        exchange.identify(claims, caller.identity)
        return None

    def _remember(self, value: bytes, caller: Caller) -> None:
        if len(self._callers) >= MAX_CALLERS:
            self._callers.clear()
        self._callers[value] = caller

    def _presented(self, head: RequestHead, sole: bytes) -> str | Answer:
        values = [sole] if sole else head.values(self._header)
        if not values:
            return self._refusal("", "a credential is needed")
        if len(values) > 1 or self._is_elsewhere(head):
            return Answer(
                status=400,
                flag=Flag.UNAUTHORIZED,
                detail="more than one credential",
                headers=self._challenge('error="invalid_request"'),
            )
        value = values[0]
        if self._bearer:
            scheme, _, value = value.partition(b" ")
            if scheme.lower() != b"bearer":
                return self._refusal("", "a bearer token is needed")
        return value.strip(b" ").decode("latin-1")

    def _is_elsewhere(self, head: RequestHead) -> bool:
        """Whether there is a second credential, in a place where a service may look for it."""
        if self._bearer:
            query = head.query
            return b"access_token=" in (unquote_to_bytes(query) if b"%" in query else query)
        names = [line.partition(b":")[0].lower() for line in head.lines]
        return any(name.replace(b"_", b"-") == self._header != name for name in names)

    def _refusal(self, error: str, detail: str) -> Answer:
        return Answer(
            status=401,
            flag=Flag.UNAUTHORIZED,
            detail=detail,
            headers=self._challenge(f'error="{error}"' if error else ""),
        )

    def _challenge(self, more: str) -> dict[str, str]:
        scheme = "Bearer" if self._bearer else "ApiKey"
        return {"www-authenticate": f"{scheme} {more}".strip()}
