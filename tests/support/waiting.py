"""The one poll of the suite."""

import asyncio
import time
from collections.abc import Awaitable, Callable


async def eventually(holds: Callable[[], bool], within: float = 5.0) -> None:
    """Return as soon as `holds()`; fail after `within` seconds."""
    async with asyncio.timeout(within):
        while not holds():
            await asyncio.sleep(0.01)


async def eventually_async(holds: Callable[[], Awaitable[bool]], within: float = 5.0) -> None:
    """Return as soon as `await holds()`; fail after `within` seconds."""
    async with asyncio.timeout(within):
        while not await holds():
            await asyncio.sleep(0.01)


def eventually_sync(holds: Callable[[], bool], within: float = 5.0) -> None:
    """For tests without an event loop."""
    deadline = time.monotonic() + within
    while not holds():
        if time.monotonic() > deadline:
            raise TimeoutError(f"still not so after {within} s")
        time.sleep(0.01)


async def settle() -> None:
    """Let everything run that can run without time passing."""
    for _ in range(20):  # steps of the longest chain of tasks that wake each other in a test
        await asyncio.sleep(0)
