"""The one poll of the suite.

How long a test says it waits is what an idle machine needs at most. A shared one is several times
slower at times, and waiting longer costs nothing where things are as they should be.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable

_PATIENCE = 3  # times as long, where a machine is busy with others


async def eventually(holds: Callable[[], bool], within: float = 5.0) -> None:
    """Return as soon as `holds()`; fail after a multiple of `within` seconds."""
    async with asyncio.timeout(within * _PATIENCE):
        while not holds():
            await asyncio.sleep(0.01)


async def eventually_async(holds: Callable[[], Awaitable[bool]], within: float = 5.0) -> None:
    """Return as soon as `await holds()`; fail after a multiple of `within` seconds."""
    async with asyncio.timeout(within * _PATIENCE):
        while not await holds():
            await asyncio.sleep(0.01)


def eventually_sync(holds: Callable[[], bool], within: float = 5.0) -> None:
    """For tests without an event loop."""
    deadline = time.monotonic() + within * _PATIENCE
    while not holds():
        if time.monotonic() > deadline:
            raise TimeoutError(f"still not so after {within * _PATIENCE} s")
        time.sleep(0.01)


async def settle() -> None:
    """Let everything run that can run without time passing."""
    for _ in range(20):  # steps of the longest chain of tasks that wake each other in a test
        await asyncio.sleep(0)
