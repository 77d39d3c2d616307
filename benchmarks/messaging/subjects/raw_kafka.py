"""confluent-kafka, which blocks: a stream of produces; 500 read at once where there are as many."""

import time
from urllib.parse import parse_qsl, urlsplit

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, Producer
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from benchmarks.messaging.work import GROUP, RATE, Counter, Figures, Task, body, event, ready


def servers(url: str) -> str:
    return urlsplit(url).netloc


def settings(url: str) -> dict[str, str]:
    """What the URL sets of librdkafka."""
    return {name: value for name, value in parse_qsl(urlsplit(url).query) if "." in name}


def declare(url: str, topic: str) -> None:
    """The topic, of six partitions as Seawall's; or of as many as the broker likes, where it makes
    topics by itself when they are asked for."""
    admin = AdminClient({"bootstrap.servers": servers(url)})
    if "create=false" in url:
        admin.list_topics(topic, timeout=10)
        return
    for made in admin.create_topics([NewTopic(topic, 6, 1)]).values():
        made.exception()  # it may be there


async def run(task: Task, *, events: bool = False) -> Figures:
    """`events` has each message travel as a CloudEvent, and waits for its receipt, as ours do."""
    declare(task.url, task.topic)
    return _take(task) if task.takes else _send(task, events)


def _stored(error: KafkaError | None, _: Message) -> None:
    if error is not None:
        raise KafkaException(error)


def _send(task: Task, events: bool) -> Figures:
    producer = Producer({"bootstrap.servers": servers(task.url), "acks": "all", "linger.ms": 1})
    began, cpu = time.monotonic(), time.process_time()
    for n in range(task.count):
        scheduled = began + n / RATE if task.role == "pace" else 0.0
        while scheduled and (early := scheduled - time.monotonic()) > 0:
            producer.poll(min(early, 0.001))
        while True:
            try:
                if events:
                    producer.produce(
                        task.topic,
                        body(scheduled),
                        headers=[*event(n).items()],
                        on_delivery=_stored,
                    )
                else:
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
            **settings(task.url),
        }
    )
    consumer.subscribe([task.topic], on_assign=lambda *_: ready())
    counter = Counter(task.count)
    while not counter.done.is_set():
        # A `consume` of 500 would wait for all of them.
        first = consumer.poll(0.05)
        if first is not None:
            for message in [first, *consumer.consume(499, timeout=0)]:
                counter(message.value() or b"")
            consumer.commit(asynchronous=True)
    figures = counter.report()
    consumer.close()
    return figures
