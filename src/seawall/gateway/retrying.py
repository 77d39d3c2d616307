"""Whether a request whose try failed is sent once more, and after how long. Pure.

By default only where it is safe whatever the service did: a connection that was never opened
carried nothing, and everything else is tried again only for methods that may happen twice or with
an idempotency key. What waits is only what has to: an instance that was not asked yet has nothing
to do with the one that failed to answer, so it is asked at once.
"""

from dataclasses import dataclass, replace
from random import Random
from typing import Final

from seawall.errors import Misconfigured, NotSent
from seawall.resilience.budget import RetryBudget
from seawall.resilience.deadline import Deadline
from seawall.resilience.retry import Again, RetryConfig, Stop, Try, decide

# How a try fails, beside the statuses of answers.
CONNECT: Final = "connect"  # no connection: the request was not sent
RESET: Final = "reset"  # the connection was closed before the answer
TIMEOUT: Final = "timeout"  # of this try
# An instance that refuses, or is broken in a way that another need not be.
RETRYABLE_STATUSES: Final = frozenset((429, *range(500, 600)))

IDEMPOTENT: Final = ("GET", "HEAD", "OPTIONS", "PUT", "DELETE")  # RFC 9110, 9.2.2
EVERY: Final = ("*",)
IDEMPOTENCY_KEY: Final = b"idempotency-key"
# Says that the tries there were are used up: whoever reads it does not begin anew.
SPENT: Final = b"x-retryable"

# Why there is no other try, such that there should be none by others either.
USED_UP: Final = frozenset((Stop.ATTEMPTS, Stop.BUDGET, Stop.SPENT))

_MAX_DIGITS: Final = 9


def failures(words: tuple[str, ...], also: tuple[str, ...], what: str) -> frozenset[int]:
    """The statuses among `words`; the others must be in `also`. Raises `Misconfigured`."""
    for word in words:
        if word not in also and not (word.isdigit() and int(word) in RETRYABLE_STATUSES):
            raise Misconfigured(
                f"{what} does not know {word!r}", fix=f"{', '.join(also)}, 429, or 500 to 599"
            )
    return frozenset(int(word) for word in words if word.isdigit())


@dataclass(frozen=True, kw_only=True, slots=True)
class Retry:
    """When, how often and how fast a route tries again. Raises `Misconfigured`.

    No status is retried unless a route says so: it is the service's answer, and whether the next
    instance gives another only its owner knows.
    """

    attempts: int = 0  # in all, with the first; 0 = as many as the service allows
    on: tuple[str, ...] = (CONNECT, RESET, TIMEOUT)  # or statuses: "429", "503"
    # Any with an Idempotency-Key counts as one of these; EVERY is for services that forget twins.
    methods: tuple[str, ...] = IDEMPOTENT
    base: float = 0.025  # seconds; the ceiling of the first wait, doubled by each further one
    cap: float = 0.25  # seconds; where the doubling ends: a client waits meanwhile
    patience: float = 1.0  # seconds; a longer Retry-After is passed on

    def __post_init__(self) -> None:
        failures(self.on, (CONNECT, RESET, TIMEOUT), "retry.on")
        if self.patience < 0:
            raise Misconfigured(f"patience is 0 seconds or more, not {self.patience}")
        if self.attempts < 0:
            raise Misconfigured(f"attempts is 0 or more, not {self.attempts}")
        self.waits(1)

    def waits(self, attempts: int) -> RetryConfig:
        return RetryConfig(attempts=attempts, base=self.base, cap=self.cap, patience=self.patience)


class Failed:
    """A try that failed, as far as it matters for the next."""

    __slots__ = (
        "deadline",
        "elsewhere",
        "keyed",
        "method",
        "number",
        "pause",
        "reason",
        "spent",
        "took",
    )

    def __init__(
        self, reason: str, *, number: int, method: bytes, keyed: bool, took: float, deadline: float
    ) -> None:
        self.reason: str = reason
        self.number: int = number  # from 1
        self.method: bytes = method
        self.keyed: bool = keyed
        self.took: float = took  # seconds
        self.deadline: float = deadline  # of the whole request
        self.elsewhere: bool = False  # there is an instance that was not asked yet
        self.pause: float | None = None  # seconds that the answer asks for
        self.spent: bool = False  # the answer says that there were tries enough


class Retrying:
    """A route's policy, prepared; `attempts` are what its service allows."""

    __slots__ = ("_at_once", "_every", "_methods", "_on", "_waits", "statuses")

    def __init__(self, retry: Retry, attempts: int) -> None:
        self._on: frozenset[str] = frozenset(retry.on)
        self._every: bool = retry.methods == EVERY
        self._methods: frozenset[bytes] = frozenset(one.upper().encode() for one in retry.methods)
        self._waits: RetryConfig = retry.waits(retry.attempts or attempts)
        self._at_once: RetryConfig = replace(self._waits, base=0.0, cap=0.0)
        self.statuses: frozenset[int] = frozenset(int(word) for word in retry.on if word.isdigit())

    def covers(self, method: bytes, keyed: bool) -> bool:
        """Whether a request that may have been processed may be sent again."""
        return keyed or self._every or method in self._methods

    def decide(self, failed: Failed, budget: RetryBudget, rng: Random, now: float) -> Again | Stop:
        """What follows. If it is `Again`, one retry has been taken off the budget."""
        reason = failed.reason
        if reason not in self._on:
            return Stop.FINAL
        if reason == CONNECT:
            if not failed.elsewhere:
                return Stop.FINAL  # all are dead, and it is better said now than later
        elif not self.covers(failed.method, failed.keyed):
            return Stop.NOT_IDEMPOTENT
        if failed.spent:
            return Stop.SPENT
        at_once = failed.elsewhere and reason in (CONNECT, RESET, TIMEOUT)
        # A try that had no answer says nothing about how long an answer takes.
        expected = failed.took if reason not in (CONNECT, TIMEOUT) else 0.0
        tried = Try(
            error=NotSent(reason, retry_after=failed.pause),
            number=failed.number,
            idempotent=True,
            deadline=Deadline(failed.deadline - expected),
        )
        config = self._at_once if at_once else self._waits
        return decide(tried, config=config, budget=budget, rng=rng, now=now)


def pause_asked(value: bytes) -> float | None:
    """`Retry-After`, where it says seconds; a date needs clocks that agree."""
    return float(value) if value.isdigit() and len(value) <= _MAX_DIGITS else None
