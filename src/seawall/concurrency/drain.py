"""Work under way that can be closed and waited for: how a server stops without losing any."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from seawall.clock import Clock
from seawall.errors import NotSent


class Drain:
    """Counts work under way; once closed it lets none begin, and can be awaited.

    For one event loop. Closing twice is fine, and so is waiting in several places.
    """

    __slots__ = ("_closed", "_empty", "_under_way")

    def __init__(self) -> None:
        self._under_way = 0
        self._closed = False
        self._empty = asyncio.Event()
        self._empty.set()

    @property
    def closed(self) -> bool:
        return self._closed

    def __len__(self) -> int:
        """Pieces of work under way."""
        return self._under_way

    @contextmanager
    def work(self) -> Iterator[None]:
        """Count the block as work under way. Raises `NotSent` once closed."""
        if self._closed:
            raise NotSent("draining")
        self._under_way += 1
        self._empty.clear()
        try:
            yield
        finally:
            self._under_way -= 1
            if not self._under_way:
                self._empty.set()

    def close(self) -> None:
        """Let no more work begin; what is under way goes on."""
        self._closed = True

    async def emptied(self, within: float, clock: Clock) -> int:
        """Wait until nothing is under way, `within` seconds at most; return how much still is."""
        try:
            async with clock.timeout(within):
                await self._empty.wait()
        except TimeoutError:
            pass
        return self._under_way

    def __repr__(self) -> str:
        return f"<Drain {self._under_way} under way{', closed' if self._closed else ''}>"
