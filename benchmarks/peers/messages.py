"""The processes that `benchmarks.messages` measures, one function a subject and role.

Run as `python -m benchmarks.peers.messages SUBJECT ROLE URL TOPIC COUNT`. Prints one JSON line.
Every handler decodes the JSON body and counts. Publishers keep 256 messages under way.

    publish   stores COUNT messages
    consume   takes COUNT messages that are there
    pace      stores COUNT messages at 500 a second, each at its own scheduled time
    listen    takes COUNT messages as they come, and how late each one was
"""

import asyncio
import importlib.util
import json
import os
import sys
import time
from collections.abc import Awaitable, Callable
from statistics import quantiles
from typing import Any, NoReturn

import uvloop

IN_FLIGHT = 256
RATE = 500  # messages a second when paced
WARM_UP = 300  # paced messages that are not counted
GROUP = "bench"

BODY = {
    "order_id": "0190a5c4-0000-7000-8000-000000000000",
    "customer": "c-4711",
    "lines": [{"sku": "tea-green-100", "quantity": 2, "price": 450}],
    "note": "x" * 90,
}

NEEDS = {
    "raw": "redis",
    "seawall": "seawall",
    "faststream": "faststream",
    "taskiq": "taskiq_redis",
    "celery": "celery",
}

Publish = Callable[[bytes], Awaitable[object]]


def installed(subject: str) -> bool:
    return importlib.util.find_spec(NEEDS[subject]) is not None


def body(sent_at: float = 0.0) -> bytes:
    return json.dumps({**BODY, "sent_at": sent_at}).encode()


class Counter:
    """What a handler does: decode, count, and note how old the message was."""

    def __init__(self, wanted: int) -> None:
        self._wanted = wanted
        self._seen = 0
        self._late: list[float] = []
        self.done = asyncio.Event()
        self.first_at = 0.0
        self.first_cpu = 0.0

    def __call__(self, data: bytes) -> None:
        self.count(json.loads(data))

    def count(self, order: dict[str, Any]) -> None:
        if not self._seen:
            self.first_at, self.first_cpu = time.monotonic(), time.process_time()
        self._seen += 1
        if order["sent_at"]:
            self._late.append(time.monotonic() - order["sent_at"])
        if self._seen == self._wanted:
            self.done.set()

    def report(self) -> dict[str, float]:
        seconds = time.monotonic() - self.first_at
        figures = {"seconds": seconds, "cpu": time.process_time() - self.first_cpu}
        if self._late:
            cut = quantiles(self._late[WARM_UP:], n=100)
            figures |= {"p50_ms": cut[49] * 1000, "p99_ms": cut[98] * 1000}
        return figures


async def publish_all(publish: Publish, count: int) -> dict[str, float]:
    """COUNT messages, `IN_FLIGHT` under way at any time."""
    remaining = iter(range(count))

    async def work() -> None:
        for _ in remaining:
            await publish(body())

    began, cpu = time.monotonic(), time.process_time()
    await asyncio.gather(*(work() for _ in range(IN_FLIGHT)))
    return {"seconds": time.monotonic() - began, "cpu": time.process_time() - cpu}


async def publish_paced(publish: Publish, count: int) -> dict[str, float]:
    began = time.monotonic()
    async with asyncio.TaskGroup() as tasks:
        for n in range(count):
            scheduled = began + n / RATE
            await asyncio.sleep(max(0.0, scheduled - time.monotonic()))
            tasks.create_task(_publish(publish, scheduled))
    return {"seconds": time.monotonic() - began}


async def _publish(publish: Publish, scheduled: float) -> None:
    await publish(body(scheduled))


async def send(publish: Publish, role: str, count: int) -> dict[str, float]:
    return await (publish_all if role == "publish" else publish_paced)(publish, count)


# raw: redis-py, everything by hand in batches


async def raw(role: str, url: str, topic: str, count: int) -> dict[str, float]:
    import redis.asyncio as redis

    client = redis.Redis.from_url(url)
    if role in ("consume", "listen"):
        counter = Counter(count)
        if role == "listen":
            await client.xgroup_create(topic, GROUP, "0", mkstream=True)
            print("ready", flush=True)
        else:
            await client.xgroup_create(topic, GROUP, "0")
        while not counter.done.is_set():
            # redis-py's types allow for both versions of the protocol; ours is the older.
            reply: Any = await client.xreadgroup(GROUP, "me", {topic: ">"}, count=256, block=1000)
            for _, entries in reply:
                for _, fields in entries:
                    counter(fields[b"data"])
                await client.xack(topic, GROUP, *(entry for entry, _ in entries))
        figures = counter.report()
    elif role == "publish":
        began, cpu = time.monotonic(), time.process_time()
        for _ in range(count // IN_FLIGHT):
            async with client.pipeline(transaction=False) as pipe:
                for _ in range(IN_FLIGHT):
                    pipe.xadd(topic, {"data": body()})
                await pipe.execute()
        figures = {"seconds": time.monotonic() - began, "cpu": time.process_time() - cpu}
    else:
        figures = await publish_paced(lambda data: client.xadd(topic, {"data": data}), count)
    await client.aclose()
    return figures


async def seawall(role: str, url: str, topic: str, count: int) -> dict[str, float]:
    """With envelope, 64-way concurrency, reclaim, retry policy and an observer of all facts."""
    from seawall.messaging.base import Delivery, Message, Subscription
    from seawall.messaging.connect import open_transport
    from seawall.messaging.consumer import Consumer, ConsumerConfig
    from seawall.messaging.publisher import Publisher
    from seawall.wire.envelope import Envelope, to_headers

    facts: dict[str, int] = {}

    def observe(fact: object) -> None:
        name = type(fact).__name__
        facts[name] = facts.get(name, 0) + 1

    transport = open_transport(url, observer=observe)
    await transport.open()
    if role in ("consume", "listen"):
        counter = Counter(count)

        async def handle(delivery: Delivery) -> None:
            counter(delivery.message.body)

        sub = Subscription(topic, GROUP)
        if role == "listen":
            await transport.provision([sub])
            print("ready", flush=True)
        config = ConsumerConfig(concurrency=64, prefetch=512)
        async with Consumer(transport, sub, handle, config=config, observer=observe):
            await counter.done.wait()
            figures = counter.report()
        lag = await transport.lag(sub)
        assert (lag.ready, lag.in_flight) == (0, 0)
    else:
        serial = 0

        async def publish(data: bytes) -> None:
            nonlocal serial
            serial += 1
            envelope = Envelope(
                id=f"0190a5c4-{serial}", type=topic, source="/bench", time=time.time()
            )
            await publisher.publish(topic, Message(envelope.id, data, to_headers(envelope)))

        async with Publisher(transport, observer=observe) as publisher:
            figures = await send(publish, role, count)
    await transport.aclose()
    return figures


async def faststream(role: str, url: str, topic: str, count: int) -> dict[str, float]:
    from faststream.redis import RedisBroker, StreamSub

    broker = RedisBroker(url, logger=None, apply_types=False)
    if role in ("consume", "listen"):
        counter = Counter(count)
        stream = StreamSub(topic, group=GROUP, consumer="me", last_id=">", max_records=200)

        @broker.subscriber(stream=stream)
        async def handle(order: dict[str, Any]) -> None:
            counter.count(order)

        if role == "consume":
            import redis.asyncio as redis

            async with redis.Redis.from_url(url) as client:
                await client.xgroup_create(topic, GROUP, "0")
        async with broker:
            await broker.start()
            print("ready", flush=True)
            await counter.done.wait()
            return counter.report()
    async with broker:
        limit = asyncio.Semaphore(64)  # its pool raises beyond 100 connections

        async def publish(data: bytes) -> None:
            async with limit:
                await broker.publish(data, stream=topic)

        return await send(publish, role, count)


async def taskiq(role: str, url: str, topic: str, count: int) -> dict[str, float]:
    from taskiq.api import run_receiver_task
    from taskiq_redis import RedisStreamBroker

    # Its groups start with what comes after them unless told otherwise.
    broker = RedisStreamBroker(url, queue_name=topic, consumer_id="0", max_connection_pool_size=64)
    counter = Counter(count)

    @broker.task(task_name="handle")
    async def handle(order: dict[str, Any]) -> None:
        counter.count(order)

    if role in ("consume", "listen"):
        broker.is_worker_process = True
        await broker.startup()
        print("ready", flush=True)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(run_receiver_task(broker, max_async_tasks=64))
            await counter.done.wait()
            leave(counter.report())  # a receiver that was cancelled does not always end
    await broker.startup()

    async def publish(data: bytes) -> None:
        await handle.kiq(json.loads(data))

    figures = await send(publish, role, count)
    await broker.shutdown()
    return figures


def leave(figures: dict[str, float]) -> NoReturn:
    # Celery redirects sys.stdout.
    print(json.dumps(figures), flush=True, file=sys.__stdout__)
    os._exit(0)


def celery(role: str, url: str, topic: str, count: int) -> dict[str, float]:
    from celery import Celery

    app = Celery("bench", broker=url)
    app.conf.update(task_default_queue=topic, task_acks_late=True, worker_prefetch_multiplier=200)
    app.conf.update(task_ignore_result=True, worker_concurrency=1, broker_pool_limit=None)
    counter = Counter(count)

    @app.task(name="handle")
    def handle(order: dict[str, Any]) -> None:
        counter.count(order)
        if counter.done.is_set():
            leave(counter.report())

    if role in ("consume", "listen"):
        print("ready", flush=True)
        arguments = ["worker", "--pool=solo", "--loglevel=ERROR", "--without-gossip"]
        app.worker_main([*arguments, "--without-mingle", "--without-heartbeat"])
    began, cpu = time.monotonic(), time.process_time()
    for n in range(count):
        scheduled = began + n / RATE if role == "pace" else 0.0
        if scheduled:
            time.sleep(max(0.0, scheduled - time.monotonic()))
        handle.delay(json.loads(body(scheduled)))
    return {"seconds": time.monotonic() - began, "cpu": time.process_time() - cpu}


def main(subject: str, role: str, url: str, topic: str, count: str) -> None:
    if subject == "celery":
        print(json.dumps(celery(role, url, topic, int(count))), flush=True)
        return
    run: Any = {"raw": raw, "seawall": seawall, "faststream": faststream, "taskiq": taskiq}
    print(json.dumps(uvloop.run(run[subject](role, url, topic, int(count)))), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
