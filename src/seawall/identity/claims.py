"""What a credential says, once it is believed, and the ways in which it is not."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

from seawall.errors import Refused, Unavailable


@dataclass(frozen=True, slots=True)
class Claims:
    """Somebody, as a trusted issuer describes them.

    `subject` and `scopes` are printable and hold no line ends, so they may become headers.
    `plan` is how much they may ask for; empty where nobody said.
    """

    subject: str
    issuer: str
    scopes: tuple[str, ...] = ()  # sorted
    audience: tuple[str, ...] = ()
    expires_at: float = float("inf")  # wall clock, seconds since 1970
    issued_at: float | None = None
    token_id: str | None = None
    plan: str = ""
    extra: Mapping[str, object] = field(default_factory=dict)  # claims of the issuer's own


class NotAuthentic(Refused):
    """The credential is not believed. `reason` is one of a few words, fit for a metric."""

    reason: ClassVar[str] = "not authentic"

    def __init__(self, detail: str = "") -> None:
        super().__init__(f"{self.reason}: {detail}" if detail else self.reason)


class TokenTooLarge(NotAuthentic):
    reason = "too large"


class Malformed(NotAuthentic):
    reason = "malformed"


class WrongAlgorithm(NotAuthentic):
    """`alg` is none, is not allowed here, or is not that of the key."""

    reason = "wrong algorithm"


class UnknownKey(NotAuthentic):
    """No trusted key fits. It may be a new one: where keys are fetched, they are soon again."""

    reason = "unknown key"


class BadSignature(NotAuthentic):
    reason = "bad signature"


class Expired(NotAuthentic):
    reason = "expired"


class NotYetValid(NotAuthentic):
    reason = "not yet valid"


class WrongIssuer(NotAuthentic):
    reason = "wrong issuer"


class WrongAudience(NotAuthentic):
    reason = "wrong audience"


class UnknownApiKey(NotAuthentic):
    reason = "unknown API key"


class KeysUnavailable(Unavailable):
    """The issuer's keys were never read, so nothing can be said about any token yet."""
