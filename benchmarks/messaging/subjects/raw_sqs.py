"""aiobotocore: ten messages a call, eight calls at a time."""

import asyncio
import time
from typing import Any

from aiobotocore.session import get_session

from benchmarks.messaging.work import Counter, Figures, Task, body, ready, send
from seawall.messaging.transports.sqs_link import Sqs

_CALLS = 8
_A_CALL = 10


async def run(task: Task) -> Figures:
    options = Sqs.parse(task.url)
    async with get_session().create_client(
        "sqs",
        region_name=options.region,
        endpoint_url=options.endpoint,
        aws_access_key_id=options.access_key,
        aws_secret_access_key=options.secret_key,
    ) as client:
        queue = (await client.create_queue(QueueName=task.topic))["QueueUrl"]
        if task.takes:
            return await _take(client, queue, task)
        if task.role == "pace":

            async def publish(data: bytes) -> None:
                await client.send_message(QueueUrl=queue, MessageBody=data.decode())

            return await send(publish, task)
        return await _store(client, queue, task.count)


async def _store(client: Any, queue: str, count: int) -> Figures:
    sizes = iter([min(_A_CALL, left) for left in range(count, 0, -_A_CALL)])

    async def work() -> None:
        for size in sizes:
            batch = [{"Id": str(n), "MessageBody": body().decode()} for n in range(size)]
            await client.send_message_batch(QueueUrl=queue, Entries=batch)

    began, cpu = time.monotonic(), time.process_time()
    await asyncio.gather(*(work() for _ in range(_CALLS)))
    return {"seconds": time.monotonic() - began, "cpu": time.process_time() - cpu}


async def _take(client: Any, queue: str, task: Task) -> Figures:
    counter = Counter(task.count)

    async def work() -> None:
        while not counter.done.is_set():
            reply = await client.receive_message(
                QueueUrl=queue, MaxNumberOfMessages=_A_CALL, WaitTimeSeconds=1
            )
            messages = reply.get("Messages", [])
            for message in messages:
                counter(message["Body"].encode())
            if messages:
                done = [
                    {"Id": str(n), "ReceiptHandle": message["ReceiptHandle"]}
                    for n, message in enumerate(messages)
                ]
                await client.delete_message_batch(QueueUrl=queue, Entries=done)

    ready()
    await asyncio.gather(*(work() for _ in range(_CALLS)))
    return counter.report()
