"""One process's way to a Kafka cluster: a producer with a thread, blocking calls off the loop.

What confluent-kafka says ends here, and in `kafka_reader`:

    no broker, no leader, no coordinator              Unavailable    nothing happened
    no answer in time, to something that was sent     OutcomeUnknown
    the producer's queue is full                      Full
    too large for the topic                           Refused
    not allowed, wrong password, no such topic        Misconfigured
"""

import asyncio
import itertools
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import NamedTuple, TypeVar

from confluent_kafka import KafkaError, KafkaException, Message, Producer
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from seawall.errors import (
    Full,
    Misconfigured,
    OutcomeUnknown,
    Refused,
    SeawallError,
    Unavailable,
)
from seawall.messaging.transports.kafka_options import Kafka

T = TypeVar("T")

# A body of this size fits into the 1,048,588 bytes that brokers take by default, with headers
# and with a dead letter's error.
MAX_BODY = 1_000_000  # bytes
ROOM_FOR_HEADERS = 48_000  # bytes

POLL = 0.1  # seconds the producer's thread waits for reports, and so at most for its end

# Blocking calls at the same time: commits of several subscriptions, and a look by an operator.
THREADS = 4

_AWAY = {
    KafkaError._TRANSPORT,
    KafkaError._ALL_BROKERS_DOWN,
    KafkaError._RESOLVE,
    KafkaError._TIMED_OUT,
    KafkaError._TIMED_OUT_QUEUE,
    KafkaError._WAIT_COORD,
    KafkaError._STATE,
    KafkaError._DESTROY,
    KafkaError.LEADER_NOT_AVAILABLE,
    KafkaError.NOT_LEADER_FOR_PARTITION,
    KafkaError.COORDINATOR_NOT_AVAILABLE,
    KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
    KafkaError.NOT_COORDINATOR,
    KafkaError.NOT_ENOUGH_REPLICAS,
    KafkaError.THROTTLING_QUOTA_EXCEEDED,
}
_A_PERSONS = {
    KafkaError._AUTHENTICATION,
    KafkaError._SSL,
    KafkaError._UNKNOWN_TOPIC,
    KafkaError.UNKNOWN_TOPIC_OR_PART,
    KafkaError.TOPIC_AUTHORIZATION_FAILED,
    KafkaError.GROUP_AUTHORIZATION_FAILED,
    KafkaError.CLUSTER_AUTHORIZATION_FAILED,
    KafkaError.SASL_AUTHENTICATION_FAILED,
    KafkaError.POLICY_VIOLATION,
    KafkaError.INVALID_REPLICATION_FACTOR,
}
_TOO_LARGE = {KafkaError.MSG_SIZE_TOO_LARGE, KafkaError.RECORD_LIST_TOO_LARGE}


def error_of(error: KafkaError) -> SeawallError:
    """What a failed call means to its caller."""
    code, text = error.code(), error.str()
    if code in _AWAY:
        return Unavailable(text)
    if code in _A_PERSONS:
        return Misconfigured(text)
    if code in _TOO_LARGE:
        return Refused(text)
    if code == KafkaError._QUEUE_FULL:
        return Full(text)
    return OutcomeUnknown(text)


BY_KEY = -1  # a partition: the one that the key says, or any without a key


class Record(NamedTuple):
    """What is produced."""

    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes]]
    partition: int = BY_KEY


class _Parcel:
    """Records on their way; the future gets their fates when the last one is known."""

    def __init__(self, count: int) -> None:
        self._loop = asyncio.get_running_loop()
        self._count = count
        self._reports = itertools.count(1)  # its `next` is one step, on whichever thread
        self.fates: list[SeawallError | None] = [None] * count
        self.known: asyncio.Future[None] = self._loop.create_future()

    def refuse(self, place: int, error: SeawallError) -> None:
        """It never left."""
        self.fates[place] = error
        self._report()

    def delivered(self, place: int, error: KafkaError | None, _: Message) -> None:
        """On the producer's thread."""
        if error is not None:
            timed_out = error.code() == KafkaError._MSG_TIMED_OUT
            self.fates[place] = OutcomeUnknown(error.str()) if timed_out else error_of(error)
        self._report()

    def _report(self) -> None:
        if next(self._reports) == self._count:
            self._loop.call_soon_threadsafe(self._tell)

    def _tell(self) -> None:
        if not self.known.done():
            self.known.set_result(None)


class Link:
    """Produces, makes topics, and runs blocking calls in threads. Nothing is tried twice here;
    librdkafka itself repeats what got no answer until `timeout`."""

    def __init__(self, options: Kafka) -> None:
        self.options = options
        self._producer: Producer | None = None
        self._admin: AdminClient | None = None
        self._thread: threading.Thread | None = None
        self._stopping = threading.Event()
        self._pool = ThreadPoolExecutor(THREADS, thread_name_prefix="kafka-calls")
        self._topics: set[str] = set()  # known to exist
        self._making = asyncio.Lock()
        self.closed = False

    def check(self) -> None:
        if self.closed:
            raise Unavailable("closed")

    async def call(self, work: Callable[[], T]) -> T:
        """Run blocking work in a thread; what Kafka objects to is raised as ours."""
        self.check()
        try:
            return await asyncio.get_running_loop().run_in_executor(self._pool, work)
        except KafkaException as error:
            raise error_of(error.args[0]) from error

    # Topics

    async def connect(self) -> None:
        timeout = self.options.timeout
        await self.call(lambda: self._the_admin().list_topics(timeout=timeout))

    def _the_admin(self) -> AdminClient:
        if self._admin is None:
            self._admin = AdminClient({**self.options.common, **self.options.settings})
        return self._admin

    async def ensure(self, topics: Mapping[str, int]) -> None:
        """Make the topics that are missing, with so many partitions."""
        if all(topic in self._topics for topic in topics):
            self.check()
            return
        async with self._making:
            missing = {name: n for name, n in topics.items() if name not in self._topics}
            if missing:
                await self.call(partial(self._make, missing))
                self._topics |= missing.keys()

    def _make(self, topics: Mapping[str, int]) -> None:
        if not self.options.create:
            self._look_for(topics)
            return
        wanted = [
            NewTopic(name, num_partitions=count, replication_factor=self.options.replication)
            for name, count in topics.items()
        ]
        timeout = self.options.timeout
        made = self._the_admin().create_topics(
            wanted, operation_timeout=timeout, request_timeout=timeout
        )
        for future in made.values():
            try:
                future.result()
            except KafkaException as error:
                if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
                    raise

    def _look_for(self, topics: Mapping[str, int]) -> None:
        for name in topics:
            found = self._the_producer().list_topics(name, timeout=self.options.timeout)
            topic = found.topics[name]
            if topic.error is not None and not topic.partitions:
                raise Misconfigured(
                    f"there is no topic {name}: {topic.error.str()}",
                    fix="create it, or let Seawall do it with create=true",
                )

    async def partitions(self, topic: str) -> list[int]:
        """The numbers of a topic's partitions; none if there is no such topic."""
        timeout = self.options.timeout
        found = await self.call(lambda: self._the_admin().list_topics(topic, timeout=timeout))
        return sorted(found.topics[topic].partitions)

    async def topics(self) -> list[str]:
        """The names of all topics of the cluster."""
        timeout = self.options.timeout
        found = await self.call(lambda: self._the_admin().list_topics(timeout=timeout))
        return list(found.topics)

    def forget(self) -> None:
        """The cluster may have lost its topics: make them again before they are used."""
        self._topics.clear()

    # Producing

    def _the_producer(self) -> Producer:
        if self._producer is None:
            milliseconds = int(self.options.timeout * 1000)
            self._producer = Producer(
                {
                    **self.options.common,
                    "acks": "all",
                    "enable.idempotence": self.options.idempotent,
                    # Without idempotence a repeated batch could overtake the next one.
                    "max.in.flight": 5 if self.options.idempotent else 1,
                    "linger.ms": 0,  # batches are made above, without a timer
                    "message.max.bytes": MAX_BODY + ROOM_FOR_HEADERS,
                    "message.timeout.ms": milliseconds,
                    "queue.buffering.max.kbytes": 64 * 1024,
                    # As the Java client: one key, one partition, whoever publishes.
                    "partitioner": "murmur2_random",
                    **self.options.settings,
                }
            )
            self._thread = threading.Thread(target=self._serve, name="kafka-producer", daemon=True)
            self._thread.start()
        return self._producer

    def _serve(self) -> None:
        producer = self._producer
        assert producer is not None
        while not self._stopping.is_set():
            producer.poll(POLL)

    async def produce(
        self, topic: str, records: Sequence[Record], partitions: int
    ) -> list[SeawallError | None]:
        """Store records; return when the fate of each is known."""
        self.check()
        await self.ensure({topic: partitions})
        if not records:
            return []
        producer = self._the_producer()
        parcel = _Parcel(len(records))
        for place, record in enumerate(records):
            report = partial(parcel.delivered, place)
            try:
                producer.produce(
                    topic,
                    record.value,
                    record.key,
                    record.partition,
                    on_delivery=report,
                    headers=[*record.headers],
                )
            except BufferError as error:
                parcel.refuse(place, Full(str(error)))
            except KafkaException as error:
                parcel.refuse(place, error_of(error.args[0]))
        await parcel.known
        fates = parcel.fates
        if any(isinstance(fate, Misconfigured) for fate in fates):
            self.forget()
        return fates

    async def aclose(self) -> None:
        if self.closed:
            return
        self.closed = True
        self._stopping.set()
        if self._thread is not None:
            thread = self._thread
            await asyncio.get_running_loop().run_in_executor(self._pool, thread.join)
        self._pool.shutdown(wait=False)
        self._producer = self._admin = None
