"""Whether a failed call may be tried again, and after how long.

The error's type answers the first question (`seawall.errors`), everything else only forbids:
tries, deadline, and last the budget, which is charged only by a retry that will happen.
"""

from dataclasses import dataclass
from enum import Enum
from random import Random

from seawall.errors import BreakerOpen, Full, Misconfigured, NotSent, OutcomeUnknown, SeawallError
from seawall.resilience.backoff import jittered
from seawall.resilience.budget import RetryBudget
from seawall.resilience.deadline import Deadline


@dataclass(frozen=True, kw_only=True, slots=True)
class RetryConfig:
    """How often and how fast. Raises `Misconfigured`."""

    attempts: int = 3  # in all, with the first
    base: float = 0.025  # seconds; the ceiling of the first wait, doubled by each further one
    cap: float = 1.0  # seconds; where the doubling ends
    patience: float = 5.0  # seconds; a longer Retry-After is for our caller to wait out

    def __post_init__(self) -> None:
        if self.attempts < 1:
            raise Misconfigured(f"attempts is 1 or more, not {self.attempts}")
        if not 0 <= self.base <= self.cap:
            raise Misconfigured(f"base {self.base} is between 0 and cap {self.cap}")


class Stop(Enum):
    """Why there is no other try."""

    FINAL = "the error is final"
    SPENT = "a layer below has tried again already"
    NOT_IDEMPOTENT = "it may have happened, and it is not idempotent"
    ATTEMPTS = "all tries are used"
    OPEN = "the breaker is open, and there is nobody else to ask"
    PATIENCE = "the destination asked for a longer pause"
    DEADLINE = "the deadline would pass while waiting"
    BUDGET = "the retry budget is spent"


@dataclass(frozen=True, slots=True)
class Again:
    """Try again after `wait` seconds."""

    wait: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Try:
    """A try that failed, as far as it matters for the next."""

    error: SeawallError
    number: int  # from 1
    idempotent: bool  # or carries an idempotency key
    deadline: Deadline | None = None
    # The next try can go to another instance, so that this one's breaker and lack of room do
    # not bind it.
    elsewhere: bool = False


def decide(
    tried: Try, *, config: RetryConfig, budget: RetryBudget, rng: Random, now: float
) -> Again | Stop:
    """What follows after `tried`. If it is `Again`, one retry has been taken off the budget."""
    forbidden = _forbidden(tried, config)
    if forbidden is not None:
        return forbidden
    pause = _asked_pause(tried)
    if pause > config.patience:
        return Stop.PATIENCE
    wait = max(pause, jittered(tried.number, config.base, config.cap, rng))
    if tried.deadline is not None and tried.deadline.remaining(now) <= wait:
        return Stop.DEADLINE
    return Again(wait) if budget.withdraw(now) else Stop.BUDGET


def _forbidden(tried: Try, config: RetryConfig) -> Stop | None:
    error = tried.error
    if not isinstance(error, (NotSent, OutcomeUnknown)):
        return Stop.FINAL
    if isinstance(error, OutcomeUnknown) and not tried.idempotent:
        return Stop.NOT_IDEMPOTENT
    if isinstance(error, BreakerOpen) and not tried.elsewhere:
        return Stop.OPEN  # waiting for it would undo what a breaker is for: to fail at once
    if error.spent:
        return Stop.SPENT
    return Stop.ATTEMPTS if tried.number >= config.attempts else None


def _asked_pause(tried: Try) -> float:
    error = tried.error
    if not isinstance(error, NotSent) or error.retry_after is None:
        return 0.0
    if tried.elsewhere and isinstance(error, (BreakerOpen, Full)):
        return 0.0
    return error.retry_after
