"""nats-py by hand, with the headers of a CloudEvent on each message: what ours carries, too."""

from benchmarks.messaging.subjects import raw_nats
from benchmarks.messaging.work import Figures, Task


async def run(task: Task) -> Figures:
    return await raw_nats.run(task, events=True)
