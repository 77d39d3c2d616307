"""Pauses of an operator, carried out: what is paused takes no messages here.

Every replica asks for itself, twice a second, so a pause holds everywhere within a second and for
replicas that start later. When the registry is away, what was known last stays.
"""

import logging
from collections.abc import Callable, Sequence
from typing import Protocol

from seawall.clock import SYSTEM, Clock
from seawall.errors import NotSent, OutcomeUnknown
from seawall.messaging.base import Subscription
from seawall.registry.pauses import Pauses

log = logging.getLogger("seawall.service")

ASK_EVERY = 0.5  # seconds; one small read each

# A replica that starts asks before it consumes. It does not wait longer for a registry that is
# away: its own outage would be everybody's.
FIRST_WITHIN = 2.0  # seconds


class Pausable(Protocol):
    """A consumer, as far as pausing goes."""

    subscription: Subscription

    async def pause(self) -> None: ...

    def resume(self) -> None: ...


class PauseWatch:
    """Has consumers follow what is paused."""

    def __init__(
        self,
        pauses: Pauses,
        consumers: Callable[[], Sequence[Pausable]],
        *,
        clock: Clock = SYSTEM,
    ) -> None:
        self._pauses = pauses
        self._consumers = consumers
        self._clock = clock
        self._paused: frozenset[Subscription] = frozenset()
        self._away = False

    @property
    def paused(self) -> frozenset[Subscription]:
        """What is paused, as far as is known, and takes no messages here."""
        return self._paused

    async def first(self) -> None:
        """Learn what is paused before the first consumer starts."""
        try:
            async with self._clock.timeout(FIRST_WITHIN):
                self._paused = await self._read()
        except (NotSent, OutcomeUnknown, TimeoutError) as away:
            log.warning("whether groups are paused is not known yet: %s", away)
            self._away = True

    async def follow(self) -> None:
        """For ever."""
        while True:
            await self._clock.sleep(ASK_EVERY)
            try:
                now = await self._read()
            except (NotSent, OutcomeUnknown) as away:
                if not self._away:
                    log.warning("what is paused is not known; it stays as it was: %s", away)
                self._away = True
                continue
            self._away = False
            await self._apply(now)

    async def _read(self) -> frozenset[Subscription]:
        return frozenset(Subscription(each.topic, each.group) for each in await self._pauses.read())

    async def _apply(self, now: frozenset[Subscription]) -> None:
        before = self._paused
        for consumer in self._consumers():
            subscription = consumer.subscription
            if subscription in now - before:
                log.info("%s of %s is paused", subscription.group, subscription.topic)
                await consumer.pause()
            elif subscription in before - now:
                log.info("%s of %s goes on", subscription.group, subscription.topic)
                consumer.resume()
        self._paused = now
