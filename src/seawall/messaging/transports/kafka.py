"""Kafka: topics are logs, and a group is an offset in each of their partitions.

The client is confluent-kafka, in threads of its own. A message that is retried, delayed or
redriven is copied to a topic that only its group reads, and dead letters have another one
(`kafka_records` has the names). Copies are written before the original is settled.

What Kafka does differently from other brokers here: a partition belongs to one member of the
group, so another one gets its messages only when it moves; and a lease is kept by the owner.
"""

import itertools
import uuid
from collections.abc import Sequence
from dataclasses import replace
from functools import partial

from seawall.clock import SYSTEM, Clock
from seawall.errors import Misconfigured, Refused, SeawallError
from seawall.facts import Observer, ignore
from seawall.messaging.base import (
    Caps,
    DeadLetter,
    Delivery,
    Durability,
    Lag,
    Message,
    Receipt,
    Subscription,
    Waiting,
    first_failure,
)
from seawall.messaging.facts import LeaseLost
from seawall.messaging.transports.kafka_letters import Letters
from seawall.messaging.transports.kafka_link import MAX_BODY, ROOM_FOR_HEADERS, Link, Record
from seawall.messaging.transports.kafka_options import Kafka
from seawall.messaging.transports.kafka_reader import Reader
from seawall.messaging.transports.kafka_records import (
    ATTEMPTS,
    DUE,
    FAILED,
    PUBLISHED,
    Topics,
    headers_of,
    is_too_long,
    letter_headers,
    subscription_of,
    topic_name,
)
from seawall.messaging.transports.kafka_window import (
    DONE,
    WAITING,
    Entry,
    decode,
    is_held,
)

MAX_ERROR = 4_000  # characters of a dead letter's error

# The partition of dead letters, in their order. Who makes topics elsewhere may make several.
LETTERS = 0


class KafkaTransport:
    """A `seawall.messaging.base.Transport` on a Kafka cluster.

    Order: messages of one key are in one partition, stored and handed out in the order of
    `publish`; retries and releases overtake. One process is to open one transport a cluster:
    each is a member of its groups.
    """

    def __init__(
        self, options: Kafka, *, observer: Observer = ignore, clock: Clock = SYSTEM
    ) -> None:
        self._options = options
        self._observer = observer
        self._clock = clock
        self._link = Link(options)
        self._readers: dict[Subscription, Reader] = {}
        self._letters: dict[Subscription, Letters] = {}
        self._client = uuid.uuid4().hex[:8]
        self._serial = itertools.count()
        self.lost = 0  # settlements refused because the lease had been lost

    @property
    def caps(self) -> Caps:
        return Caps(
            durability=Durability.OS,  # replicated, then written; Kafka leaves fsync to the OS
            ordered=True,
            native_delay=False,
            replay=True,
            max_body=MAX_BODY,
            shared=False,  # a partition has one owner
            reads_ahead=True,  # in a thread of its own
        )

    async def open(self) -> None:
        await self._link.connect()

    async def aclose(self) -> None:
        readers, self._readers = list(self._readers.values()), {}
        letters, self._letters = list(self._letters.values()), {}
        if self._link.closed:
            return
        for reader in readers:
            await reader.aclose()
        for each in letters:
            await self._link.call(each.close)
        await self._link.aclose()

    async def provision(self, subscriptions: Sequence[Subscription]) -> None:
        for subscription in subscriptions:
            topics = Topics.of(subscription)
            if is_too_long(topics):
                raise Misconfigured(
                    f"{topics.retry} is longer than the 249 characters Kafka takes",
                    fix="shorter names of topic and group",
                )
            count = self._options.partitions
            await self._link.ensure({topics.topic: count, topics.retry: count, topics.dead: 1})

    async def _reader(self, subscription: Subscription) -> Reader:
        self._link.check()
        reader = self._readers.get(subscription)
        if reader is None:
            await self.provision([subscription])
            reader = self._readers.setdefault(
                subscription,
                Reader(subscription, self._link, clock=self._clock, forward=self._forward),
            )
        return reader

    # Publishing

    async def publish(
        self, topic: str, messages: Sequence[Message], *, delay: float = 0.0
    ) -> Sequence[Receipt]:
        own = {DUE: str(self._clock.wall() + delay)} if delay > 0 else {}
        records = [_record(message, own) for message in messages]
        refused = [_too_large(record) for record in records]
        fit = [record for record, fate in zip(records, refused, strict=True) if fate is None]
        fates = iter(await self._produce(topic_name(topic), fit))
        return [
            Receipt(message.id, next(fates) if fate is None else fate)
            for message, fate in zip(messages, refused, strict=True)
        ]

    async def _produce(self, topic: str, records: Sequence[Record]) -> list[SeawallError | None]:
        return await self._link.produce(topic, records, self._options.partitions)

    async def _copy(self, topic: str, records: Sequence[Record], partitions: int = 0) -> None:
        """Store copies of ours; raise unless all of them are."""
        count = partitions or self._options.partitions
        for fate in await self._link.produce(topic, records, count):
            if fate is not None:
                raise fate

    # Consuming

    async def fetch(
        self, subscription: Subscription, limit: int, *, wait: float, lease: float
    ) -> Sequence[Delivery]:
        reader = await self._reader(subscription)
        return await reader.fetch(limit, wait=wait, lease=lease)

    async def quiesce(self, subscription: Subscription) -> None:
        # What is read ahead counts as delivered only when it is handed out; but a fetch that was
        # cancelled while it did that may have said so.
        reader = self._readers.get(subscription)
        if reader is not None:
            await reader.commit()

    def _held(self, delivery: Delivery, during: str) -> tuple[Reader, Entry] | None:
        """The reader and entry of what is still ours; None, counted, if it is not."""
        reader = self._readers.get(delivery.subscription)
        entry = reader.held(delivery) if reader is not None else None
        if reader is None or entry is None:
            self.lost += 1
            self._observer(LeaseLost(delivery.subscription, delivery.message.id, during))
            return None
        return reader, entry

    async def ack(self, deliveries: Sequence[Delivery]) -> None:
        self._link.check()
        touched: set[Reader] = set()
        for delivery in deliveries:
            if held := self._held(delivery, "ack"):
                reader, entry = held
                reader.finish(entry)
                touched.add(reader)
        for reader in touched:
            await reader.commit()

    async def release(self, deliveries: Sequence[Delivery]) -> None:
        self._link.check()
        parcels: dict[Subscription, list[Delivery]] = {}
        for delivery in deliveries:
            if self._held(delivery, "release"):
                parcels.setdefault(delivery.subscription, []).append(delivery)
        for subscription, parcel in parcels.items():
            reader = self._readers[subscription]
            reader.give_back(parcel)
            await reader.commit()

    async def retry(self, delivery: Delivery, *, delay: float, error: str) -> None:
        self._link.check()
        held = self._held(delivery, "retry")
        if held is None:
            return
        reader, entry = held
        if delay <= 0:
            reader.give_back([delivery], counted=True)
        else:
            entry.failed_at = entry.failed_at or self._clock.wall()
            due = self._clock.wall() + delay
            await self._again(reader, entry, attempts=delivery.attempt, due=due)
        await reader.commit()

    async def _again(self, reader: Reader, entry: Entry, *, attempts: int, due: float) -> None:
        own = {ATTEMPTS: str(attempts), DUE: str(due), PUBLISHED: str(entry.published)}
        if entry.failed_at:
            own[FAILED] = str(entry.failed_at)
        await self._copy(reader.topics.retry, [_record(entry.message, own)])
        reader.finish(entry)

    async def _forward(self, reader: Reader, entry: Entry) -> None:
        """A delayed message waits where its group's retries do."""
        await self._again(reader, entry, attempts=entry.base, due=entry.due)

    async def dead(self, delivery: Delivery, *, reason: str, error: str) -> None:
        self._link.check()
        held = self._held(delivery, "dead")
        if held is None:
            return
        reader, entry = held
        died_at = self._clock.wall()
        letter = DeadLetter(
            letter_id=self._letter_id(),
            message=delivery.message,
            subscription=delivery.subscription,
            reason=reason,
            error=error[:MAX_ERROR],
            attempts=delivery.attempt,
            died_at=died_at,
            failed_at=first_failure(delivery, died_at),
        )
        await self._store_letter(letter, entry.published)
        reader.finish(entry)
        await reader.commit()

    async def _store_letter(self, letter: DeadLetter, published: float) -> None:
        headers = letter_headers(letter, published=published)
        record = Record(letter.letter_id.encode(), letter.message.body, headers, LETTERS)
        await self._copy(Topics.of(letter.subscription).dead, [record], partitions=1)

    def _letter_id(self) -> str:
        """Sorted as text it is sorted by time."""
        milliseconds = int(self._clock.wall() * 1000)
        return f"{milliseconds:013d}-{next(self._serial):08d}-{self._client}"

    async def extend(self, deliveries: Sequence[Delivery], *, lease: float) -> Sequence[Delivery]:
        self._link.check()
        until = self._clock.now() + lease
        lost = []
        for delivery in deliveries:
            if held := self._held(delivery, "extend"):
                reader, entry = held
                reader.extend(entry, until)
            else:
                lost.append(delivery)
        return lost

    # Looking and operating

    def _left(self, subscription: Subscription) -> Letters:
        self._link.check()
        if subscription not in self._letters:
            self._letters[subscription] = Letters(self._options, subscription)
        return self._letters[subscription]

    async def lag(self, subscription: Subscription) -> Lag:
        places, committed = await self._places(subscription)
        letters = self._left(subscription)
        topics = Topics.of(subscription)
        ready = in_flight = delayed = published = taken = 0
        oldest: list[float] = []
        for (topic, number), (offset, end, text) in zip(places, committed, strict=True):
            position, marks = self._marks(subscription, topic, number, (offset, text))
            unread = max(0, end - position - len(marks))
            held = sum(map(is_held, marks))
            waiting = marks.count(WAITING)
            rest = len(marks) - held - waiting - marks.count(DONE)
            in_flight += held
            delayed += waiting
            if topic == topics.topic:
                published += end
                taken += end - unread
            if topic == topics.retry:
                delayed += unread
                ready += rest
            else:
                ready += unread + rest
            if unread + held + waiting + rest:
                look = partial(letters.published, topic, number, position)
                oldest.append(await self._link.call(look))
        dead = await self._link.call(letters.count)
        now = self._clock.wall()
        age = max(0.0, now - min((at for at in oldest if at), default=now))
        return Lag(ready, in_flight, delayed, dead, age, published, taken)

    async def subscriptions(self) -> Sequence[Subscription]:
        self._link.check()
        named = (subscription_of(name) for name in await self._link.topics())
        return [each for each in named if each is not None]

    async def peek(self, subscription: Subscription, limit: int) -> Sequence[Waiting]:
        """What was published first comes first; of what order partitions are read in, nobody
        knows."""
        letters = self._left(subscription)
        places, committed = await self._places(subscription)
        found: list[Waiting] = []
        for (topic, number), (offset, _, text) in zip(places, committed, strict=True):
            state = self._marks(subscription, topic, number, (offset, text))
            look = partial(letters.ready, (topic, number), state, limit, self._clock.wall())
            found += await self._link.call(look)
        return sorted(found, key=lambda each: each.published_at)[:limit]

    async def _places(
        self, subscription: Subscription
    ) -> tuple[list[tuple[str, int]], list[tuple[int, int, str]]]:
        """The partitions of topic and retries, and what is committed of each."""
        await self.provision([subscription])
        topics = Topics.of(subscription)
        places = [
            (topic, number)
            for topic in (topics.topic, topics.retry)
            for number in await self._link.partitions(topic)
        ]
        letters = self._left(subscription)
        return places, await self._link.call(partial(letters.committed, places))

    def _marks(
        self, subscription: Subscription, topic: str, number: int, stored: tuple[int, str]
    ) -> tuple[int, str]:
        """Where a partition's first unsettled message is, and the marks from there on: of our
        own if it is ours, since those are fresher, or of what its owner committed."""
        reader = self._readers.get(subscription)
        window = reader.windows.get((topic, number)) if reader is not None else None
        if window is None:
            return stored[0], decode(stored[1])
        return window.first, window.marks

    async def dead_letters(
        self, subscription: Subscription, *, after: str | None = None, limit: int = 100
    ) -> Sequence[DeadLetter]:
        await self.provision([subscription])
        page = partial(self._left(subscription).page, after, limit)
        return [letter for letter, _ in await self._link.call(page)]

    async def redrive(self, subscription: Subscription, letter_ids: Sequence[str]) -> int:
        await self.provision([subscription])
        topics = Topics.of(subscription)
        find = partial(self._left(subscription).find, letter_ids)
        found = await self._link.call(find)
        records = [
            _record(letter.message, {PUBLISHED: str(published)} if published else {})
            for letter, published in found
        ]
        await self._copy(topics.retry, records)
        await self._delete(topics, [letter for letter, _ in found])
        return len(found)

    async def purge(self, subscription: Subscription, letter_ids: Sequence[str]) -> int:
        await self.provision([subscription])
        find = partial(self._left(subscription).find, letter_ids)
        found = [letter for letter, _ in await self._link.call(find)]
        await self._delete(Topics.of(subscription), found)
        return len(found)

    async def bury(self, letter: DeadLetter) -> None:
        await self.provision([letter.subscription])
        await self._store_letter(replace(letter, letter_id=self._letter_id()), letter.died_at)

    async def _delete(self, topics: Topics, letters: Sequence[DeadLetter]) -> None:
        records = [Record(letter.letter_id.encode(), None, (), LETTERS) for letter in letters]
        await self._copy(topics.dead, records, partitions=1)

    def __repr__(self) -> str:
        subscriptions = len(self._readers)
        servers = self._options.servers
        return f"<KafkaTransport {servers} {subscriptions} subscriptions, {self.lost} lost>"


def _record(message: Message, own: dict[str, str]) -> Record:
    key = None if message.key is None else message.key.encode()
    return Record(key, message.body, headers_of(message, own))


def _too_large(record: Record) -> SeawallError | None:
    size = len(record.value or b"")
    if size > MAX_BODY:
        return Refused(f"a body of {size} bytes; at most {MAX_BODY} are taken")
    beside = sum(map(len, itertools.chain.from_iterable(record.headers))) + len(record.key or b"")
    if beside > ROOM_FOR_HEADERS // 2:  # the other half is for a dead letter's error
        return Refused(f"headers and key of {beside} bytes; at most {ROOM_FOR_HEADERS // 2}")
    return None


def from_url(url: str, observer: Observer, clock: Clock) -> KafkaTransport:
    return KafkaTransport(Kafka.parse(url), observer=observer, clock=clock)
