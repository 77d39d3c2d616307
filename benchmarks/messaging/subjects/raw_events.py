"""The broker's own client by hand, with all that ours carries, too: the headers of a CloudEvent on
each message, and on Kafka a receipt for each."""

from benchmarks.messaging.subjects import raw_kafka, raw_nats
from benchmarks.messaging.work import Figures, Task


async def run(task: Task) -> Figures:
    by_hand = raw_nats.run if task.broker == "nats" else raw_kafka.run
    return await by_hand(task, events=True)
