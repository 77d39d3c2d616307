"""Background tasks with an owner: whoever starts one waits for it, and hears when it fails."""

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from types import TracebackType
from typing import Any, Self


class Tasks:
    """Owns tasks for as long as its block is open; cancels and awaits what is left at its end.

    Unlike `asyncio.TaskGroup`, a task that fails does not cancel its siblings or the block: its
    error is kept and raised when the block ends, unless `on_failure` was given and takes it.
    For servers, whose one failed connection must not end the others.
    """

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[Any]] = set()
        self._failures: list[BaseException] = []

    def start(
        self, work: Coroutine[Any, Any, Any], *, name: str | None = None
    ) -> asyncio.Task[Any]:
        task = asyncio.get_running_loop().create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._finished)
        return task

    def _finished(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._failures.append(error)

    def __len__(self) -> int:
        return len(self._tasks)

    async def join(self) -> None:
        """Wait until every task has ended."""
        while self._tasks:
            await asyncio.wait(tuple(self._tasks))

    async def cancel(self) -> None:
        """Cancel every task and wait until it has ended."""
        while self._tasks:
            for task in self._tasks:
                task.cancel()
            await asyncio.wait(tuple(self._tasks))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        await self.cancel()
        if error is None and self._failures:
            raise self._failures[0]


@asynccontextmanager
async def running(
    work: Coroutine[Any, Any, Any], *, name: str | None = None
) -> AsyncIterator[asyncio.Task[Any]]:
    """Run `work` beside the block; cancel it when the block ends; raise its error if it failed."""
    async with Tasks() as tasks:
        yield tasks.start(work, name=name)
