"""aiormq: confirmed publishes, 256 under way; a push consumer that acknowledges 64 at a time."""

import aiormq
from aiormq.abc import AbstractChannel, DeliveredMessage

from benchmarks.messaging.work import Counter, Figures, Task, ready, send

_ACK_EVERY = 64


async def declare(channel: AbstractChannel, topic: str) -> None:
    """The queue of a topic, as durable as Seawall's."""
    await channel.queue_declare(topic, durable=True, arguments={"x-queue-type": "quorum"})


async def run(task: Task) -> Figures:
    connection = await aiormq.connect(task.url)
    channel = await connection.channel()
    await declare(channel, task.topic)
    if task.takes:
        figures = await _take(channel, task)
    else:
        durable = aiormq.spec.Basic.Properties(delivery_mode=2)

        async def publish(data: bytes) -> None:
            await channel.basic_publish(data, routing_key=task.topic, properties=durable)

        figures = await send(publish, task)
    await connection.close()
    return figures


async def _take(channel: AbstractChannel, task: Task) -> Figures:
    counter = Counter(task.count)
    seen = 0

    async def take(message: DeliveredMessage) -> None:
        nonlocal seen
        counter(message.body)
        seen += 1
        if seen % _ACK_EVERY == 0 or seen >= task.count:
            assert message.delivery_tag is not None
            await channel.basic_ack(message.delivery_tag, multiple=True, wait=False)

    await channel.basic_qos(prefetch_count=512)
    await channel.basic_consume(task.topic, take)
    ready()
    await counter.done.wait()
    return counter.report()
