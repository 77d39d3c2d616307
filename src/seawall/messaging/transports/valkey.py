"""Valkey and Redis Streams: durable as their append-only file is, fast as their pipelines are.

One connection carries every command of this process; each subscription has one more for its
blocking reads. What must be one step is a script (`scripts.py`, which also shows the keys).
Works with Redis 7.0 and Valkey 7.2, and later ones.
"""

import asyncio
import itertools
import uuid
from collections.abc import Sequence

import hiredis

from seawall.clock import SYSTEM, Clock
from seawall.errors import Full, Refused
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
from seawall.messaging.facts import LeaseLost, Unread
from seawall.messaging.transports import scripts
from seawall.messaging.transports.entries import (
    DEAD,
    GROUPS,
    RETRY,
    TOPIC,
    Keys,
    Place,
    fields_of,
    letter_fields,
    letter_of,
    packed_append,
    subscription_of,
    topic_key,
    waiting_of,
)
from seawall.messaging.transports.reader import FORGET_CONSUMER, UNREAD, Reader
from seawall.messaging.transports.resp import TIMEOUT, Link, NoGroup, Script, Server, error_of, pack

# A larger body would hold up everybody else on the connection for tens of milliseconds.
MAX_BODY = 8 * 1024 * 1024  # bytes

# Messages a topic holds because some group has not settled them; then `publish` refuses with
# `Full`. About half a gigabyte at 300 bytes each. Batches under way may exceed it.
BACKLOG = 1_000_000

DEAD_LETTERS = 100_000  # a group's; then `dead` raises `Full` and the message stays pending
MAX_ERROR = 4_000  # characters of a dead letter's error


class ValkeyTransport:
    """A `seawall.messaging.base.Transport` on a Valkey or Redis server.

    Order: a topic's messages are stored in the order of `publish` and handed out in it, but
    competing consumers, retries and releases overtake. All members of a group are to use the
    same lease: who reclaims goes by its own. Calls connect by themselves, and again after a
    loss; `open` only learns early whether that works.
    """

    def __init__(
        self,
        server: Server,
        *,
        observer: Observer = ignore,
        clock: Clock = SYSTEM,
        timeout: float = TIMEOUT,
        backlog: int = BACKLOG,
        unread: int = UNREAD,
    ) -> None:
        self._server = server
        self._observer = observer
        self._clock = clock
        self._timeout = timeout
        self._backlog = backlog
        self._unread = unread
        self._consumer = uuid.uuid4().hex[:16]
        self._link = self._new_link("commands")
        self._readers: dict[Subscription, Reader] = {}
        self._lengths: dict[str, int] = {}  # topics' lengths, as of their last publish
        self._serial = itertools.count()
        self._durability = Durability.NONE
        self.lost = 0  # settlements refused because the lease had been lost

    def _new_link(self, purpose: str) -> Link:
        name = f"seawall-{self._consumer}-{purpose}"
        return Link(self._server, name, timeout=self._timeout, scripts=scripts.ALL)

    @property
    def caps(self) -> Caps:
        return Caps(
            durability=self._durability,
            ordered=False,
            native_delay=True,
            replay=True,
            max_body=MAX_BODY,
        )

    async def open(self) -> None:
        """Connect, and learn how durable this server is."""
        packed = pack(("CONFIG", "GET", "append*"))
        (reply,) = await self._link.pipeline(packed, 1)
        if isinstance(reply, list):  # a hosted server may not tell; then nothing is promised
            self._durability = _durability(dict(zip(reply[::2], reply[1::2], strict=True)))

    async def aclose(self) -> None:
        readers = list(self._readers.values())
        self._readers.clear()
        for reader in readers:
            await reader.aclose()
        await self._link.aclose()

    async def reconnect(self, subscription: Subscription) -> None:
        """See `seawall.messaging.watchdog.Reconnecting`."""
        reader = self._readers.pop(subscription, None)
        if reader is not None:
            await reader.aclose()

    async def provision(self, subscriptions: Sequence[Subscription]) -> None:
        for subscription in subscriptions:
            await self._reader(subscription).provision()

    def _reader(self, subscription: Subscription) -> Reader:
        reader = self._readers.get(subscription)
        if reader is None:
            reader = self._readers[subscription] = Reader(
                subscription,
                self._consumer,
                commands=self._link,
                reads=self._new_link("reads"),
                release=self.release,
                timeout=self._timeout,
                clock=self._clock,
            )
        return reader

    # Publishing

    async def publish(
        self, topic: str, messages: Sequence[Message], *, delay: float = 0.0
    ) -> Sequence[Receipt]:
        if not await self._has_room(topic):
            full = Full(
                f"{topic} holds {self._lengths[topic]} messages that a group has not settled"
            )
            return [Receipt(message.id, full) for message in messages]
        fates = [self._too_large(message) for message in messages]
        fit = [message for message, fate in zip(messages, fates, strict=True) if fate is None]
        stored = iter(await self._store(topic, fit, delay) if fit else ())
        return [
            Receipt(message.id, next(stored) if fate is None else fate)
            for message, fate in zip(messages, fates, strict=True)
        ]

    @staticmethod
    def _too_large(message: Message) -> Exception | None:
        size = len(message.body)
        if size <= MAX_BODY:
            return None
        return Refused(f"a body of {size} bytes; at most {MAX_BODY} are taken")

    async def _store(
        self, topic: str, messages: Sequence[Message], delay: float
    ) -> list[Exception | None]:
        key = topic_key(topic)
        if delay > 0:
            packed = [self._packed_delay(key, message, delay) for message in messages]
        else:
            packed = [packed_append(key, message) for message in messages]
        packed.append(pack(("XLEN", key)))
        replies = await self._link.pipeline(b"".join(packed), len(packed))
        length = replies.pop()
        if isinstance(length, int):
            self._lengths[topic] = length
        if delay > 0:
            for subscription, reader in self._readers.items():
                if subscription.topic == topic:
                    reader.due_in(delay)
        return [
            error_of(reply) if isinstance(reply, hiredis.ReplyError) else None for reply in replies
        ]

    def _packed_delay(self, key: str, message: Message, delay: float) -> bytes:
        nonce = f"{self._consumer}/{next(self._serial)}"
        milliseconds = max(1, round(delay * 1000))
        head = ("EVAL", scripts.DELAY.source, 1, f"{key}:delayed", milliseconds, nonce)
        return pack((*head, *fields_of(message)))

    async def _has_room(self, topic: str) -> bool:
        if self._lengths.get(topic, 0) < min(self._backlog, self._unread):
            return True
        # Trimmed by its consumers, if it has any and they run; here if not.
        length, dropped = await self._link.run(
            scripts.TRIM, (topic_key(topic),), self._unread, FORGET_CONSUMER
        )
        if dropped:
            self._observer(Unread(topic, dropped))
        self._lengths[topic] = int(length)
        return self._lengths[topic] < self._backlog

    # Consuming

    async def fetch(
        self, subscription: Subscription, limit: int, *, wait: float, lease: float
    ) -> Sequence[Delivery]:
        return await self._reader(subscription).fetch(limit, wait=wait, lease=lease)

    async def quiesce(self, subscription: Subscription) -> None:
        if subscription in self._readers:
            await self._readers[subscription].quiesce()

    async def ack(self, deliveries: Sequence[Delivery]) -> None:
        await self._settle(scripts.ACK, deliveries, "ack", with_front=True)

    async def extend(self, deliveries: Sequence[Delivery], *, lease: float) -> Sequence[Delivery]:
        return await self._settle(scripts.EXTEND, deliveries, "extend", with_front=False)

    async def _settle(
        self, script: Script, deliveries: Sequence[Delivery], during: str, *, with_front: bool
    ) -> list[Delivery]:
        """Run a script over deliveries of any subscriptions; return those that were lost."""
        parcels: dict[tuple[Subscription, str], dict[bytes, Delivery]] = {}
        for delivery in deliveries:
            place: Place = delivery.receipt
            parcel = parcels.setdefault((delivery.subscription, place.stream), {})
            parcel[place.entry] = delivery
        lost: list[Delivery] = []
        for (subscription, stream), parcel in parcels.items():
            arguments: list[str | bytes | int] = [subscription.group, self._consumer]
            for entry, delivery in parcel.items():
                if with_front and len(arguments) == 2:
                    arguments.append(delivery.receipt.front)
                arguments += (entry, delivery.receipt.deliveries)
            try:
                refused = await self._link.run(script, (stream,), *arguments)
            except NoGroup:  # the server lost everything, our leases included
                refused = list(parcel)
            lost += [parcel[entry] for entry in refused]
        for delivery in lost:
            self._lose(delivery, during)
        return lost

    async def release(self, deliveries: Sequence[Delivery]) -> None:
        await asyncio.gather(
            *(
                self._again(
                    delivery,
                    "release",
                    delivery.attempt - 1,
                    dropped=delivery.dropped,
                    failed=_milliseconds(delivery.failed_at),
                )
                for delivery in deliveries
            )
        )

    async def retry(self, delivery: Delivery, *, delay: float, error: str) -> None:
        milliseconds = max(0, round(delay * 1000))
        failed = _milliseconds(delivery.failed_at) or scripts.NOW
        await self._again(delivery, "retry", delivery.attempt, delay=milliseconds, failed=failed)
        if milliseconds:
            self._reader(delivery.subscription).due_in(delay)

    async def _again(
        self,
        delivery: Delivery,
        during: str,
        attempt: int,
        *,
        failed: int,
        dropped: bool = False,
        delay: int = 0,
    ) -> None:
        keys = Keys.of(delivery.subscription)
        place: Place = delivery.receipt
        try:
            done = await self._link.run(
                scripts.RETRY,
                (place.stream, keys.retry, keys.delayed),
                *(delivery.subscription.group, self._consumer),
                *(place.front, place.entry, place.deliveries, attempt, int(dropped), delay),
                failed,
            )
        except NoGroup:
            done = 0
        if not done:
            self._lose(delivery, during)

    async def dead(self, delivery: Delivery, *, reason: str, error: str) -> None:
        keys = Keys.of(delivery.subscription)
        place: Place = delivery.receipt
        failed = _milliseconds(first_failure(delivery, scripts.NOW / 1000))
        try:
            done = await self._link.run(
                scripts.DEAD,
                (place.stream, keys.dead),
                *(delivery.subscription.group, self._consumer),
                *(place.front, place.entry, place.deliveries, delivery.attempt),
                *(reason, error[:MAX_ERROR], DEAD_LETTERS, failed),
            )
        except NoGroup:
            done = 0
        if done < 0:
            raise Full(f"{keys.dead} holds {DEAD_LETTERS} dead letters: redrive or purge some")
        if not done:
            self._lose(delivery, "dead")

    def _lose(self, delivery: Delivery, during: str) -> None:
        self.lost += 1
        self._observer(LeaseLost(delivery.subscription, delivery.message.id, during))

    # Looking and operating

    async def lag(self, subscription: Subscription) -> Lag:
        counts = await self._link.run(scripts.LAG, Keys.of(subscription).all, subscription.group)
        ready, in_flight, delayed, dead, age, *counted = counts
        published, taken = (None if count < 0 else count for count in counted)
        return Lag(ready, in_flight, delayed, dead, max(0, age) / 1000, published, taken)

    async def subscriptions(self) -> Sequence[Subscription]:
        found: set[Subscription] = set()
        cursor = b"0"
        while True:
            cursor, names = await self._link.call("SCAN", cursor, "MATCH", GROUPS, "COUNT", 1000)
            found.update(subscription_of(name.decode()) for name in names)
            if cursor == b"0":
                return list(found)

    async def peek(self, subscription: Subscription, limit: int) -> Sequence[Waiting]:
        keys = Keys.of(subscription)
        again, new = await self._link.run(
            scripts.PEEK, (keys.retry, keys.topic), subscription.group, limit
        )
        return [
            waiting_of(front, entry, fields)
            for front, entries in ((RETRY, again), (TOPIC, new))
            for entry, fields in entries
        ]

    async def dead_letters(
        self, subscription: Subscription, *, after: str | None = None, limit: int = 100
    ) -> Sequence[DeadLetter]:
        start = "-" if after is None else f"({after}"
        key = Keys.of(subscription).dead
        entries = await self._link.call("XRANGE", key, start, "+", "COUNT", limit)
        return [letter_of(subscription, entry, fields) for entry, fields in entries]

    async def redrive(self, subscription: Subscription, letter_ids: Sequence[str]) -> int:
        if not letter_ids:
            return 0
        await self.provision([subscription])
        keys = Keys.of(subscription)
        moved = await self._link.run(scripts.REDRIVE, (keys.dead, keys.retry), DEAD, *letter_ids)
        return int(moved)

    async def purge(self, subscription: Subscription, letter_ids: Sequence[str]) -> int:
        if not letter_ids:
            return 0
        return int(await self._link.call("XDEL", Keys.of(subscription).dead, *letter_ids))

    async def bury(self, letter: DeadLetter) -> None:
        key = Keys.of(letter.subscription).dead
        await self._link.call("XADD", key, "*", *letter_fields(letter))

    def __repr__(self) -> str:
        subscriptions = len(self._readers)
        return f"<ValkeyTransport {self._server} {subscriptions} subscriptions, {self.lost} lost>"


def _milliseconds(seconds: float) -> int:
    return round(seconds * 1000)


def _durability(settings: dict[bytes, bytes]) -> Durability:
    if settings.get(b"appendonly") != b"yes":
        return Durability.NONE
    return Durability.FSYNC if settings.get(b"appendfsync") == b"always" else Durability.OS


def from_url(url: str, observer: Observer, clock: Clock) -> ValkeyTransport:
    return ValkeyTransport(Server.parse(url), observer=observer, clock=clock)
