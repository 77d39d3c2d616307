"""One message at a time above, batches below."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace

import pytest

from seawall.errors import OutcomeUnknown, Refused, Unavailable
from seawall.messaging.base import Caps, Message, Receipt, Subscription
from seawall.messaging.facts import Published, PublishFailed
from seawall.messaging.publisher import Publisher
from seawall.messaging.transports.memory import MAX_BODY, MemoryTransport
from tests.support.waiting import eventually


class Recording(MemoryTransport):
    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[str, float, list[str]]] = []
        self.broken: dict[str, Exception] = {}

    async def publish(
        self, topic: str, messages: Sequence[Message], *, delay: float = 0.0
    ) -> Sequence[Receipt]:
        self.calls.append((topic, delay, [message.id for message in messages]))
        if topic in self.broken:
            raise self.broken[topic]
        return await super().publish(topic, messages, delay=delay)


@pytest.fixture
async def transport() -> AsyncIterator[Recording]:
    transport = Recording()
    await transport.open()
    yield transport
    await transport.aclose()


async def test_concurrent_calls_make_one_batch_a_topic_and_delay(transport: Recording) -> None:
    facts: list[object] = []
    async with Publisher(transport, observer=facts.append) as publisher:
        await asyncio.gather(
            publisher.publish("a", Message("1", b"")),
            publisher.publish("b", Message("2", b"")),
            publisher.publish("a", Message("3", b"")),
            publisher.publish("a", Message("4", b""), delay=5),
        )
    assert transport.calls == [("a", 0, ["1", "3"]), ("b", 0, ["2"]), ("a", 5, ["4"])]
    published = [(fact.topic, fact.messages) for fact in facts if isinstance(fact, Published)]
    assert published == [("a", 2), ("b", 1), ("a", 1)]


async def test_a_transport_says_how_large_a_batch_is() -> None:
    class Small(Recording):
        @property
        def caps(self) -> Caps:
            return replace(super().caps, batch=2)

    transport = Small()
    await transport.open()
    async with Publisher(transport) as publisher:
        await asyncio.gather(*(publisher.publish("t", Message(str(n), b"")) for n in range(5)))
    assert [ids for _, _, ids in transport.calls] == [["0", "1"], ["2", "3"], ["4"]]


async def test_a_batch_of_several_topics_is_not_overtaken() -> None:
    class Together(Recording):
        gate = asyncio.Event()

        @property
        def caps(self) -> Caps:
            return replace(super().caps, publishes=2)

        async def publish(
            self, topic: str, messages: Sequence[Message], *, delay: float = 0.0
        ) -> Sequence[Receipt]:
            receipts = await super().publish(topic, messages, delay=delay)
            await self.gate.wait()
            return receipts

    transport = Together()
    await transport.open()
    async with Publisher(transport, batch=2) as publisher, asyncio.TaskGroup() as tasks:
        tasks.create_task(publisher.publish("a", Message("1", b"")))
        await eventually(lambda: len(transport.calls) == 1)
        for topic, name in (("a", "2"), ("b", "3"), ("a", "4")):
            tasks.create_task(publisher.publish(topic, Message(name, b"")))
        transport.gate.set()
    assert [ids for topic, _, ids in transport.calls if topic == "a"] == [["1"], ["2"], ["4"]]


async def test_order_is_kept(transport: Recording) -> None:
    async with Publisher(transport, batch=7) as publisher:
        await asyncio.gather(*(publisher.publish("t", Message(str(n), b"")) for n in range(50)))
    found = await transport.fetch(Subscription("t", "g"), 50, wait=0, lease=1)
    assert [delivery.message.id for delivery in found] == [str(n) for n in range(50)]


async def test_one_refused_message_fails_alone(transport: Recording) -> None:
    facts: list[object] = []
    publisher = Publisher(transport, observer=facts.append)
    outcomes = await asyncio.gather(
        publisher.publish("t", Message("ok", b"")),
        publisher.publish("t", Message("large", b"x" * (MAX_BODY + 1))),
        return_exceptions=True,
    )
    assert [type(outcome) for outcome in outcomes] == [type(None), Refused]
    assert [type(fact) for fact in facts] == [PublishFailed, Published]


@pytest.mark.parametrize("error", [Unavailable("away"), OutcomeUnknown("cut")])
async def test_a_failed_topic_is_told_to_its_callers_only(
    transport: Recording, error: Exception
) -> None:
    transport.broken["bad"] = error
    publisher = Publisher(transport)
    outcomes = await asyncio.gather(
        publisher.publish("bad", Message("1", b"")),
        publisher.publish("good", Message("2", b"")),
        return_exceptions=True,
    )
    assert [type(outcome) for outcome in outcomes] == [type(error), type(None)]
    del transport.broken["bad"]
    await publisher.publish("bad", Message("1", b""))
