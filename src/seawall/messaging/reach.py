"""A broker that comes and goes, as one consumer sees it: what must be said is said until heard."""

import asyncio
from collections.abc import Awaitable, Callable
from random import Random
from typing import TypeVar

from seawall.clock import Clock
from seawall.errors import SeawallError
from seawall.facts import Observer
from seawall.messaging.base import Subscription
from seawall.messaging.facts import BrokerAway, BrokerBack

# Back-off while the broker is away: the first ceiling and the last, in seconds.
AWAY_BASE, AWAY_CAP = 0.05, 2.0

# What a stopping consumer gives the broker to take each of its last calls.
LAST_WORDS = 2.0  # seconds

T = TypeVar("T")


class Reach:
    """Calls to the broker of one subscription, and since when it does not answer them."""

    def __init__(
        self, subscription: Subscription, observer: Observer, clock: Clock, rng: Random
    ) -> None:
        self._subscription = subscription
        self._observer = observer
        self._clock = clock
        self._rng = rng
        self._away_since: float | None = None

    @property
    def away(self) -> bool:
        """The broker did not answer the last time."""
        return self._away_since is not None

    async def persistently(self, call: Callable[[], Awaitable[T]]) -> T:
        """The result of `call`, tried until the broker gives one.

        Whatever it says instead: nobody else can act on it, and a consumer that gave up would
        be a silent one. Everything called so may be called twice: settling a delivery that was
        settled before does nothing.
        """
        ceiling = AWAY_BASE
        while True:
            try:
                result = await call()
            except SeawallError as error:
                if self._away_since is None:
                    self._away_since = self._clock.now()
                    self._observer(BrokerAway(self._subscription, str(error)))
                await self._clock.sleep(self._rng.uniform(ceiling / 2, ceiling))
                ceiling = min(AWAY_CAP, ceiling * 2)
            else:
                if self._away_since is not None:
                    away = self._clock.now() - self._away_since
                    self._away_since = None
                    self._observer(BrokerBack(self._subscription, away))
                return result

    async def briefly(self, work: Awaitable[None]) -> None:
        """Part of an end: tried once, for a bounded time. What fails comes back by its lease."""
        try:
            async with asyncio.timeout(LAST_WORDS):
                await work
        except (SeawallError, TimeoutError) as error:
            self._observer(BrokerAway(self._subscription, str(error)))
