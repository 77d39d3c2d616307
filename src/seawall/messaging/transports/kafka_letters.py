"""A group's dead letters, and how far it is behind: what Kafka can be asked, in blocking calls.

Kafka has no way to look for a record, or to delete one. So the topic of dead letters is read
from where the last look ended, and remembered is which letters are left and where they are.
"""

import threading
from collections.abc import Collection, Sequence
from itertools import islice

from confluent_kafka import Consumer, KafkaException, Message, TopicPartition

from seawall.errors import Unavailable
from seawall.messaging.base import DeadLetter, Subscription, Waiting
from seawall.messaging.transports.kafka_options import Kafka
from seawall.messaging.transports.kafka_records import (
    ATTEMPTS,
    DUE,
    PUBLISHED,
    Topics,
    letter_of,
    read,
)
from seawall.messaging.transports.kafka_window import DONE, WAITING, deliveries, is_held

Letter = tuple[DeadLetter, float]  # with the time its message was published

CHUNK = 500  # records a read


class Letters:
    """Looks at what one subscription left. Its methods block, and may be called by any thread."""

    def __init__(self, options: Kafka, subscription: Subscription) -> None:
        self._timeout = options.timeout
        self._subscription = subscription
        self._topics = Topics.of(subscription)
        self._consumer = Consumer(
            {
                **options.common,
                "group.id": self._topics.members,  # to read its offsets; it never joins
                "enable.auto.commit": False,
                "auto.offset.reset": "earliest",
                **options.settings,
            }
        )
        self._lock = threading.Lock()
        self._alive: dict[str, int] = {}  # letters that are left, and their offsets
        self._next = 0

    def count(self) -> int:
        with self._lock:
            self._refresh()
            return len(self._alive)

    def page(self, after: str | None, limit: int) -> list[Letter]:
        """Letters behind the letter `after`, oldest first."""
        with self._lock:
            self._refresh()
            names = sorted(self._alive)
            behind = names if after is None else (name for name in names if name > after)
            return self._read(set(islice(behind, limit)))

    def find(self, names: Collection[str]) -> list[Letter]:
        with self._lock:
            self._refresh()
            return self._read({name for name in names if name in self._alive})

    def _refresh(self) -> None:
        for message in self._from(self._next):
            name, offset = (message.key() or b"").decode(errors="replace"), message.offset()
            assert offset is not None
            self._next = offset + 1
            if message.value() is None:
                self._alive.pop(name, None)
            else:
                self._alive[name] = offset

    def _read(self, names: set[str]) -> list[Letter]:
        if not names:
            return []
        found: dict[str, Letter] = {}
        for message in self._from(min(self._alive[name] for name in names)):
            name = (message.key() or b"").decode(errors="replace")
            if name in names and message.offset() == self._alive[name]:
                found[name] = letter_of(
                    self._subscription,
                    name,
                    message.value(),
                    message.headers() or (),  # type: ignore[arg-type]
                )
                if len(found) == len(names):
                    break
        return [found[name] for name in sorted(found)]

    def _from(self, offset: int) -> Sequence[Message]:
        """The records of the topic of dead letters from `offset` to what now is its end."""
        return self._records(self._topics.dead, 0, offset)

    def _records(self, topic: str, partition: int, offset: int, limit: int = 0) -> list[Message]:
        begin, end = self._bounds(topic, partition)
        offset = max(offset, begin)
        if offset >= end:
            return []
        found: list[Message] = []
        self._consumer.assign([TopicPartition(topic, partition, offset)])
        try:
            while not (found and (found[-1].offset() or 0) + 1 >= end):
                first = self._consumer.poll(self._timeout)
                if first is None:
                    raise Unavailable(f"{topic} cannot be read: nothing within {self._timeout} s")
                error = first.error()
                if error is not None:
                    raise KafkaException(error)
                rest = self._consumer.consume(CHUNK, 0)
                found += [first, *(message for message in rest if message.error() is None)]
                if limit and len(found) >= limit:
                    break
        finally:
            self._consumer.unassign()
        return found[:limit] if limit else found

    def _bounds(self, topic: str, partition: int) -> tuple[int, int]:
        """The first offset of a partition, and the one behind its last."""
        found = self._consumer.get_watermark_offsets(
            TopicPartition(topic, partition), timeout=self._timeout
        )
        return found or (0, 0)

    # How far the group is

    def committed(self, partitions: Sequence[tuple[str, int]]) -> list[tuple[int, int, str]]:
        """For each partition: the offset its group has settled, the end, and the text beside."""
        with self._lock:
            wanted = [TopicPartition(*partition) for partition in partitions]
            found = self._consumer.committed(wanted, timeout=self._timeout)
            answer = []
            for each in found:
                begin, end = self._bounds(each.topic, each.partition)
                answer.append((max(begin, each.offset), end, each.metadata or ""))
            return answer

    def published(self, topic: str, partition: int, offset: int) -> float:
        """The wall clock when the message at `offset`, or the next there is, was published."""
        with self._lock:
            for message in self._records(topic, partition, offset, limit=1):
                found = read("", None, None, message.headers() or ())  # type: ignore[arg-type]
                return found.number(PUBLISHED) or message.timestamp()[1] / 1000
            return 0.0

    def ready(
        self, partition: tuple[str, int], state: tuple[int, str], limit: int, now: float
    ) -> list[Waiting]:
        """The first messages of a partition that nobody has and that are due. `state` is the
        offset of the first that is not settled, and the marks from there on."""
        first, marks = state
        found: list[Waiting] = []
        with self._lock:
            for message in self._records(*partition, first, limit=len(marks) + limit):
                place = (message.offset() or 0) - first
                mark = marks[place] if place < len(marks) else "0"
                if mark in (DONE, WAITING) or is_held(mark):
                    continue
                what = read(
                    f"{partition[0]}/{partition[1]}/{message.offset()}",
                    message.key(),
                    message.value(),
                    message.headers() or (),  # type: ignore[arg-type]
                )
                if what.number(DUE) > now:
                    continue
                attempts = int(what.number(ATTEMPTS)) + deliveries(mark)
                at = what.number(PUBLISHED) or message.timestamp()[1] / 1000
                found.append(Waiting(what.message, attempts, at))
        return found[:limit]

    def close(self) -> None:
        with self._lock:
            self._consumer.close()
