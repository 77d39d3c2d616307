"""Receiving for one subscription of SQS, ten messages a call.

A request that is given up half-way may still take messages, which then are missing until their
lease runs out. So it is not given up: a fetch that is cancelled leaves it under way, and what it
brings goes to the next fetch.
"""

import asyncio
import math
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Any

from seawall.clock import Clock
from seawall.concurrency.tasks import Tasks
from seawall.errors import SeawallError
from seawall.messaging.base import Delivery, Subscription
from seawall.messaging.transports.sqs_entries import BATCH, Found, found
from seawall.messaging.transports.sqs_link import LONGEST_POLL

# More calls of one fetch, once a first one was full.
PARALLEL = 8

# Between two looks where less than a second is left to wait; a long poll takes whole seconds.
LOOK_EVERY = 0.1  # seconds

# A lease of ours ends this share earlier than that of SQS, whose clock began first.
MARGIN = 0.05

# What a receive under way gets to end when we close.
CLOSE_WAIT = 1.0  # seconds


class Hold:
    """The receipt of a delivery."""

    __slots__ = ("handle", "settled", "since", "until", "url")

    def __init__(self, url: str, handle: str, since: float, until: float) -> None:
        self.url = url
        self.handle = handle
        self.since = since  # SQS counts its twelve hours from here
        self.until = until
        self.settled = False


def seconds(duration: float) -> int:
    """SQS takes whole seconds: up, so that nothing comes too early."""
    return max(0, math.ceil(duration))


def visibility(lease: float) -> int:
    return max(1, seconds(lease))


def until_of(lease: float, now: float) -> float:
    return now + visibility(lease) * (1 - MARGIN)


class Reader:
    """Fetches for one subscription."""

    def __init__(
        self,
        subscription: Subscription,
        *,
        receive: Callable[..., Awaitable[tuple[str, Sequence[dict[str, Any]]]]],
        release: Callable[[Sequence[Delivery]], Awaitable[None]],
        postpone: Callable[[Delivery, Found], Awaitable[None]],
        clock: Clock,
    ) -> None:
        self._subscription = subscription
        self._receive = receive
        self._release = release
        self._postpone = postpone
        self._clock = clock
        self._buffer: deque[Delivery] = deque()
        self._under_way: asyncio.Task[None] | None = None
        self._active = False
        self._tasks = Tasks()

    async def fetch(self, limit: int, *, wait: float, lease: float) -> Sequence[Delivery]:
        self._active = True
        try:
            return await self._fetch(limit, self._clock.now() + wait, lease)
        finally:
            self._active = False

    async def _fetch(self, limit: int, give_up: float, lease: float) -> Sequence[Delivery]:
        while True:
            left = give_up - self._clock.now()
            if not self._buffer:
                await self._ask(limit, left, lease)
            taken = self._take(limit)
            if taken:
                return taken
            left = give_up - self._clock.now()
            if left <= 0:
                return []
            if self._under_way is None and left < 1:
                await self._clock.sleep(min(left, LOOK_EVERY))

    def _take(self, limit: int) -> list[Delivery]:
        now = self._clock.now()
        taken: list[Delivery] = []
        while self._buffer and len(taken) < limit:
            delivery = self._buffer.popleft()
            if now < delivery.receipt.until:  # else it waited here too long, and comes again
                taken.append(delivery)
        return taken

    async def _ask(self, limit: int, left: float, lease: float) -> None:
        """Let the request under way bring something, or make one; for `left` seconds at most."""
        if self._under_way is None:
            poll = min(LONGEST_POLL, max(0, int(left)))
            self._under_way = self._tasks.start(self._bring(limit, poll, lease), name="sqs-receive")
            left = float("inf")  # it ends by itself
        task = self._under_way
        await asyncio.wait((task,), timeout=None if left == float("inf") else max(0.0, left))
        self._ended(task)

    def _ended(self, task: asyncio.Task[None]) -> None:
        if task.done() and self._under_way is task:
            self._under_way = None
            task.result()

    async def _bring(self, limit: int, poll: int, lease: float) -> None:
        got = await self._bring_one(min(limit, BATCH), poll, lease)
        left = limit - got
        if got == BATCH and left > 0:
            counts = [min(BATCH, left - start) for start in range(0, left, BATCH)][:PARALLEL]
            await asyncio.gather(*(self._bring_one(count, 0, lease) for count in counts))

    async def _bring_one(self, count: int, poll: int, lease: float) -> int:
        url, messages = await self._receive(
            self._subscription,
            wait=float(poll),
            MaxNumberOfMessages=count,
            WaitTimeSeconds=poll,
            VisibilityTimeout=visibility(lease),
            MessageAttributeNames=["All"],
            MessageSystemAttributeNames=["ApproximateReceiveCount"],
        )
        now = self._clock.now()
        for received in messages:
            what = found(received)
            hold = Hold(url, received["ReceiptHandle"], now, until_of(lease, now))
            receives = int(received.get("Attributes", {}).get("ApproximateReceiveCount", 1))
            attempt = what.note.attempts + receives
            # SQS does not say how an earlier receive ended: each may have ended with its lease.
            dropped = receives > 1 or what.note.dropped
            delivery = Delivery(
                what.message,
                self._subscription,
                attempt,
                hold,
                what.damage,
                dropped,
                what.note.failed,
            )
            if what.note.due > self._clock.wall():
                await self._postpone(delivery, what)
            else:
                self._buffer.append(delivery)
        return len(messages)

    async def quiesce(self) -> None:
        """Let the request under way end, and give back what it brings; go on with that if our
        caller does not wait so long, unless there is another fetch by then."""
        await asyncio.shield(self._tasks.start(self._give_back(), name="sqs-quiesce"))

    async def _give_back(self) -> None:
        task = self._under_way
        if task is not None:
            await asyncio.wait((task,))
            self._ended(task)
        if not self._active:
            await self._release(self._take(len(self._buffer)))

    async def aclose(self) -> list[Delivery]:
        """Let the request under way end, for a moment; return what nobody fetched."""
        if self._under_way is not None:
            await asyncio.wait((self._under_way,), timeout=CLOSE_WAIT)
        await self._tasks.cancel()
        if self._under_way is not None and not self._under_way.cancelled():
            with suppress(SeawallError):
                self._under_way.result()
        return self._take(len(self._buffer))
