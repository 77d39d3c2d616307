"""The runtime of one subscription: fetch, handle, settle, and stop without loss.

Who does what, all of it bounded and owned by the consumer's block:

    fetching   takes as many messages as there is room for, never more
    workers    `concurrency` of them run the handler, one message each at a time
    acking     sends what is done in natural batches
    renewing   keeps the leases of what is still here, and stops handlers that lost theirs

A message may end its process, and with it every other delivery there: they all come back, again
and again together, and would all be taken for poison. So a message on its last attempt whose
process died before is handled alone: nothing else of this subscription is held meanwhile.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum, auto
from random import Random
from typing import Self, TypeVar

from seawall.clock import SYSTEM, Clock
from seawall.concurrency.tasks import Tasks
from seawall.errors import Misconfigured, SeawallError
from seawall.facts import Observer, ignore
from seawall.messaging.base import Delivery, Subscription, Transport
from seawall.messaging.facts import Acked, BrokerAway, BrokerBack, Died, Fetched, Released, Retried
from seawall.messaging.outcomes import Reject, Retry
from seawall.messaging.policy import EXPIRED, POISON, UNDECODABLE, Again, RetryPolicy

Handler = Callable[[Delivery], Awaitable[object]]

# How long one worker may keep the event loop with handlers that never wait, before it lets
# others (fetching, acking, the rest of the service) have their turn.
TURN = 0.001  # seconds

# Back-off while the broker is away: the first ceiling and the last, in seconds.
AWAY_BASE, AWAY_CAP = 0.05, 2.0

# What a stopping consumer gives the broker to take each of its last calls.
LAST_WORDS = 2.0  # seconds

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True, slots=True)
class ConsumerConfig:
    concurrency: int = 16  # messages handled at the same time
    prefetch: int = 0  # messages held, handled ones included; 0 = four times `concurrency`
    lease: float = 30.0  # seconds; renewed at a third of it. After a crash others wait this long
    timeout: float = 300.0  # seconds a handler may run; checked when leases are renewed
    wait: float = 5.0  # seconds one fetch waits for a message
    drain: float = 10.0  # seconds running handlers get to finish when the consumer stops

    def __post_init__(self) -> None:
        if self.concurrency < 1 or self.lease <= 0:
            raise Misconfigured(f"concurrency={self.concurrency}, lease={self.lease} s")

    @property
    def held(self) -> int:
        return max(self.prefetch or 4 * self.concurrency, self.concurrency)


@dataclass(frozen=True, slots=True)
class ConsumerSnapshot:
    buffered: int
    running: int
    settling: int
    away: bool  # the broker did not answer the last time
    fetching: bool  # false before the start, after the end, and if a defect ended it


class _Stop(Enum):
    LEASE_LOST = auto()
    TIMED_OUT = auto()


@dataclass(slots=True)
class _Slot:
    """What one worker is doing."""

    task: asyncio.Task[None] | None = None
    delivery: Delivery | None = None
    since: float = 0.0
    handling: bool = False  # the handler runs, so it may be stopped
    stopped: _Stop | None = None  # why we cancelled the handler, if we did


class Consumer:
    """Runs `handler` for every message of a subscription while its block is open.

    At least once: the handler returned before a message is acknowledged; after a crash it comes
    again, with a higher `attempt`. A handler that raises has the message retried as `retry`
    says; `Retry` and `Reject` (raised or returned) say it themselves. Order is not kept when
    `concurrency` is above 1. A handler whose lease was lost, or which overran `timeout`, is
    cancelled. Handlers share their worker's context variables: set ones are to be reset.

    When the block ends no more is fetched, running handlers get `drain` seconds, what was not
    handled is released for others, and the last acknowledgements are sent.
    """

    def __init__(
        self,
        transport: Transport,
        subscription: Subscription,
        handler: Handler,
        *,
        config: ConsumerConfig | None = None,
        retry: RetryPolicy | None = None,
        observer: Observer = ignore,
        clock: Clock = SYSTEM,
        rng: Random | None = None,
    ) -> None:
        self.subscription = subscription
        self._transport = transport
        self._handler = handler
        self._config = config or ConsumerConfig()
        self._policy = retry or RetryPolicy()
        self._observer = observer
        self._clock = clock
        self._rng = rng or Random()
        self._buffer: deque[Delivery] = deque()
        self._slots = [_Slot() for _ in range(self._config.concurrency)]
        self._running = 0
        self._suspects: list[Delivery] = []  # to be handled alone, once nothing else is here
        self._idle: list[asyncio.Future[None]] = []
        self._spreading = False
        self._done: list[Delivery] = []
        self._seconds: list[float] = []
        self._acking = 0
        self._done_event = asyncio.Event()
        self._room = asyncio.Event()
        self._quiet = asyncio.Event()  # no handler runs, looked at while draining
        self._away_since: float | None = None
        self._tasks = Tasks()
        self._fetching: asyncio.Task[None] | None = None

    # Starting and stopping

    async def start(self) -> None:
        """Make sure the group exists, as soon as the broker answers, and begin to consume."""
        self._room.set()
        for slot in self._slots:
            slot.task = self._tasks.start(self._work(slot), name="consumer-worker")
        self._tasks.start(self._ack_all(), name="consumer-acking")
        self._tasks.start(self._renew_all(), name="consumer-renewing")
        self._fetching = self._tasks.start(self._fetch_all(), name="consumer-fetching")

    async def drain(self, within: float | None = None) -> None:
        """Stop: fetch no more, let handlers finish for `within` seconds, release the rest."""
        if self._fetching is not None and not self._fetching.done():
            self._fetching.cancel()
            await asyncio.wait([self._fetching])
        limit = self._config.drain if within is None else within
        unstarted = [*self._buffer, *self._suspects]
        self._buffer.clear()
        self._suspects.clear()
        await self._briefly(self._release(unstarted))
        with suppress(TimeoutError):  # what still runs then is cancelled below, and released
            async with asyncio.timeout(limit):
                await self._at_rest()
        running = [slot.delivery for slot in self._slots if slot.delivery is not None]
        await self._tasks.cancel()
        await self._briefly(self._release(running))
        await self._briefly(self._flush_acks())

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.drain()
        async with self._tasks:  # raises what a task died of, if one did
            pass

    def snapshot(self) -> ConsumerSnapshot:
        return ConsumerSnapshot(
            buffered=len(self._buffer) + len(self._suspects),
            running=self._running,
            settling=len(self._done) + self._acking,
            away=self._away_since is not None,
            fetching=self._fetching is not None and not self._fetching.done(),
        )

    def __repr__(self) -> str:
        topic, group = self.subscription.topic, self.subscription.group
        return f"<Consumer {topic}/{group} {self.snapshot()}>"

    # Fetching

    async def _fetch_all(self) -> None:
        await self._persistently(lambda: self._transport.provision([self.subscription]))
        while True:
            await self._room.wait()
            free = self._free()
            deliveries = await self._persistently(
                lambda free=free: self._transport.fetch(  # type: ignore[misc]
                    self.subscription, free, wait=self._config.wait, lease=self._config.lease
                )
            )
            if deliveries:
                self._observer(Fetched(self.subscription, len(deliveries)))
                for delivery in deliveries:
                    suspect = self._is_suspect(delivery)
                    (self._suspects if suspect else self._buffer).append(delivery)
                self._check_room()
                self._spread()
                if self._suspects:
                    await self._handle_alone()

    def _is_suspect(self, delivery: Delivery) -> bool:
        return delivery.dropped and delivery.attempt == self._policy.attempts

    async def _handle_alone(self) -> None:
        """Handle one of the suspects with nothing beside it; the others are another's turn."""
        await self._at_rest()
        others = self._suspects[1:]
        if others:
            await self._persistently(lambda: self._release(others))
        self._buffer.extend(self._suspects[:1])
        self._suspects.clear()
        self._spread()
        await self._at_rest()
        self._check_room()

    async def _at_rest(self) -> None:
        """Return when nothing is handled, and nothing waits for it."""
        while self._running or self._buffer:
            self._quiet.clear()
            await self._quiet.wait()

    def _free(self) -> int:
        """How many more messages may be held.

        Those whose acknowledgement is on its way no longer count, so that the next fetch and
        the last acknowledgements travel together; but not more than once over.
        """
        held = self._config.held
        settling = len(self._done) + self._acking
        if settling > held:
            return 0
        return held - len(self._buffer) - self._running

    def _check_room(self) -> None:
        # From half full on: a fetch for every single free place would be a round trip each.
        if self._free() * 2 >= self._config.held or (not self._buffer and self._free() > 0):
            self._room.set()
        else:
            self._room.clear()

    # Handling

    def _spread(self) -> None:
        """Wake one idle worker if there is work; it wakes the next one when it has to wait."""
        self._spreading = False
        while self._buffer and self._idle:
            waiter = self._idle.pop()
            if not waiter.done():
                waiter.set_result(None)
                return

    async def _work(self, slot: _Slot) -> None:
        loop = asyncio.get_running_loop()
        clock = self._clock
        buffer = self._buffer
        while True:
            if not buffer:
                waiter = loop.create_future()
                self._idle.append(waiter)
                await waiter
                continue
            turn_ends = clock.now() + TURN
            while buffer:
                delivery = buffer.popleft()
                slot.delivery = delivery
                slot.since = clock.now()
                self._running += 1
                if buffer and self._idle and not self._spreading:
                    # Runs when this worker waits for the first time: handlers that never wait
                    # need no second worker.
                    self._spreading = True
                    loop.call_soon(self._spread)
                await self._handle(slot, delivery)
                slot.delivery = None
                self._running -= 1
                if clock.now() >= turn_ends:
                    self._rest()
                    await clock.sleep(0)
                    turn_ends = clock.now() + TURN
            self._rest()

    def _rest(self) -> None:
        self._check_room()
        if self._running == 0:
            self._quiet.set()

    async def _handle(self, slot: _Slot, delivery: Delivery) -> None:
        hopeless = self._hopeless(delivery)
        if hopeless is not None:
            await self._die(delivery, *hopeless)
            return
        failure: Exception | None = None
        slot.handling = True
        try:
            result = await self._handler(delivery)
        except asyncio.CancelledError:
            if slot.stopped is None:
                raise
        except Exception as error:  # noqa: BLE001 - a handler may fail in any way; it is retried
            failure = error
        else:
            if isinstance(result, (Retry, Reject)):
                failure = result
        finally:
            slot.handling = False
        if slot.stopped is not None:
            stopped, slot.stopped = slot.stopped, None
            assert slot.task is not None
            slot.task.uncancel()
            if stopped is _Stop.LEASE_LOST:
                return
            failure = TimeoutError(f"the handler ran longer than {self._config.timeout} s")
        if failure is None:
            self._done.append(delivery)
            self._seconds.append(self._clock.now() - slot.since)
            self._done_event.set()
        else:
            await self._fail(delivery, failure)

    def _hopeless(self, delivery: Delivery) -> tuple[str, str] | None:
        """Reason and error if the handler is not even to see this delivery."""
        if delivery.damage:
            return UNDECODABLE, delivery.damage
        if delivery.attempt > self._policy.attempts:
            died = delivery.attempt - 1
            return POISON, f"delivered {died} times; the last process to handle it died"
        expires = delivery.message.headers.get("ce-expires")
        if expires is not None:
            try:
                late = self._clock.wall() - float(expires)
            except ValueError:
                return UNDECODABLE, f"ce-expires {expires!r} is not a number"
            if late > 0:
                return EXPIRED, f"expired {late:.3f} s before it was handled"
        return None

    async def _fail(self, delivery: Delivery, failure: Exception) -> None:
        error = f"{type(failure).__name__}: {failure}"
        decision = self._policy.decide(delivery.attempt, failure, self._rng)
        if isinstance(decision, Again):
            delay = decision.delay
            await self._persistently(
                lambda: self._transport.retry(delivery, delay=delay, error=error)
            )
            self._observer(
                Retried(self.subscription, delivery.message.id, delivery.attempt, delay, error)
            )
        else:
            await self._die(delivery, decision.reason, error)

    async def _die(self, delivery: Delivery, reason: str, error: str) -> None:
        await self._persistently(lambda: self._transport.dead(delivery, reason=reason, error=error))
        self._observer(
            Died(self.subscription, delivery.message.id, delivery.attempt, reason, error)
        )

    # Settling

    async def _ack_all(self) -> None:
        while True:
            await self._done_event.wait()
            self._done_event.clear()
            await self._flush_acks()
            self._check_room()

    async def _flush_acks(self) -> None:
        while self._done:
            done, self._done = self._done, []
            seconds, self._seconds = self._seconds, []
            self._acking = len(done)
            try:
                await self._persistently(lambda done=done: self._transport.ack(done))  # type: ignore[misc]
            except asyncio.CancelledError:
                # Given back, so that the last flush of a drain sends them; settling twice
                # does nothing the second time.
                self._done[:0], self._seconds[:0] = done, seconds
                raise
            finally:
                self._acking = 0
            self._observer(Acked(self.subscription, tuple(seconds)))

    async def _release(self, deliveries: Sequence[Delivery]) -> None:
        if deliveries:
            await self._transport.release(deliveries)
            self._observer(Released(self.subscription, len(deliveries)))

    async def _renew_all(self) -> None:
        while True:
            await self._clock.sleep(self._config.lease / 3)
            self._stop_overdue()
            held = [slot.delivery for slot in self._slots if slot.delivery is not None]
            held += [*self._buffer, *self._suspects]
            if held:
                lost = await self._persistently(
                    lambda held=held: self._transport.extend(held, lease=self._config.lease)  # type: ignore[misc]
                )
                self._drop(lost)

    def _stop_overdue(self) -> None:
        latest = self._clock.now() - self._config.timeout
        for slot in self._slots:
            if slot.delivery is not None and slot.since < latest:
                self._stop(slot, _Stop.TIMED_OUT)

    def _drop(self, lost: Sequence[Delivery]) -> None:
        """Others have these now: forget the waiting ones, stop the running ones."""
        gone = {id(delivery) for delivery in lost}
        if not gone:
            return
        kept = [delivery for delivery in self._buffer if id(delivery) not in gone]
        self._buffer.clear()
        self._buffer.extend(kept)
        self._suspects = [each for each in self._suspects if id(each) not in gone]
        for slot in self._slots:
            if slot.delivery is not None and id(slot.delivery) in gone:
                self._stop(slot, _Stop.LEASE_LOST)

    @staticmethod
    def _stop(slot: _Slot, why: _Stop) -> None:
        if slot.task is not None and slot.handling and slot.stopped is None:
            slot.stopped = why
            slot.task.cancel()

    # The broker comes and goes

    async def _persistently(self, call: Callable[[], Awaitable[T]]) -> T:
        """The result of `call`, tried until the broker gives one.

        Whatever it says instead: nobody else can act on it, and a consumer that gave up would
        be a silent one. Everything called so may be called twice: settling a delivery that was
        settled before does nothing.
        """
        ceiling = AWAY_BASE
        while True:
            try:
                result = await call()
            except SeawallError as error:
                if self._away_since is None:
                    self._away_since = self._clock.now()
                    self._observer(BrokerAway(self.subscription, str(error)))
                await self._clock.sleep(self._rng.uniform(ceiling / 2, ceiling))
                ceiling = min(AWAY_CAP, ceiling * 2)
            else:
                if self._away_since is not None:
                    away = self._clock.now() - self._away_since
                    self._away_since = None
                    self._observer(BrokerBack(self.subscription, away))
                return result

    async def _briefly(self, work: Awaitable[None]) -> None:
        """Part of a drain: tried once, for a bounded time. What fails comes back by its lease."""
        try:
            async with asyncio.timeout(LAST_WORDS):
                await work
        except (SeawallError, TimeoutError) as error:
            self._observer(BrokerAway(self.subscription, str(error)))
