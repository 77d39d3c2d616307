"""One subscription on Kafka: who holds which message, and what is committed. On the event loop.

A partition belongs to one member of the group, so leases are kept here, by its owner: one that
runs out makes the message ready again. What is delivered is committed before it is handed out
(see `kafka_window`), what is settled before `ack` returns; commits under way gather the next.
"""

import asyncio
import heapq
import itertools
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress

from confluent_kafka import KafkaException
from confluent_kafka import Message as KafkaMessage

from seawall.clock import Clock
from seawall.concurrency.batch import Batcher
from seawall.concurrency.tasks import running
from seawall.errors import SeawallError, Unavailable
from seawall.messaging.base import Delivery, Subscription
from seawall.messaging.transports.kafka_link import Link, error_of
from seawall.messaging.transports.kafka_poll import Partition, Poller, Stored
from seawall.messaging.transports.kafka_records import (
    ATTEMPTS,
    DUE,
    FAILED,
    PUBLISHED,
    Topics,
    read,
)
from seawall.messaging.transports.kafka_window import Entry, Window

_TICK = 0.02  # seconds between two looks whether a partition that is to move is settled


class Reader:
    """Fetches and settles for one subscription."""

    def __init__(
        self,
        subscription: Subscription,
        link: Link,
        *,
        clock: Clock,
        forward: Callable[["Reader", Entry], Awaitable[None]],
    ) -> None:
        self.subscription = subscription
        self.topics = Topics.of(subscription)
        self._link = link
        self._clock = clock
        self._forward = forward
        self._poller: Poller | None = None
        self._starting = asyncio.Lock()
        self._failure: Exception | None = None
        self._serial = itertools.count(1)
        self.windows: dict[Partition, Window] = {}
        self._ready: deque[Entry] = deque()
        self._early: list[Entry] = []  # of the topic itself, and not due yet
        self._waiting: list[tuple[float, int, Entry]] = []  # a heap by due time (wall clock)
        self._leases: list[tuple[float, int, Entry]] = []  # a heap by end
        self._changed: set[asyncio.Future[None]] = set()
        self._commits: Batcher[None, None] = Batcher(self._commit, cap=10_000)

    # What the thread tells

    def assigned(self, stored: Sequence[Stored]) -> None:
        for topic, partition, offset, text in stored:
            self.windows[topic, partition] = Window(offset, text)

    def arrived(self, messages: Sequence[KafkaMessage]) -> None:
        for message in messages:
            topic, partition, offset = message.topic(), message.partition(), message.offset()
            assert topic is not None
            assert partition is not None
            assert offset is not None
            window = self.windows.get((topic, partition))
            if window is None or window.leaving or offset < window.position:
                continue  # not ours any more, or read twice after a resume
            entry = window.add(offset, lambda window, message=message: _entry(window, message))  # type: ignore[misc]
            if entry is not None:
                self._place(entry, topic)
        self._tell_poller()
        if self._poller is not None:
            self._poller.looked_at()
        self._wake()

    def _place(self, entry: Entry, topic: str) -> None:
        if entry.due <= self._clock.wall():
            entry.due = 0.0
            self._ready.append(entry)
        elif topic == self.topics.topic:
            self._early.append(entry)
        else:
            heapq.heappush(self._waiting, (entry.due, next(self._serial), entry))

    async def hand_over(self, partitions: Sequence[Partition], *, finish: bool) -> Sequence[Stored]:
        """Stop handing these out, give running handlers their time, and fence the rest."""
        windows = {name: self.windows[name] for name in partitions if name in self.windows}
        for window in windows.values():
            window.leaving = True
        self._drop(windows)
        give_up = self._clock.now() + (self._link.options.handover if finish else 0.0)
        while self._clock.now() < give_up and any(window.is_held for window in windows.values()):
            await self._clock.sleep(_TICK)
        stored = [(*name, *window.commit()) for name, window in windows.items()]
        for name, window in windows.items():
            window.live = False
            self.windows.pop(name, None)
        self._tell_poller()
        return stored

    def _drop(self, windows: dict[Partition, Window]) -> None:
        gone = set(map(id, windows.values()))
        self._ready = deque(entry for entry in self._ready if id(entry.window) not in gone)
        self._early = [entry for entry in self._early if id(entry.window) not in gone]
        self._waiting = [item for item in self._waiting if id(item[2].window) not in gone]
        heapq.heapify(self._waiting)

    def ended(self, error: Exception | None) -> None:
        """The thread is over: all partitions are lost; the next fetch starts another."""
        for window in self.windows.values():
            window.live = False
        self._drop(self.windows)
        self.windows = {}
        self._poller = None
        self._failure = error
        self._wake()

    def _tell_poller(self) -> None:
        if self._poller is None:
            return
        self._poller.handed_out = any(window.is_held for window in self.windows.values())
        self._poller.enough = frozenset(
            name for name, window in self.windows.items() if window.full
        )

    def _wake(self) -> None:
        for waiter in self._changed:
            if not waiter.done():
                waiter.set_result(None)

    # Fetching

    async def start(self, lease: float) -> None:
        """Join the group, unless that is done."""
        async with self._starting:
            self._link.check()
            if self._poller is not None:
                return
            names = [self.topics.topic, self.topics.retry]
            static: list[Partition] = []
            member = self._link.options.member
            if member is not None:
                for name in names:
                    numbers = await self._link.partitions(name)
                    static += [(name, n) for n in numbers if n % member[1] == member[0]]
            self._failure = None
            self._poller = Poller(
                self._link.options,
                self.topics.members,
                names,
                self,
                lease=lease,
                static=static,
            )

    async def fetch(self, limit: int, *, wait: float, lease: float) -> Sequence[Delivery]:
        give_up = self._clock.now() + wait
        while True:
            self._link.check()
            if self._poller is None:
                await self._restart(lease)
            await self._forward_early()
            now = self._clock.now()
            self._make_ready(now)
            if self._ready:
                return await self._hand_out(limit, now + lease)
            if now >= give_up:
                return []
            await self._until(min(give_up, self._next_change(now)) - now)

    async def _restart(self, lease: float) -> None:
        failure, self._failure = self._failure, None
        if failure is not None:
            raise Unavailable(str(failure)) from failure
        await self.start(lease)

    async def _forward_early(self) -> None:
        while self._early:
            entry = self._early[0]
            await self._forward(self, entry)
            self._early.remove(entry)

    def _make_ready(self, now: float) -> None:
        """Move what is due, and what lost its lease, among the ready."""
        wall = self._clock.wall()
        while self._waiting and self._waiting[0][0] <= wall:
            entry = heapq.heappop(self._waiting)[2]
            entry.due = 0.0
            self._ready.append(entry)
        while self._leases and self._leases[0][0] <= now:
            _, token, entry = heapq.heappop(self._leases)
            if entry.token == token and entry.until <= now and entry.window.live:
                entry.window.take_back(entry)
                entry.dropped = True
                if not entry.window.leaving:
                    self._ready.appendleft(entry)

    def _next_change(self, now: float) -> float:
        due = self._waiting[0][0] - self._clock.wall() + now if self._waiting else float("inf")
        return min(due, self._leases[0][0]) if self._leases else due

    async def _hand_out(self, limit: int, until: float) -> Sequence[Delivery]:
        taken = [self._ready.popleft() for _ in range(min(limit, len(self._ready)))]
        for entry in taken:
            entry.window.hold(entry, next(self._serial))
            self._lease(entry, until)
        deliveries = [
            Delivery(
                entry.message,
                self.subscription,
                entry.base + entry.deliveries,
                (entry, entry.token),
                entry.damage,
                entry.dropped,
                entry.failed_at,
            )
            for entry in taken
        ]
        self._tell_poller()
        try:
            await self._commits.submit(None)
        except BaseException:
            self.give_back(deliveries)
            raise
        return deliveries

    def _lease(self, entry: Entry, until: float) -> None:
        entry.until = until
        heapq.heappush(self._leases, (until, entry.token, entry))

    async def _until(self, within: float) -> None:
        """Return when something changed, at the latest after `within` seconds."""
        changed = asyncio.get_running_loop().create_future()

        async def ring() -> None:
            await self._clock.sleep(max(0.0, within))
            if not changed.done():
                changed.set_result(None)

        self._changed.add(changed)
        try:
            async with running(ring()):
                await changed
        finally:
            self._changed.discard(changed)

    # Settling

    def held(self, delivery: Delivery) -> Entry | None:
        """The entry of a delivery that still is its holder's; None if its lease was lost."""
        self._make_ready(self._clock.now())
        entry: Entry = delivery.receipt[0]
        return entry if entry.token == delivery.receipt[1] and entry.window.live else None

    def extend(self, entry: Entry, until: float) -> None:
        self._lease(entry, until)

    def finish(self, entry: Entry) -> None:
        entry.window.finish(entry)

    def give_back(self, deliveries: Sequence[Delivery], *, counted: bool = False) -> list[Delivery]:
        """Make them ready again, as attempts that failed if `counted`; return those that were
        lost."""
        lost = []
        for delivery in reversed(deliveries):
            entry = self.held(delivery)
            if entry is None:
                lost.append(delivery)
                continue
            entry.window.take_back(entry)
            if counted:
                entry.dropped = False
                entry.failed_at = entry.failed_at or self._clock.wall()
            else:
                entry.deliveries -= 1
            if not entry.window.leaving:
                self._ready.appendleft(entry)
        self._wake()
        return lost

    async def commit(self) -> None:
        """Return when the broker has the state of now."""
        self._tell_poller()
        await self._commits.submit(None)

    async def _commit(self, calls: Sequence[None]) -> Sequence[None]:
        windows = {name: window for name, window in self.windows.items() if window.dirty}
        poller = self._poller
        if windows and poller is not None:
            stored = [(*name, *window.commit()) for name, window in windows.items()]
            for window in windows.values():
                window.dirty = False
            try:
                await poller.commit(stored)
            except KafkaException as error:
                for window in windows.values():
                    window.dirty = True
                raise error_of(error.args[0]) from error
        return [None] * len(calls)

    async def aclose(self) -> None:
        """Commit what is settled and leave the group; bounded by the cluster's timeout."""
        if self._poller is None:
            return
        poller = self._poller
        with suppress(SeawallError, TimeoutError):
            async with self._clock.timeout(self._link.options.timeout):
                await self.commit()
        poller.stop()
        await self._link.call(poller.join)


def _entry(window: Window, message: KafkaMessage) -> Entry:
    offset = message.offset()
    assert offset is not None
    place = f"{message.topic()}/{message.partition()}/{offset}"
    found = read(place, message.key(), message.value(), message.headers() or ())  # type: ignore[arg-type]
    return Entry(
        window,
        offset,
        found.message,
        damage=found.damage,
        base=int(found.number(ATTEMPTS)),
        due=found.number(DUE),
        published=found.number(PUBLISHED) or message.timestamp()[1] / 1000,
        failed_at=found.number(FAILED),
    )
