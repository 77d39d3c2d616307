"""The one poll of the suite.

How long a test says it waits is what an idle machine needs at most. A shared one is several times
slower at times, and waiting longer costs nothing where things are as they should be.

To look costs both who looks and who is looked at: what takes longer is looked at less often.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator

_PATIENCE = 3  # times as long, where a machine is busy with others
_LEAST = 15.0  # seconds: whatever is waited for, a machine may stand still for some


def _longest(within: float) -> float:
    return max(within * _PATIENCE, _LEAST)


def _pauses() -> Iterator[float]:
    """Between two looks: a twentieth of the time that has passed is noticed too late at most."""
    began = time.monotonic()
    while True:
        yield min(0.01 + (time.monotonic() - began) / 20, 0.05)


async def eventually(holds: Callable[[], bool], within: float = 5.0) -> None:
    """Return as soon as `holds()`; fail after a multiple of `within` seconds."""
    async with asyncio.timeout(_longest(within)):
        pauses = _pauses()
        while not holds():
            await asyncio.sleep(next(pauses))


async def eventually_async(holds: Callable[[], Awaitable[bool]], within: float = 5.0) -> None:
    """Return as soon as `await holds()`; fail after a multiple of `within` seconds."""
    async with asyncio.timeout(_longest(within)):
        pauses = _pauses()
        while not await holds():
            await asyncio.sleep(next(pauses))


def eventually_sync(holds: Callable[[], bool], within: float = 5.0) -> None:
    """For tests without an event loop."""
    deadline = time.monotonic() + _longest(within)
    pauses = _pauses()
    while not holds():
        if time.monotonic() > deadline:
            raise TimeoutError(f"still not so after {_longest(within)} s")
        time.sleep(next(pauses))


async def settle() -> None:
    """Let everything run that can run without time passing."""
    for _ in range(20):  # steps of the longest chain of tasks that wake each other in a test
        await asyncio.sleep(0)
