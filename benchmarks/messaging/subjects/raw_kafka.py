"""confluent-kafka, which blocks: a stream of produces; 500 read at a time, one commit for them."""

import time
from urllib.parse import urlsplit

from confluent_kafka import Consumer, Producer
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from benchmarks.messaging.work import GROUP, RATE, Counter, Figures, Task, body, ready


def servers(url: str) -> str:
    return urlsplit(url).netloc


def declare(url: str, topic: str) -> None:
    """The topic, of six partitions as Seawall's."""
    admin = AdminClient({"bootstrap.servers": servers(url)})
    for made in admin.create_topics([NewTopic(topic, 6, 1)]).values():
        made.exception()  # it may be there


async def run(task: Task) -> Figures:
    declare(task.url, task.topic)
    return _take(task) if task.takes else _send(task)


def _send(task: Task) -> Figures:
    producer = Producer({"bootstrap.servers": servers(task.url), "acks": "all", "linger.ms": 1})
    began, cpu = time.monotonic(), time.process_time()
    for n in range(task.count):
        scheduled = began + n / RATE if task.role == "pace" else 0.0
        while scheduled and (early := scheduled - time.monotonic()) > 0:
            producer.poll(min(early, 0.001))
        while True:
            try:
                producer.produce(task.topic, body(scheduled))
            except BufferError:
                producer.poll(0.01)
            else:
                break
    producer.flush()
    return {"seconds": time.monotonic() - began, "cpu": time.process_time() - cpu}


def _take(task: Task) -> Figures:
    consumer = Consumer(
        {
            "bootstrap.servers": servers(task.url),
            "group.id": GROUP + task.topic,
            "auto.offset.reset": "earliest",
            "enable.auto.commit": False,
        }
    )
    consumer.subscribe([task.topic], on_assign=lambda *_: ready())
    counter = Counter(task.count)
    while not counter.done.is_set():
        messages = consumer.consume(500, timeout=0.05)
        for message in messages:
            counter(message.value() or b"")
        if messages:
            consumer.commit(asynchronous=True)
    figures = counter.report()
    consumer.commit(asynchronous=False)
    consumer.close()
    return figures
