"""FastStream, without logs and dependency injection, prefetch 200."""

import asyncio
from typing import Any

from benchmarks.messaging.subjects import raw_kafka, raw_nats, raw_rabbitmq
from benchmarks.messaging.work import GROUP, Counter, Figures, Publish, Task, ready, send


async def run(task: Task) -> Figures:
    made = await _MAKE[task.broker](task)
    broker, subscribe, publish = made
    if not task.takes:
        async with broker:
            return await send(publish, task)
    counter = Counter(task.count)

    @broker.subscriber(**subscribe)
    async def handle(order: dict[str, Any]) -> None:
        counter.count(order)

    async with broker:
        await broker.start()
        ready()
        await counter.done.wait()
        return counter.report()


Made = tuple[Any, dict[str, Any], Publish]


async def _redis(task: Task) -> Made:
    import redis.asyncio as redis
    from faststream.redis import RedisBroker, StreamSub

    broker = RedisBroker(task.url, logger=None, apply_types=False)
    stream = StreamSub(task.topic, group=GROUP, consumer="me", last_id=">", max_records=200)
    if task.role == "consume":
        async with redis.Redis.from_url(task.url) as client:
            await client.xgroup_create(task.topic, GROUP, "0")
    limit = asyncio.Semaphore(64)  # its pool raises beyond 100 connections

    async def publish(data: bytes) -> None:
        async with limit:
            await broker.publish(data, stream=task.topic)

    return broker, {"stream": stream}, publish


async def _rabbitmq(task: Task) -> Made:
    import aiormq
    from faststream.rabbit import Channel, QueueType, RabbitBroker, RabbitQueue

    connection = await aiormq.connect(task.url)
    await raw_rabbitmq.declare(await connection.channel(), task.topic)
    await connection.close()
    broker = RabbitBroker(
        task.url, logger=None, apply_types=False, default_channel=Channel(prefetch_count=200)
    )
    queue = RabbitQueue(task.topic, queue_type=QueueType.QUORUM, durable=True)

    async def publish(data: bytes) -> None:
        await broker.publish(data, queue=task.topic, persist=True)

    return broker, {"queue": queue}, publish


async def _nats(task: Task) -> Made:
    import nats
    from faststream.nats import JStream, NatsBroker, PullSub
    from nats.js.api import DeliverPolicy

    client = await nats.connect(task.url)
    await raw_nats.declare(client.jetstream(), task.topic)
    await client.close()
    broker = NatsBroker(task.url, logger=None, apply_types=False)
    subscribe = {
        "subject": task.topic,
        "stream": JStream(task.topic, declare=False),
        "durable": GROUP,
        "deliver_policy": DeliverPolicy.ALL,
        "pull_sub": PullSub(batch_size=200),
    }

    async def publish(data: bytes) -> None:
        await broker.publish(data, subject=task.topic, stream=task.topic)

    return broker, subscribe, publish


async def _kafka(task: Task) -> Made:
    from faststream import AckPolicy
    from faststream.confluent import KafkaBroker

    raw_kafka.declare(task.url, task.topic)
    broker = KafkaBroker(
        raw_kafka.servers(task.url),
        logger=None,
        apply_types=False,
        allow_auto_create_topics="create=false" not in task.url,
    )
    subscribe = {
        "group_id": GROUP + task.topic,
        "auto_offset_reset": "earliest",
        "ack_policy": AckPolicy.ACK,
        "fetch_max_wait_ms": int(raw_kafka.settings(task.url).get("fetch.wait.max.ms", 500)),
    }

    async def publish(data: bytes) -> None:
        await broker.publish(data, topic=task.topic)

    return _Kafka(broker, task.topic), subscribe, publish


class _Kafka:
    """A broker whose subscriber names its topic first, like none of the others."""

    def __init__(self, broker: Any, topic: str) -> None:
        self._broker = broker
        self._topic = topic

    def subscriber(self, **how: Any) -> Any:
        return self._broker.subscriber(self._topic, **how)

    async def start(self) -> None:
        await self._broker.start()

    async def __aenter__(self) -> None:
        await self._broker.__aenter__()

    async def __aexit__(self, *exc: Any) -> None:
        await self._broker.__aexit__(*exc)


_MAKE = {
    "valkey": _redis,
    "redis": _redis,
    "rabbitmq": _rabbitmq,
    "nats": _nats,
    "kafka": _kafka,
    "kafka-model": _kafka,
}
