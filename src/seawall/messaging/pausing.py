"""A breaker for handlers: when too many fail, consumption pauses, and one message tries again.

What is broken then is rarely a message: it is what the handlers need. To go on would only use up
the attempts of all that waits.
"""

from random import Random

from seawall.clock import Clock
from seawall.facts import Observer
from seawall.messaging.base import Subscription
from seawall.messaging.facts import ConsumptionPaused, ConsumptionResumed
from seawall.messaging.outcomes import Reject, Retry
from seawall.resilience.breaker import Breaker, BreakerConfig, BreakerMoved, Permit, State

# While the trial message is handled, this often is looked whether it is done.
LOOK = 1.0  # seconds


class Pausing:
    """The breaker of one subscription's handlers.

    A message whose handler rejects it, or asks for a retry, says nothing about what handlers
    need; any other error does, and so does a handler that ran too long.
    """

    def __init__(
        self,
        config: BreakerConfig,
        subscription: Subscription,
        observer: Observer,
        clock: Clock,
        rng: Random,
    ) -> None:
        self._subscription = subscription
        self._observer = observer
        self._clock = clock
        self._breaker = Breaker(config, f"{subscription.topic}/{subscription.group}", rng)

    @property
    def paused(self) -> bool:
        return self._breaker.state is not State.CLOSED

    async def allowed(self, room: int) -> int:
        """How many messages to fetch: all there is room for, or, after a pause, one on trial."""
        breaker = self._breaker
        while breaker.state is not State.CLOSED:
            wait = breaker.retry_after(self._clock.now())
            if wait <= 0:
                return 1
            await self._clock.sleep(min(wait, LOOK))
        return room

    async def permit(self, *, wait: bool) -> Permit | None:
        """Leave to handle one message; without it, it is to be given back. Or `wait` for it."""
        permit = self._breaker.admit(self._clock.now())
        while permit is None and wait:
            pause = self._breaker.retry_after(self._clock.now())
            await self._clock.sleep(min(pause, LOOK))
            permit = self._breaker.admit(self._clock.now())
        if permit is not None and permit.moved is not None:
            self._observer(permit.moved)
        return permit

    def report(self, permit: Permit, failure: Exception | None) -> bool:
        """Say how the handling ended. True if consumption is paused from here on."""
        now = self._clock.now()
        moved: BreakerMoved | None = None
        if failure is None or isinstance(failure, Reject):
            moved = self._breaker.succeeded(permit, now)
        elif isinstance(failure, Retry):
            self._breaker.cancelled(permit, now)
        else:
            moved = self._breaker.failed(permit, now)
        if moved is None:
            return False
        self._observer(moved)
        if moved.now is State.OPEN:
            wait = self._breaker.retry_after(now)
            self._observer(ConsumptionPaused(self._subscription, moved.reason, wait))
            return True
        self._observer(ConsumptionResumed(self._subscription))
        return False

    def withdraw(self, permit: Permit) -> None:
        """It was not handled after all."""
        self._breaker.cancelled(permit, self._clock.now())

    def __repr__(self) -> str:
        return f"<Pausing {self._breaker!r}>"
