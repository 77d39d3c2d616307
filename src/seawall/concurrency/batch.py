"""Natural batching: single calls above, batches below, and no timer in between.

When nothing is under way a call is flushed at once. What arrives while a flush is under way
forms the next batch. So a quiet system has no added latency and a busy one has full batches.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Generic, Self, TypeVar

from seawall.concurrency.tasks import Tasks
from seawall.errors import Full, SeawallError

T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class BatchSnapshot:
    waiting: int
    in_flight: int
    flushes: int


class Batcher(Generic[T, R]):
    """Turns concurrent `submit(item)` calls into `flush(items)` calls, `under_way` at a time.

    `flush` returns one result an item, in order; where that result is an exception, it is
    raised to that item's caller, and an exception that `flush` raises goes to all callers of
    the batch. Items are flushed in the order of their calls. A caller that is cancelled before
    its item was taken withdraws it; afterwards the item takes its course unobserved.
    """

    def __init__(
        self,
        flush: Callable[[Sequence[T]], Awaitable[Sequence[R | Exception]]],
        *,
        cap: int = 256,  # items a batch: beyond it throughput no longer grows (measured)
        waiting: int = 10_000,  # items: a burst of seconds at full rate; then `Full`
        under_way: int = 1,  # flushes; they are begun in order and may end in another
    ) -> None:
        self._flush = flush
        self._cap = cap
        self._limit = waiting
        self._queue: deque[tuple[T, asyncio.Future[R]]] = deque()
        self._in_flight = 0
        self._flushes = 0
        self._closed = False
        self._under_way = under_way
        self._flushers = 0
        self._beginning = False  # one of them is about to take what waits
        self._tasks = Tasks()

    async def submit(self, item: T) -> R:
        """Have `item` flushed and return its result.

        Raises `Full`, and nothing was done, when too many items wait or after `aclose`.
        """
        if self._closed:
            raise Full("closed")
        if len(self._queue) >= self._limit:
            raise Full(f"{len(self._queue)} items wait already")
        result: asyncio.Future[R] = asyncio.get_running_loop().create_future()
        self._queue.append((item, result))
        if self._flushers < self._under_way and not self._beginning:
            self._flushers += 1
            self._beginning = True
            self._tasks.start(self._flush_all(), name="batch")
        return await result

    def snapshot(self) -> BatchSnapshot:
        return BatchSnapshot(len(self._queue), self._in_flight, self._flushes)

    async def aclose(self) -> None:
        """Flush what waits, then refuse further items."""
        self._closed = True
        await self._tasks.join()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def _flush_all(self) -> None:
        self._beginning = False
        try:
            while self._queue:
                batch = self._take()
                if batch:
                    await self._flush_one(batch)
        finally:
            self._flushers -= 1
            for _, result in self._queue:  # only if this task was cancelled
                result.cancel()
            self._queue.clear()

    def _take(self) -> list[tuple[T, asyncio.Future[R]]]:
        queue = self._queue
        if len(queue) <= self._cap:
            batch = [pair for pair in queue if not pair[1].done()]
            queue.clear()
            return batch
        taken = (queue.popleft() for _ in range(self._cap))
        return [pair for pair in taken if not pair[1].done()]

    async def _flush_one(self, batch: list[tuple[T, asyncio.Future[R]]]) -> None:
        self._in_flight += len(batch)
        self._flushes += 1
        try:
            results = await self._flush([item for item, _ in batch])
        except asyncio.CancelledError:
            for _, result in batch:
                result.cancel()
            raise
        except Exception as error:  # noqa: BLE001 - it belongs to the callers, who get it
            for _, result in batch:
                if not result.done():
                    result.set_exception(_own(error))
        else:
            for (_, result), value in zip(batch, results, strict=True):
                if result.done():
                    continue
                if isinstance(value, Exception):
                    result.set_exception(value)
                else:
                    result.set_result(value)
        finally:
            self._in_flight -= len(batch)


def _own(error: Exception) -> Exception:
    """An error for one caller: raising one object in many tasks would mix their tracebacks."""
    if not isinstance(error, SeawallError):
        return error
    copy = type(error).__new__(type(error), *error.args)
    copy.args = error.args
    copy.__dict__.update(error.__dict__)
    copy.__cause__ = error
    return copy
