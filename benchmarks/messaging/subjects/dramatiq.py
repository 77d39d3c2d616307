"""dramatiq with eight threads, as many as it starts by default. Its queue on RabbitMQ is a classic
one; on Redis it is a list."""

import json
import threading
from typing import Any

import dramatiq
from dramatiq.brokers.rabbitmq import RabbitmqBroker
from dramatiq.brokers.redis import RedisBroker

from benchmarks.messaging.work import Counter, Figures, Task, leave, ready, send_one_by_one


def run(task: Task) -> Figures:
    broker: Any
    if task.broker == "rabbitmq":
        broker = RabbitmqBroker(url=task.url, confirm_delivery=True)
    else:
        broker = RedisBroker(url=task.url)
    dramatiq.set_broker(broker)
    counter = Counter(task.count)
    one_at_a_time = threading.Lock()

    @dramatiq.actor(queue_name=task.topic)
    def handle(order: dict[str, Any]) -> None:
        with one_at_a_time:
            counter.count(order)
            if counter.done.is_set():
                leave(counter.report())

    if task.takes:
        dramatiq.Worker(broker, worker_threads=8).start()
        ready()
        threading.Event().wait()
    return send_one_by_one(lambda data: handle.send(json.loads(data)), task)
