"""A consumer that is paused takes nothing, and goes on where it was."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from seawall.messaging.base import Delivery, Message, Subscription
from seawall.messaging.consumer import Consumer, ConsumerConfig
from seawall.messaging.transports.memory import Broker, MemoryTransport
from tests.support.transports import message, store
from tests.support.waiting import eventually, eventually_async

SUB = Subscription("t", "g")


@pytest.fixture
async def transport() -> AsyncIterator[MemoryTransport]:
    transport = MemoryTransport(Broker())
    await transport.open()
    yield transport
    await transport.aclose()


class Handler:
    """Notes what it sees, and waits until it may go on."""

    def __init__(self, *, held: bool = False) -> None:
        self.seen: list[tuple[str, int]] = []
        self.go = asyncio.Event()
        if not held:
            self.go.set()

    async def __call__(self, delivery: Delivery) -> None:
        self.seen.append((delivery.message.id, delivery.attempt))
        await self.go.wait()


async def test_a_paused_consumer_takes_nothing_until_it_goes_on(
    transport: MemoryTransport,
) -> None:
    handler = Handler()
    async with Consumer(transport, SUB, handler) as consumer:
        await store(transport, "t", message("a"))
        await eventually(lambda: handler.seen == [("a", 1)])
        await consumer.pause()
        await store(transport, "t", message("b"))
        assert (await transport.lag(SUB)).ready == 1
        assert handler.seen == [("a", 1)]
        consumer.resume()
        await eventually(lambda: handler.seen == [("a", 1), ("b", 1)])


async def test_what_was_not_begun_is_given_back_and_what_was_is_finished(
    transport: MemoryTransport,
) -> None:
    handler = Handler(held=True)
    config = ConsumerConfig(concurrency=1, prefetch=3)
    async with Consumer(transport, SUB, handler, config=config) as consumer:
        await store(transport, "t", *(Message(name, b"") for name in "abc"))
        await eventually(lambda: consumer.snapshot().buffered == 2)
        await consumer.pause()
        lag = await transport.lag(SUB)
        assert (lag.ready, lag.in_flight) == (2, 1)
        handler.go.set()

        async def settled() -> bool:
            return (await transport.lag(SUB)).in_flight == 0

        await eventually_async(settled)
        assert handler.seen == [("a", 1)]
        consumer.resume()
        await eventually(lambda: handler.seen == [("a", 1), ("b", 1), ("c", 1)])


async def test_pausing_and_going_on_twice_is_fine(transport: MemoryTransport) -> None:
    handler = Handler()
    async with Consumer(transport, SUB, handler) as consumer:
        await consumer.pause()
        await consumer.pause()
        consumer.resume()
        consumer.resume()
        await store(transport, "t", message("a"))
        await eventually(lambda: handler.seen == [("a", 1)])


async def test_a_paused_consumer_stops_like_any_other(transport: MemoryTransport) -> None:
    async with Consumer(transport, SUB, Handler()) as consumer:
        await consumer.pause()
    consumer.resume()
    assert not consumer.snapshot().fetching
