"""redis-py: pipelines of XADD; XREADGROUP of 256 and one XACK for all of them."""

import time
from typing import Any

import redis.asyncio as redis

from benchmarks.messaging.work import GROUP, IN_FLIGHT, Counter, Figures, Task, body, ready, send


async def run(task: Task) -> Figures:
    client = redis.Redis.from_url(task.url)
    topic = task.topic
    if task.takes:
        figures = await _take(client, task)
    elif task.role == "publish":
        began, cpu = time.monotonic(), time.process_time()
        for left in range(task.count, 0, -IN_FLIGHT):
            async with client.pipeline(transaction=False) as pipe:
                for _ in range(min(left, IN_FLIGHT)):
                    pipe.xadd(topic, {"data": body()})
                await pipe.execute()
        figures = {"seconds": time.monotonic() - began, "cpu": time.process_time() - cpu}
    else:
        figures = await send(lambda data: client.xadd(topic, {"data": data}), task)
    await client.aclose()
    return figures


async def _take(client: redis.Redis, task: Task) -> Figures:
    topic = task.topic
    counter = Counter(task.count)
    await client.xgroup_create(topic, GROUP, "0", mkstream=True)
    ready()
    while not counter.done.is_set():
        # redis-py's types allow for both versions of the protocol; ours is the older.
        reply: Any = await client.xreadgroup(GROUP, "me", {topic: ">"}, count=256, block=1000)
        for _, entries in reply:
            for _, fields in entries:
                counter(fields[b"data"])
            await client.xack(topic, GROUP, *(entry for entry, _ in entries))
    return counter.report()
