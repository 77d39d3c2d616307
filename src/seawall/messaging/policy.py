"""Whether and when a message that failed is delivered again. Pure."""

from dataclasses import dataclass
from random import Random

from seawall.errors import Misconfigured, NotSent, Refused
from seawall.messaging.outcomes import Reject, Retry, Undecodable

# Why a message was given up; the `reason` of its dead letter.
POISON = "poison"  # every allowed attempt ended with the death of its process
UNDECODABLE = "undecodable"
REJECTED = "rejected"
EXHAUSTED = "exhausted"
EXPIRED = "expired"


@dataclass(frozen=True, slots=True)
class Again:
    """Deliver it again after `delay` seconds."""

    delay: float


@dataclass(frozen=True, slots=True)
class GiveUp:
    """Put it among the dead letters, for `reason`."""

    reason: str


@dataclass(frozen=True, kw_only=True, slots=True)
class RetryPolicy:
    """First `immediate` retries at once, then exponential back-off with full jitter.

    `attempts` counts deliveries, the first included. With the defaults a message is tried for
    about ten minutes, on average, before it is given up.
    """

    attempts: int = 10
    immediate: int = 1
    base: float = 0.5  # seconds; the ceiling of the first delay, doubled with each further one
    cap: float = 300.0  # seconds; no ceiling is higher
    fatal: tuple[type[Exception], ...] = (Refused,)  # errors that trying again does not change

    def __post_init__(self) -> None:
        if self.attempts < 1:
            raise Misconfigured(f"attempts is at least 1, not {self.attempts}")
        if self.immediate < 0 or self.base < 0 or self.cap < self.base:
            raise Misconfigured(
                f"immediate={self.immediate}, base={self.base}, cap={self.cap} make no back-off",
                fix="immediate >= 0 and 0 <= base <= cap",
            )

    def decide(self, attempt: int, error: Exception, rng: Random) -> Again | GiveUp:
        """What follows after `attempt` (from 1) failed with `error`."""
        if isinstance(error, Undecodable):
            return GiveUp(UNDECODABLE)
        if isinstance(error, (Reject, *self.fatal)):
            return GiveUp(REJECTED)
        if attempt >= self.attempts:
            return GiveUp(EXHAUSTED)
        asked = _asked(error)
        if asked is not None:
            return Again(max(0.0, asked))
        if attempt <= self.immediate:
            return Again(0.0)
        # 2.0 ** 60 seconds is beyond every cap; the bound only keeps the float finite.
        doublings = min(attempt - self.immediate - 1, 60)
        return Again(rng.uniform(0.0, min(self.cap, self.base * 2.0**doublings)))


def _asked(error: Exception) -> float | None:
    """The delay that the failure itself names."""
    if isinstance(error, Retry):
        return error.after
    if isinstance(error, NotSent):
        return error.retry_after
    return None
