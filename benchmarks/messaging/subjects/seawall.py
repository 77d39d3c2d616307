"""Ours, with envelope, 64-way concurrency, reclaim, retry policy and an observer of all facts."""

import time

from benchmarks.messaging.work import GROUP, Counter, Figures, Task, message_id, ready, send
from seawall.messaging.base import Delivery, Message, Subscription, Transport
from seawall.messaging.connect import open_transport
from seawall.messaging.consumer import Consumer, ConsumerConfig
from seawall.messaging.publisher import Publisher
from seawall.wire.envelope import Envelope, to_headers


class Facts:
    """Counts facts by kind, as metrics do."""

    def __init__(self) -> None:
        self.seen: dict[str, int] = {}

    def __call__(self, fact: object) -> None:
        name = type(fact).__name__
        self.seen[name] = self.seen.get(name, 0) + 1


async def run(task: Task) -> Figures:
    facts = Facts()
    transport = open_transport(task.url, observer=facts)
    await transport.open()
    await transport.provision([Subscription(task.topic, GROUP)])
    figures = await (_take if task.takes else _send)(transport, task, facts)
    await transport.aclose()
    return figures


async def _take(transport: Transport, task: Task, facts: Facts) -> Figures:
    counter = Counter(task.count)

    async def handle(delivery: Delivery) -> None:
        counter(delivery.message.body)

    subscription = Subscription(task.topic, GROUP)
    config = ConsumerConfig(concurrency=64, prefetch=512)
    async with Consumer(transport, subscription, handle, config=config, observer=facts):
        ready()
        await counter.done.wait()
        return counter.report()


async def _send(transport: Transport, task: Task, facts: Facts) -> Figures:
    serial = 0

    async def publish(data: bytes) -> None:
        nonlocal serial
        serial += 1
        envelope = Envelope(
            id=message_id(serial), type=task.topic, source="/bench", time=time.time()
        )
        await publisher.publish(task.topic, Message(envelope.id, data, to_headers(envelope)))

    async with Publisher(transport, observer=facts) as publisher:
        return await send(publish, task)
