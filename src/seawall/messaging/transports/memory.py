"""The reference transport: everything in this process, gone with it.

Transports opened with the same `memory://NAME` share their topics, as clients of one broker do.
For tests, and for a single process without a server.
"""

import asyncio
import heapq
import itertools
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import urlsplit
from weakref import WeakValueDictionary

from seawall.clock import SYSTEM, Clock
from seawall.concurrency.tasks import running
from seawall.errors import Full, Refused, Unavailable
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

# What a topic keeps for groups that do not exist yet; the oldest goes. Some tens of MB.
RETAINED = 100_000

# What a group may be behind before `publish` refuses with `Full`: some hundred MB of messages.
BACKLOG = 1_000_000

MAX_BODY = 8 * 1024 * 1024  # bytes, as on Valkey
MAX_ERROR = 4_000  # characters of a dead letter's error


@dataclass(slots=True)
class _Entry:
    message: Message
    attempts: int  # deliveries so far
    published: float  # clock's seconds
    dropped: bool = False  # its last lease ran out
    failed_at: float = 0.0  # wall clock


@dataclass(slots=True)
class _Lease:
    entry: _Entry
    until: float


@dataclass(slots=True)
class _Group:
    """What one consumer group has to do."""

    ready: deque[_Entry] = field(default_factory=deque)
    delayed: list[tuple[float, int, _Entry]] = field(default_factory=list)  # a heap by due time
    leases: dict[int, _Lease] = field(default_factory=dict)
    ends: list[tuple[float, int]] = field(default_factory=list)  # a heap of (until, token)
    dead: dict[int, tuple[DeadLetter, _Entry]] = field(default_factory=dict)
    waiting: set[asyncio.Future[None]] = field(default_factory=set)
    taken: int = 0

    def wake(self) -> None:
        for waiter in self.waiting:
            if not waiter.done():
                waiter.set_result(None)

    def make_ready(self, now: float) -> None:
        """Move what is due, and what lost its lease, among the ready."""
        while self.delayed and self.delayed[0][0] <= now:
            self.ready.append(heapq.heappop(self.delayed)[2])
        while self.ends and self.ends[0][0] <= now:
            _, token = heapq.heappop(self.ends)
            lease = self.leases.get(token)
            if lease is not None and lease.until <= now:  # else it was settled or extended
                del self.leases[token]
                lease.entry.dropped = True
                self.ready.appendleft(lease.entry)

    def lease(self, token: int, entry: _Entry, until: float) -> None:
        """Give out `entry` until then, or move the end of its lease."""
        self.leases[token] = _Lease(entry, until)
        heapq.heappush(self.ends, (until, token))

    def next_change(self) -> float:
        """When `make_ready` has something to do next; infinity for never."""
        due = self.delayed[0][0] if self.delayed else float("inf")
        return min(due, self.ends[0][0]) if self.ends else due


@dataclass(slots=True)
class _Topic:
    retained: deque[_Entry] = field(default_factory=lambda: deque(maxlen=RETAINED))
    delayed: list[tuple[float, int, _Entry]] = field(default_factory=list)
    groups: dict[str, _Group] = field(default_factory=dict)
    published: int = 0

    def add(self, entry: _Entry) -> None:
        self.published += 1
        self.retained.append(entry)
        for group in self.groups.values():
            group.ready.append(replace(entry))
            group.wake()

    def release_due(self, now: float) -> None:
        while self.delayed and self.delayed[0][0] <= now:
            self.add(heapq.heappop(self.delayed)[2])


class Broker:
    """Topics, shared by the transports of one name for as long as one of them exists."""

    def __init__(self) -> None:
        self.topics: dict[str, _Topic] = {}
        self.serial = itertools.count(1)

    def topic(self, name: str) -> _Topic:
        return self.topics.setdefault(name, _Topic())

    def group(self, subscription: Subscription) -> _Group:
        topic = self.topic(subscription.topic)
        if subscription.group not in topic.groups:
            group = _Group(ready=deque(replace(entry) for entry in topic.retained))
            topic.groups[subscription.group] = group
        return topic.groups[subscription.group]


_BROKERS: WeakValueDictionary[str, Broker] = WeakValueDictionary()


class MemoryTransport:
    """A `seawall.messaging.base.Transport` without a server."""

    def __init__(
        self,
        broker: Broker | None = None,
        *,
        observer: Observer = ignore,
        clock: Clock = SYSTEM,
    ) -> None:
        self._broker = broker or Broker()
        self._observer = observer
        self._clock = clock
        self._is_open = False
        self.lost = 0  # settlements refused because the lease had been lost

    @property
    def caps(self) -> Caps:
        return Caps(
            durability=Durability.NONE,
            ordered=False,
            native_delay=True,
            replay=True,
            max_body=MAX_BODY,
        )

    async def open(self) -> None:
        self._is_open = True

    async def aclose(self) -> None:
        self._is_open = False

    async def provision(self, subscriptions: Sequence[Subscription]) -> None:
        self._check_open()
        for subscription in subscriptions:
            self._broker.group(subscription)

    async def publish(
        self, topic: str, messages: Sequence[Message], *, delay: float = 0.0
    ) -> Sequence[Receipt]:
        self._check_open()
        return [self._store(topic, message, delay) for message in messages]

    def _store(self, name: str, message: Message, delay: float) -> Receipt:
        if len(message.body) > MAX_BODY:
            reason = f"a body of {len(message.body)} bytes; at most {MAX_BODY} are taken"
            return Receipt(message.id, Refused(reason))
        topic = self._broker.topic(name)
        if any(len(group.ready) >= BACKLOG for group in topic.groups.values()):
            return Receipt(message.id, Full(f"{name}: a group is {BACKLOG} messages behind"))
        now = self._clock.now()
        entry = _Entry(message, 0, now)
        if delay <= 0:
            topic.add(entry)
        else:
            heapq.heappush(topic.delayed, (now + delay, next(self._broker.serial), entry))
            for group in topic.groups.values():
                group.wake()
        return Receipt(message.id)

    async def fetch(
        self, subscription: Subscription, limit: int, *, wait: float, lease: float
    ) -> Sequence[Delivery]:
        self._check_open()
        topic = self._broker.topic(subscription.topic)
        group = self._broker.group(subscription)
        give_up = self._clock.now() + wait
        while True:
            now = self._clock.now()
            topic.release_due(now)
            group.make_ready(now)
            if group.ready or now >= give_up:
                break
            due = topic.delayed[0][0] if topic.delayed else give_up
            await self._changed(group, min(give_up, due, group.next_change()) - now)
            self._check_open()
        return [
            self._lease(group, subscription, lease) for _ in range(min(limit, len(group.ready)))
        ]

    async def quiesce(self, subscription: Subscription) -> None:
        self._check_open()  # nothing is taken between fetches

    async def _changed(self, group: _Group, within: float) -> None:
        """Return when the group gets something, at the latest after `within` seconds."""
        changed = asyncio.get_running_loop().create_future()

        async def ring() -> None:
            await self._clock.sleep(within)
            if not changed.done():
                changed.set_result(None)

        group.waiting.add(changed)
        try:
            async with running(ring()):
                await changed
        finally:
            group.waiting.discard(changed)

    def _lease(self, group: _Group, subscription: Subscription, lease: float) -> Delivery:
        entry = group.ready.popleft()
        group.taken += entry.attempts == 0
        entry.attempts += 1
        token = next(self._broker.serial)
        group.lease(token, entry, self._clock.now() + lease)
        return Delivery(
            entry.message,
            subscription,
            entry.attempts,
            token,
            dropped=entry.dropped,
            failed_at=entry.failed_at,
        )

    def _give_back(self, delivery: Delivery, during: str) -> _Entry | None:
        """End the lease and return its entry; None, counted, if it had been lost."""
        group = self._broker.group(delivery.subscription)
        group.make_ready(self._clock.now())
        lease = group.leases.pop(delivery.receipt, None)
        if lease is None:
            self.lost += 1
            self._observer(LeaseLost(delivery.subscription, delivery.message.id, during))
            return None
        return lease.entry

    async def ack(self, deliveries: Sequence[Delivery]) -> None:
        self._check_open()
        for delivery in deliveries:
            self._give_back(delivery, "ack")

    async def release(self, deliveries: Sequence[Delivery]) -> None:
        self._check_open()
        for delivery in reversed(deliveries):
            entry = self._give_back(delivery, "release")
            if entry is not None:
                entry.attempts -= 1
                group = self._broker.group(delivery.subscription)
                group.ready.appendleft(entry)
                group.wake()

    async def retry(self, delivery: Delivery, *, delay: float, error: str) -> None:
        self._check_open()
        entry = self._give_back(delivery, "retry")
        if entry is not None:
            entry.dropped = False
            entry.failed_at = entry.failed_at or self._clock.wall()
            group = self._broker.group(delivery.subscription)
            due = self._clock.now() + max(0.0, delay)
            heapq.heappush(group.delayed, (due, next(self._broker.serial), entry))
            group.wake()

    async def dead(self, delivery: Delivery, *, reason: str, error: str) -> None:
        self._check_open()
        entry = self._give_back(delivery, "dead")
        if entry is not None:
            died_at = self._clock.wall()
            letter = DeadLetter(
                letter_id="",
                message=entry.message,
                subscription=delivery.subscription,
                reason=reason,
                error=error[:MAX_ERROR],
                attempts=entry.attempts,
                died_at=died_at,
                failed_at=first_failure(delivery, died_at),
            )
            self._bury(letter, entry.published)

    async def extend(self, deliveries: Sequence[Delivery], *, lease: float) -> Sequence[Delivery]:
        self._check_open()
        now = self._clock.now()
        lost = []
        for delivery in deliveries:
            group = self._broker.group(delivery.subscription)
            group.make_ready(now)
            if delivery.receipt in group.leases:
                group.lease(delivery.receipt, group.leases[delivery.receipt].entry, now + lease)
            else:
                self.lost += 1
                self._observer(LeaseLost(delivery.subscription, delivery.message.id, "extend"))
                lost.append(delivery)
        return lost

    async def subscriptions(self) -> Sequence[Subscription]:
        self._check_open()
        return [
            Subscription(name, group)
            for name, topic in self._broker.topics.items()
            for group in topic.groups
        ]

    async def peek(self, subscription: Subscription, limit: int) -> Sequence[Waiting]:
        self._check_open()
        now, wall = self._clock.now(), self._clock.wall()
        self._broker.topic(subscription.topic).release_due(now)
        group = self._broker.group(subscription)
        group.make_ready(now)
        return [
            Waiting(entry.message, entry.attempts, wall - (now - entry.published))
            for entry in itertools.islice(group.ready, limit)
        ]

    async def lag(self, subscription: Subscription) -> Lag:
        self._check_open()
        now = self._clock.now()
        topic = self._broker.topic(subscription.topic)
        topic.release_due(now)
        group = self._broker.group(subscription)
        group.make_ready(now)
        unsettled = itertools.chain(
            (entry.published for entry in group.ready),
            (entry.published for _, _, entry in group.delayed),
            (lease.entry.published for lease in group.leases.values()),
        )
        return Lag(
            ready=len(group.ready),
            in_flight=len(group.leases),
            delayed=len(group.delayed) + len(topic.delayed),
            dead=len(group.dead),
            oldest_age=now - min(unsettled, default=now),
            published=topic.published,
            taken=group.taken,
        )

    async def dead_letters(
        self, subscription: Subscription, *, after: str | None = None, limit: int = 100
    ) -> Sequence[DeadLetter]:
        self._check_open()
        start = int(after) if after is not None else 0
        dead = self._broker.group(subscription).dead
        behind = (letter for serial, (letter, _) in dead.items() if serial > start)
        return list(itertools.islice(behind, limit))

    async def redrive(self, subscription: Subscription, letter_ids: Sequence[str]) -> int:
        entries = self._dig_up(subscription, letter_ids)
        group = self._broker.group(subscription)
        for entry in entries:
            group.ready.append(entry)
        group.wake()
        return len(entries)

    async def purge(self, subscription: Subscription, letter_ids: Sequence[str]) -> int:
        return len(self._dig_up(subscription, letter_ids))

    async def bury(self, letter: DeadLetter) -> None:
        self._check_open()
        self._bury(letter, self._clock.now())

    def _bury(self, letter: DeadLetter, published: float) -> None:
        serial = next(self._broker.serial)
        entry = _Entry(letter.message, 0, published)
        named = replace(letter, letter_id=str(serial))
        self._broker.group(letter.subscription).dead[serial] = (named, entry)

    def _dig_up(self, subscription: Subscription, letter_ids: Sequence[str]) -> list[_Entry]:
        self._check_open()
        dead = self._broker.group(subscription).dead
        found: list[Any] = [dead.pop(int(letter_id), None) for letter_id in letter_ids]
        return [pair[1] for pair in found if pair is not None]

    def _check_open(self) -> None:
        if not self._is_open:
            raise Unavailable("this transport is not open")

    def __repr__(self) -> str:
        return f"<MemoryTransport {len(self._broker.topics)} topics, {self.lost} leases lost>"


def from_url(url: str, observer: Observer, clock: Clock) -> MemoryTransport:
    """`memory://NAME`; without a name it shares with nobody."""
    parts = urlsplit(url)
    name = parts.netloc + parts.path
    if not name:
        return MemoryTransport(observer=observer, clock=clock)
    broker = _BROKERS.get(name)
    if broker is None:
        broker = _BROKERS[name] = Broker()
    return MemoryTransport(broker, observer=observer, clock=clock)
