"""Where a statement of SQLite runs: on the event loop, or in a thread.

A statement that goes to a thread and back costs more time for the two switches than for itself,
where it is quick. But only those run on the loop that were seen to be quick; any other does not.
"""

import asyncio
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import TypeVar

from seawall.clock import SYSTEM, Clock

log = logging.getLogger("seawall.database")

# A statement that took less may run on the event loop the next time; one that took longer there,
# not again. As long as one worker of a consumer may keep the loop, twice over.
QUICK = 0.002  # seconds

# A statement that held the event loop this long is worth a line in the log; and is kept off it
# until it was quick so often, for its time depends on more than its text. Not for ever: where
# processors are short every statement is interrupted for so long at some time.
HELD, TRUSTED_AFTER = 0.05, 100  # seconds, runs

# Texts of statements that are known to be quick. A service has tens; one that makes up new ones
# all the time begins again.
KNOWN = 1_000

T = TypeVar("T")


class Statements:
    """Runs statements of connections that are used by one at a time each."""

    def __init__(self, where: str, *, threads: int = 1, clock: Clock = SYSTEM) -> None:
        self._where = where
        self._clock = clock
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="sqlite")
        self._quick: set[str] = set()
        self._distrusted: dict[str, int] = {}  # those that held the loop: quick runs still missing

    def close(self) -> None:
        """Without waiting."""
        self._threads.shutdown(wait=False)

    async def run(self, sql: str, statement: Callable[[], T]) -> T:
        """The result of `statement`, whose text is `sql`."""
        if sql in self._quick:
            return self._here(sql, statement)
        result: T
        result, seconds = await self.in_thread(self._timed, statement)
        if seconds < QUICK and self._is_trusted(sql):
            if len(self._quick) >= KNOWN:
                self._quick.clear()
            self._quick.add(sql)
        return result

    def _is_trusted(self, sql: str) -> bool:
        """Whether a statement that was quick just now may run on the event loop the next time."""
        missing = self._distrusted.get(sql, 0)
        if missing > 0:
            self._distrusted[sql] = missing - 1
        return missing <= 1

    def _here(self, sql: str, statement: Callable[[], T]) -> T:
        result, seconds = self._timed(statement)
        if seconds >= QUICK:
            self._quick.discard(sql)
        if seconds >= HELD:
            if len(self._distrusted) >= KNOWN:
                self._distrusted.clear()
            known = sql in self._distrusted
            self._distrusted[sql] = TRUSTED_AFTER
            level = logging.DEBUG if known else logging.WARNING  # once tells it
            log.log(level, "%s: held the event loop for %.3f s: %s", self._where, seconds, sql)
        return result

    def _timed(self, statement: Callable[[], T]) -> tuple[T, float]:
        began = self._clock.now()
        result = statement()
        return result, self._clock.now() - began

    async def in_thread(self, work: Callable[..., T], *args: object) -> T:
        loop = asyncio.get_running_loop()
        done = loop.run_in_executor(self._threads, work, *args)
        try:
            result: T = await asyncio.shield(done)
        except asyncio.CancelledError:
            # Whoever is next must not use the connection while the thread does.
            while not done.done():
                with suppress(asyncio.CancelledError):
                    await asyncio.wait([done])
            raise
        return result
