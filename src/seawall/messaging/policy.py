"""Whether and when a message that failed is delivered again. Pure."""

from collections.abc import Callable
from dataclasses import dataclass
from random import Random

from seawall.errors import Misconfigured, Refused
from seawall.messaging.base import Delivery
from seawall.messaging.outcomes import Reject, Retry, Undecodable

# Why a message was given up; the `reason` of its dead letter.
POISON = "poison"  # every allowed attempt ended with the death of its process
UNDECODABLE = "undecodable"
REJECTED = "rejected"
EXHAUSTED = "exhausted"
EXPIRED = "expired"
PARKED = "parked"  # one of its key was given up before it, and their order is kept

# The longest delay that an error may ask for; a server that says more is mistaken.
LONGEST_ASKED = 86_400.0  # seconds


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
    only: tuple[type[Exception], ...] = (Exception,)  # errors after which it is tried again

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
        if isinstance(error, (Reject, *self.fatal)) or not isinstance(error, (Retry, *self.only)):
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
    """The delay that the failure itself names: any error may have a `retry_after`, in seconds."""
    if isinstance(error, Retry):
        return error.after
    asked = getattr(error, "retry_after", None)
    if not isinstance(asked, (int, float)) or not asked >= 0:
        return None
    return min(float(asked), LONGEST_ASKED)


def hopeless(
    delivery: Delivery, attempts: int, wall: Callable[[], float]
) -> tuple[str, str] | None:
    """Reason and error if the handler is not even to see this delivery. `wall` is asked for the
    time only where it matters."""
    if delivery.damage:
        return UNDECODABLE, delivery.damage
    if delivery.attempt > attempts:
        died = delivery.attempt - 1
        return POISON, f"delivered {died} times; the last process to handle it died"
    expires = delivery.message.headers.get("ce-expires")
    if expires is not None:
        try:
            late = wall() - float(expires)
        except ValueError:
            return UNDECODABLE, f"ce-expires {expires!r} is not a number"
        if late > 0:
            return EXPIRED, f"expired {late:.3f} s before it was handled"
    return None
