"""A clock that a test moves by hand."""

import asyncio
import heapq
import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

# Beyond what any machine's own clock shows, so that whoever takes one for the other is seen.
NOW = 1e9  # seconds


class ManualClock:
    """Stands still until `advance`; sleepers wake in the order of their time."""

    def __init__(self, now: float = NOW, wall: float = 1_700_000_000.0) -> None:
        self._now = now
        self._wall = wall
        self._order = itertools.count()
        self._sleepers: list[tuple[float, int, asyncio.Future[None]]] = []

    def now(self) -> float:
        return self._now

    def wall(self) -> float:
        return self._wall

    async def sleep(self, seconds: float) -> None:
        if seconds <= 0:
            return
        await self._alarm(seconds)

    def _alarm(self, seconds: float) -> "asyncio.Future[None]":
        woken: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._sleepers, (self._now + seconds, next(self._order), woken))
        return woken

    @asynccontextmanager
    async def timeout(self, seconds: float) -> AsyncIterator[None]:
        open_ = True

        def expire(alarm: "asyncio.Future[None]") -> None:
            if open_ and not alarm.cancelled():  # it may have ended since the alarm
                limit.reschedule(0)

        async with asyncio.timeout(0 if seconds <= 0 else None) as limit:
            alarm = self._alarm(seconds)
            alarm.add_done_callback(expire)
            try:
                yield
            finally:
                open_ = False
                alarm.cancel()

    @property
    def sleeping(self) -> int:
        """How many wait; a test that advances before somebody sleeps wakes nobody."""
        return sum(not woken.done() for _, _, woken in self._sleepers)

    def advance(self, seconds: float) -> None:
        """Let time pass and wake those whose time has come."""
        end = self._now + seconds
        while self._sleepers and self._sleepers[0][0] <= end:
            at, _, woken = heapq.heappop(self._sleepers)
            self._wall += at - self._now
            self._now = at
            if not woken.done():
                woken.set_result(None)
        self._wall += end - self._now
        self._now = end
