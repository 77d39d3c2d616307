"""Time, as an argument. The one module that reads a clock.

Pure code takes `now: float`. Code that waits takes a `Clock`, so that tests give it a
`seawall.testing.clock.ManualClock` and an hour costs nothing.
"""

import asyncio
import time
from contextlib import AbstractAsyncContextManager
from typing import Protocol


class Clock(Protocol):
    """Where time comes from."""

    def now(self) -> float:
        """Seconds that only go forward; differences mean something, the value does not."""

    def wall(self) -> float:
        """Seconds since 1970, for records that leave this process. It may step."""

    async def sleep(self, seconds: float) -> None:
        """Return after `seconds`."""

    def timeout(self, seconds: float) -> AbstractAsyncContextManager[object]:
        """Cancel the block and raise `TimeoutError` if it takes longer, as `asyncio.timeout`."""


class SystemClock:
    """The clock of this machine."""

    # The functions themselves: a request looks at the clock, and a frame costs as much again.
    now = staticmethod(time.monotonic)
    wall = staticmethod(time.time)

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    def timeout(self, seconds: float) -> AbstractAsyncContextManager[object]:
        return asyncio.timeout(seconds)


def cpu() -> float:
    """Seconds that this thread has worked; differences mean something, the value does not."""
    return time.thread_time()


SYSTEM = SystemClock()
