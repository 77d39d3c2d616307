"""The places in which handlers run, and how a running one is stopped from outside."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any, TypeVar

from seawall.messaging.base import Delivery
from seawall.messaging.outcomes import Reject, Retry

A = TypeVar("A")

# Handles one delivery. With `batch` above 1 it is given a list of them instead, and returns one
# outcome each (None, or how it failed), or None if all are done.
Handler = Callable[[Any], Awaitable[object]]


class Stopped(Enum):
    LEASE_LOST = auto()
    TIMED_OUT = auto()


class NotOurs(Exception):
    """The lease was lost while the handler ran: others have the message, nothing is settled."""


NOT_OURS = NotOurs()


@dataclass(slots=True)
class Slot:
    """What one worker is doing."""

    task: asyncio.Task[None] | None = None
    delivery: Delivery | None = None
    others: Sequence[Delivery] = ()  # of the same batch
    since: float = 0.0
    handling: bool = False  # the handler runs, so it may be stopped
    stopped: Stopped | None = None  # why we cancelled the handler, if we did
    lost: bool = False  # the lease was, before the handler ran
    result: object = None  # of the last handler that returned

    def held(self) -> Iterator[Delivery]:
        if self.delivery is not None:
            yield self.delivery
            yield from self.others

    def stop(self, why: Stopped) -> None:
        if not self.handling:
            self.lost = self.lost or why is Stopped.LEASE_LOST
        elif self.task is not None and self.stopped is None:
            self.stopped = why
            self.task.cancel()

    async def run(
        self, handler: Callable[[A], Awaitable[object]], argument: A, limit: float
    ) -> Exception | None:
        """How `handler` failed, if it did; what it returned is in `result`."""
        failure: Exception | None = None
        self.handling = True
        try:
            self.result = result = await handler(argument)
        except asyncio.CancelledError:
            if self.stopped is None:
                raise
        except Exception as error:  # noqa: BLE001 - a handler may fail in any way; it is retried
            failure = error
        else:
            if isinstance(result, (Retry, Reject)):
                failure = result
        finally:
            self.handling = False
        if self.stopped is None:
            return failure
        stopped, self.stopped = self.stopped, None
        assert self.task is not None
        self.task.uncancel()
        if stopped is Stopped.LEASE_LOST:
            return NOT_OURS
        return TimeoutError(f"the handler ran longer than {limit} s")
