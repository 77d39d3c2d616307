"""Taking messages out of a queue for a moment: to look at them, to move or to delete some."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from aiormq.abc import AbstractChannel, DeliveredMessage

from seawall.clock import Clock
from seawall.errors import Misconfigured, SeawallError, Unavailable
from seawall.messaging.transports.rabbit_link import Wire

# How long the broker gets to have put back what was only looked at.
BACK = 1.0  # seconds

# Silence after which no more will come: somebody else took what we had counted. A busy broker
# is silent for a second now and then.
QUIET = 2.0  # seconds


class Busy(Unavailable):
    """Somebody else has taken from this queue and asked to be the only one."""


class Taken:
    """Messages in hand, for a moment."""

    def __init__(self, wire: Wire, channel: AbstractChannel, queue: str) -> None:
        self._wire = wire
        self._channel = channel
        self._queue = queue
        self.messages: list[DeliveredMessage] = []
        self._arrived = asyncio.Event()
        self._removed = 0

    async def take(self, count: int, *, exclusive: bool) -> None:
        call, channel = self._wire.call, self._channel
        await call(channel.basic_qos(prefetch_count=min(count, 65_535)))
        try:
            consumer = await call(
                channel.basic_consume(self._queue, self._arrive, exclusive=exclusive)
            )
        except Misconfigured as error:
            raise Busy(str(error)) from error
        with suppress(TimeoutError):
            while len(self.messages) < count:
                self._arrived.clear()
                async with asyncio.timeout(QUIET):
                    await self._arrived.wait()
        await call(channel.basic_cancel(consumer.consumer_tag or ""))

    async def _arrive(self, message: DeliveredMessage) -> None:
        self.messages.append(message)
        self._arrived.set()

    async def remove(self, message: DeliveredMessage) -> None:
        """It is not to go back."""
        await self._wire.call(self._channel.basic_ack(message.delivery_tag or 0, wait=False))
        self._removed += 1

    async def remove_all(self) -> None:
        last = self.messages[-1].delivery_tag or 0
        await self._wire.call(self._channel.basic_ack(last, multiple=True))
        self._removed = len(self.messages)

    async def put_back(self, clock: Clock) -> None:
        """Have the rest where it was, so that whoever looks next sees it."""
        left = len(self.messages) - self._removed
        if left <= 0:
            return
        last = self.messages[-1].delivery_tag or 0
        await self._wire.call(self._channel.basic_nack(last, multiple=True, requeue=True))
        give_up = clock.now() + BACK
        while clock.now() < give_up:
            answer = await self._wire.call(self._channel.queue_declare(self._queue, passive=True))
            if (answer.message_count or 0) >= left:
                return
            await clock.sleep(0.005)


@asynccontextmanager
async def taken(
    wire: Wire, queue: str, count: int, clock: Clock, *, exclusive: bool = False
) -> AsyncIterator[Taken]:
    """Up to `count` messages from the front of a queue. What the block does not remove goes back
    to where it was when the block ends."""
    channel = await wire.channel()
    found = Taken(wire, channel, queue)
    try:
        await found.take(count, exclusive=exclusive)
        yield found
    finally:
        if wire.usable and not channel.is_closed:
            with suppress(SeawallError):
                await found.put_back(clock)
                await wire.call(channel.close())
