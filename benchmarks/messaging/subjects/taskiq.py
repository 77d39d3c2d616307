"""taskiq, 64 tasks at a time, prefetch 200."""

import asyncio
import json
from typing import Any

from taskiq import AsyncBroker
from taskiq.api import run_receiver_task

from benchmarks.messaging.work import GROUP, Counter, Figures, Task, leave, ready, send


async def run(task: Task) -> Figures:
    broker = _MAKE[task.broker](task)
    counter = Counter(task.count)

    @broker.task(task_name="handle")
    async def handle(order: dict[str, Any]) -> None:
        counter.count(order)

    broker.is_worker_process = task.takes
    await broker.startup()
    if task.takes:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(run_receiver_task(broker, max_async_tasks=64))
            ready()
            await counter.done.wait()
            leave(counter.report())  # a receiver that was cancelled does not always end

    async def publish(data: bytes) -> None:
        await handle.kiq(json.loads(data))

    figures = await send(publish, task)
    await broker.shutdown()
    return figures


def _redis(task: Task) -> AsyncBroker:
    from taskiq_redis import RedisStreamBroker

    # Its groups start with what comes after them unless told otherwise.
    return RedisStreamBroker(
        task.url, queue_name=task.topic, consumer_id="0", max_connection_pool_size=64
    )


def _rabbitmq(task: Task) -> AsyncBroker:
    from taskiq_aio_pika import AioPikaBroker, Exchange, Queue

    return AioPikaBroker(
        task.url, qos=200, exchange=Exchange(name=task.topic), task_queues=[Queue(name=task.topic)]
    )


def _nats(task: Task) -> AsyncBroker:
    from taskiq_nats import PullBasedJetStreamBroker

    return PullBasedJetStreamBroker(
        [task.url],
        subject=task.topic,
        stream_name=task.topic,
        durable=GROUP,
        pull_consume_batch=200,
    )


_MAKE = {"valkey": _redis, "redis": _redis, "rabbitmq": _rabbitmq, "nats": _nats}
