"""Run a call under policies. The order of the policies is their meaning, so it stands here once.

Outermost first: deadline → fallback → budgeted retry → circuit breaker → bulkhead → timeout of
the try → the call. The retry is outside the breaker, so each try is admitted and counted by
itself; it asks for a target again, so that it goes to another instance; the bulkhead is inside
the breaker, so that our own lack of room never opens it.

Whatever ends a try (an answer, an error, a cancellation) gives back what it took, synchronously.
"""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from random import Random
from typing import Generic, TypeVar

from seawall.clock import Clock
from seawall.errors import (
    BreakerOpen,
    DeadlineExceeded,
    Full,
    NotSent,
    OutcomeUnknown,
    SeawallError,
)
from seawall.facts import Observer, ignore
from seawall.resilience.breaker import Blame, Breaker, BreakerMoved, Permit, blame
from seawall.resilience.budget import RetryBudget
from seawall.resilience.bulkhead import Bulkhead
from seawall.resilience.deadline import Deadline
from seawall.resilience.retry import RetryConfig, Stop, Try, decide

K = TypeVar("K")
T = TypeVar("T")

# A try that the deadline cut to less than this share of its timeout, and that ran into it, says
# nothing about the destination: a burst of nearly expired calls would open a healthy one's
# breaker.
_FAIR_SHARE = 0.25

# After these we have tried as often as we may, and nobody above is to do it all again.
_SPENT = frozenset({Stop.ATTEMPTS, Stop.BUDGET})


@dataclass(frozen=True, slots=True)
class Target(Generic[K]):
    """Where a try goes, and what watches over it. All `breakers` must admit it, in order."""

    key: K
    breakers: tuple[Breaker, ...] = ()
    bulkhead: Bulkhead | None = None


@dataclass(frozen=True, slots=True)
class Retried:
    """A try failed, and another follows after `wait` seconds."""

    name: str
    number: int
    error: SeawallError
    wait: float


@dataclass(frozen=True, slots=True)
class GaveUp:
    """A call failed for good after `tries`; `why` there was no other."""

    name: str
    tries: int
    error: SeawallError
    why: Stop


@dataclass(frozen=True, slots=True)
class FellBack:
    """A call failed, and its fallback answers instead."""

    name: str
    error: SeawallError


class Guard:
    """The policies of calls to one destination, which share its retry budget.

    `timeout` bounds each try, in seconds. For one event loop.
    """

    def __init__(
        self,
        name: str,
        *,
        retry: RetryConfig,
        budget: RetryBudget,
        timeout: float,
        clock: Clock,
        rng: Random,
        observer: Observer = ignore,
    ) -> None:
        self._name = name
        self._retry = retry
        self._budget = budget
        self._timeout = timeout
        self._clock = clock
        self._rng = rng
        self._observe = observer

    async def run(
        self,
        call: Callable[[K, float], Awaitable[T]],
        target: Callable[[Sequence[K]], Target[K]],
        *,
        idempotent: bool,
        deadline: Deadline | None = None,
        fallback: Callable[[SeawallError], Awaitable[T]] | None = None,
    ) -> T:
        """Return what `call` returns, or what `fallback` makes of its last error.

        `target(tried)` says where to go, given the keys tried before, and raises `NoInstance`
        if there is nowhere; `call(key, limit)` does it, and is cancelled after `limit` seconds.
        It says what happened by the type of its error: an answer that means "broken" is to be
        raised. Raises `DeadlineExceeded`, or the error of the last try, marked `spent` if the
        tries or the budget are used up. A `Refused` is an answer, and no fallback is asked.
        """
        if deadline is not None and deadline.expired(self._clock.now()):
            raise DeadlineExceeded(f"{self._name}: no time was left to ask")
        if fallback is None:
            return await self._retried(call, target, idempotent, deadline)
        try:
            return await self._retried(call, target, idempotent, deadline)
        except (NotSent, OutcomeUnknown) as error:
            self._observe(FellBack(self._name, error))
            return await fallback(error)

    async def _retried(
        self,
        call: Callable[[K, float], Awaitable[T]],
        target: Callable[[Sequence[K]], Target[K]],
        idempotent: bool,
        deadline: Deadline | None,
    ) -> T:
        self._budget.deposit(self._clock.now())
        tried: list[K] = []  # at most RetryConfig.attempts
        number = 0
        while True:
            number += 1
            try:
                chosen = target(tuple(tried))
                tried.append(chosen.key)
                return await self._once(call, chosen, deadline)
            except (NotSent, OutcomeUnknown) as error:
                last = Try(
                    error=error,
                    number=number,
                    idempotent=idempotent,
                    deadline=deadline,
                    elsewhere=self._has_another(target, tuple(tried)),
                )
                wait = self._wait_after(last, error)
                if wait is None:
                    raise
            await self._clock.sleep(wait)

    def _wait_after(self, last: Try, error: SeawallError) -> float | None:
        now = self._clock.now()
        match decide(last, config=self._retry, budget=self._budget, rng=self._rng, now=now):
            case Stop() as why:
                error.spent = error.spent or why in _SPENT
                self._observe(GaveUp(self._name, last.number, error, why))
                return None
            case again:
                self._observe(Retried(self._name, last.number, error, again.wait))
                return again.wait

    async def _once(
        self,
        call: Callable[[K, float], Awaitable[T]],
        target: Target[K],
        deadline: Deadline | None,
    ) -> T:
        limit = self._limit(deadline)
        permits = self._admit(target.breakers)
        says = Blame.NEITHER  # so does a cancellation, and a bug of ours
        try:
            answer = await self._in_slot(call, target, limit)
            says = Blame.GOOD
            return answer
        except SeawallError as error:
            says = blame(error)
            if limit < self._timeout * _FAIR_SHARE and isinstance(error, OutcomeUnknown):
                says = Blame.NEITHER
            raise
        finally:
            self._report(target.breakers, permits, says)

    async def _in_slot(
        self, call: Callable[[K, float], Awaitable[T]], target: Target[K], limit: float
    ) -> T:
        bulkhead = target.bulkhead
        if bulkhead is not None and not bulkhead.try_acquire():
            raise Full(f"{self._name}: all {bulkhead.limit} places are taken")
        try:
            async with self._clock.timeout(limit):
                return await call(target.key, limit)
        except TimeoutError as exc:
            if limit < self._timeout:
                raise DeadlineExceeded(f"{self._name}: the caller's time ran out") from exc
            raise OutcomeUnknown(f"{self._name}: no answer within {limit:g} s") from exc
        finally:
            if bulkhead is not None:
                bulkhead.release()

    def _limit(self, deadline: Deadline | None) -> float:
        if deadline is None:
            return self._timeout
        left = deadline.remaining(self._clock.now())
        if not left:
            raise DeadlineExceeded(f"{self._name}: no time was left to ask again")
        return min(self._timeout, left)

    def _admit(self, breakers: tuple[Breaker, ...]) -> list[Permit]:
        now = self._clock.now()
        permits: list[Permit] = []
        for breaker in breakers:
            permit = breaker.admit(now)
            if permit is None:
                self._report(breakers, permits, Blame.NEITHER)
                raise BreakerOpen(
                    f"the breaker of {breaker.name} is {breaker.state.value}",
                    retry_after=breaker.retry_after(now),
                )
            permits.append(permit)
            if permit.moved is not None:
                self._observe(permit.moved)
        return permits

    def _report(self, breakers: Sequence[Breaker], permits: Sequence[Permit], says: Blame) -> None:
        now = self._clock.now()
        facts: list[BreakerMoved | None] = []
        for breaker, permit in zip(breakers, permits, strict=False):
            if says is Blame.GOOD:
                facts.append(breaker.succeeded(permit, now))
            elif says is Blame.BAD:
                facts.append(breaker.failed(permit, now))
            else:
                breaker.cancelled(permit, now)
        for fact in facts:
            if fact is not None:
                self._observe(fact)

    def _has_another(self, target: Callable[[Sequence[K]], Target[K]], tried: Sequence[K]) -> bool:
        """Whether the next try would be admitted by somebody that was not asked yet."""
        try:
            following = target(tried)
        except NotSent:
            return False
        now = self._clock.now()
        return following.key not in tried and not any(
            breaker.retry_after(now) for breaker in following.breakers
        )
