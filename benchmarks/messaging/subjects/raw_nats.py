"""nats-py: asynchronous publishes; a push consumer of JetStream that acknowledges each message."""

import itertools

import nats
from nats.aio.msg import Msg
from nats.js import JetStreamContext
from nats.js.api import AckPolicy, ConsumerConfig

from benchmarks.messaging.work import GROUP, Counter, Figures, Task, event, ready, send


async def declare(context: JetStreamContext, topic: str) -> None:
    """The stream of a topic; files, as Seawall's."""
    await context.add_stream(name=topic, subjects=[topic])


async def run(task: Task, *, events: bool = False) -> Figures:
    """`events` has each message travel as a CloudEvent, as ours do."""
    client = await nats.connect(task.url)
    context = client.jetstream()
    await declare(context, task.topic)
    if task.takes:
        counter = Counter(task.count)

        async def take(message: Msg) -> None:
            counter(message.data)
            await message.ack()

        config = ConsumerConfig(ack_policy=AckPolicy.EXPLICIT, max_ack_pending=20_000)
        await context.subscribe(task.topic, durable=GROUP, cb=take, manual_ack=True, config=config)
        ready()
        await counter.done.wait()
        figures = counter.report()
    else:
        serial = itertools.count()

        async def publish(data: bytes) -> None:
            headers = None
            if events:
                attributes = event(next(serial))
                headers = {**attributes, "Nats-Msg-Id": attributes["ce-id"]}
            await (await context.publish_async(task.topic, data, headers=headers))

        figures = await send(publish, task)
    await client.drain()
    return figures
