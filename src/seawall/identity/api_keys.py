"""API keys: long random words, of which only the SHA-256 is kept.

A plain hash is enough, unlike for passwords: a key has 256 random bits, so there is nothing to
guess. The hash is also what makes the look-up safe in time: what an attacker can vary is
unrelated to the order in which hashes are compared.
"""

import hashlib
import re
import secrets
from collections.abc import Iterable
from dataclasses import dataclass

from seawall.errors import Misconfigured
from seawall.identity.claims import Claims, Expired, TokenTooLarge, UnknownApiKey

MAX_KEY = 512  # characters; ours have 46
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiKey:
    """Who holds the key with this hash, and what they may do."""

    sha256: str  # of the key, in hexadecimal
    subject: str
    scopes: tuple[str, ...] = ()
    plan: str = ""
    expires_at: float = float("inf")  # wall clock, seconds since 1970

    def __post_init__(self) -> None:
        if not _SHA256.fullmatch(self.sha256.lower()):
            raise Misconfigured(
                f"the sha256 of {self.subject}'s API key is not one",
                fix="printf %s KEY | sha256sum",
            )
        if not self.subject.isprintable() or not all(map(str.isprintable, self.scopes)):
            raise Misconfigured("subject and scopes of an API key become headers: one line each")


def new_api_key(
    subject: str, *, scopes: Iterable[str] = (), expires_at: float = float("inf")
) -> tuple[str, ApiKey]:
    """A key to hand out once, and the record of it to keep."""
    secret = f"sw_{secrets.token_urlsafe(32)}"
    record = ApiKey(
        sha256=hashlib.sha256(secret.encode()).hexdigest(),
        subject=subject,
        scopes=tuple(sorted(scopes)),
        expires_at=expires_at,
    )
    return secret, record


class ApiKeys:
    """The API keys that are accepted."""

    def __init__(self, keys: Iterable[ApiKey], *, issuer: str = "api-key") -> None:
        self._claims: dict[str, Claims] = {}
        for key in keys:
            self._claims[key.sha256.lower()] = Claims(
                subject=key.subject,
                issuer=issuer,
                scopes=tuple(sorted(key.scopes)),
                expires_at=key.expires_at,
                plan=key.plan,
            )

    def verify(self, presented: str, now: float) -> Claims:
        """Whose key this is, at the wall-clock time `now`. Raises a `NotAuthentic`."""
        if len(presented) > MAX_KEY:
            raise TokenTooLarge
        digest = hashlib.sha256(presented.encode(errors="replace")).hexdigest()
        claims = self._claims.get(digest)
        if claims is None:
            raise UnknownApiKey
        if now >= claims.expires_at:
            raise Expired
        return claims

    def __repr__(self) -> str:
        return f"<ApiKeys {len(self._claims)} keys>"
