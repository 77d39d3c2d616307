"""Each broker's own client, by hand and in batches: what a framework is measured against."""

from benchmarks.messaging.subjects import raw_kafka, raw_nats, raw_rabbitmq, raw_redis, raw_sqs
from benchmarks.messaging.work import Figures, Task

_RUN = {
    "valkey": raw_redis.run,
    "redis": raw_redis.run,
    "rabbitmq": raw_rabbitmq.run,
    "nats": raw_nats.run,
    "kafka": raw_kafka.run,
    "kafka-model": raw_kafka.run,
    "sqs": raw_sqs.run,
}


async def run(task: Task) -> Figures:
    return await _RUN[task.broker](task)
