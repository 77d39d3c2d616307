"""What a consumer does under rules: pause, rate, order, batches, and when it gets nothing."""

import asyncio
import itertools
from collections.abc import AsyncIterator, Sequence

import pytest

from seawall.errors import Misconfigured, Unavailable
from seawall.messaging.base import Caps, Delivery, Durability, Message, Subscription
from seawall.messaging.consumer import Consumer, ConsumerConfig
from seawall.messaging.facts import (
    ConsumerRecovered,
    ConsumerStalled,
    ConsumptionPaused,
    ConsumptionResumed,
    Died,
    KeyParked,
    Retried,
)
from seawall.messaging.ordering import Ordered
from seawall.messaging.outcomes import Reject, Retry
from seawall.messaging.policy import RetryPolicy
from seawall.messaging.transports.memory import MemoryTransport
from seawall.registry.turns import MemoryTurns
from seawall.resilience.breaker import BreakerConfig
from tests.support.consuming import SUB, Bench
from tests.support.waiting import eventually, settle

BREAKER = BreakerConfig(consecutive_failures=3, failure_rate=None, open_for=30)
ALONE = Ordered(alone=True, max_block=10)


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    bench = Bench()
    await bench.transport.open()
    yield bench
    await bench.transport.aclose()


# Backpressure


class Unheard(MemoryTransport):
    """Acknowledgements are not heard until `heard` is set."""

    heard: asyncio.Event
    asked: list[int]

    async def ack(self, deliveries: Sequence[Delivery]) -> None:
        await self.heard.wait()
        await super().ack(deliveries)

    async def fetch(
        self, subscription: Subscription, limit: int, *, wait: float, lease: float
    ) -> Sequence[Delivery]:
        self.asked.append(limit)
        return await super().fetch(subscription, limit, wait=wait, lease=lease)


async def test_no_more_is_fetched_while_acknowledgements_are_not_heard(bench: Bench) -> None:
    transport = Unheard(bench.broker, clock=bench.clock)
    transport.heard, transport.asked = asyncio.Event(), []
    await transport.open()
    await bench.publish(*(str(n) for n in range(200)))
    async with bench.consumer(bench.note, transport=transport, concurrency=4, drain=0):
        await bench.pass_time(5)
        assert min(transport.asked) > 0
        assert len(bench.seen) <= 48  # what may be held, what waits to be heard, and a fetch
        transport.heard.set()
        await bench.pass_time(5)
    assert len(bench.seen) == 200
    await transport.aclose()


async def test_nothing_is_fetched_for_room_that_is_gone_again(bench: Bench) -> None:
    gate = asyncio.Event()

    async def handle(delivery: Delivery) -> None:
        if delivery.message.id.startswith("late"):
            await gate.wait()
        await bench.note(delivery)

    transport = Unheard(bench.broker, clock=bench.clock)
    transport.heard, transport.asked = asyncio.Event(), []
    await transport.open()
    async with bench.consumer(handle, transport=transport, concurrency=4, prefetch=4, drain=0):
        await bench.publish("a", "b")
        await bench.pass_time(1)
        await bench.publish(*(f"late {n}" for n in range(4)))
        await bench.pass_time(1)
        gate.set()  # the first ones to be done make room, which the last ones take
        await bench.pass_time(1)
        assert min(transport.asked) > 0
        transport.heard.set()
        await bench.publish("c")
        await bench.pass_time(1)
    assert len(bench.seen) == 7
    await transport.aclose()


async def test_a_slow_handler_bounds_what_is_held_whatever_the_backlog(bench: Bench) -> None:
    highest = 0

    async def handle(delivery: Delivery) -> None:
        nonlocal highest
        highest = max(highest, (await bench.transport.lag(SUB)).in_flight)
        await bench.clock.sleep(2.0)
        await bench.note(delivery)

    await bench.publish(*(str(n) for n in range(1_000)))
    async with bench.consumer(handle, concurrency=4, drain=0):
        await bench.pass_time(60)
    assert highest == 16  # four times the concurrency, at first
    assert len(bench.seen) > 60


async def test_what_is_held_shrinks_where_handlers_are_slow(bench: Bench) -> None:
    async def handle(delivery: Delivery) -> None:
        await bench.clock.sleep(4.0)

    await bench.publish(*(str(n) for n in range(1_000)))
    async with bench.consumer(handle, concurrency=4, drain=0) as consumer:
        await bench.pass_time(60)
        snapshot = consumer.snapshot()
        assert (snapshot.running, snapshot.buffered) == (4, 1)


# Pausing


async def test_too_many_failures_pause_consumption_and_cost_no_attempt(bench: Bench) -> None:
    broken = True

    async def handle(delivery: Delivery) -> None:
        await bench.note(delivery)
        if broken:
            raise ConnectionError("the mail server is gone")

    await bench.publish(*(str(n) for n in range(20)))
    policy = RetryPolicy(immediate=0, base=1000, cap=1000)
    async with bench.consumer(handle, concurrency=1, breaker=BREAKER, policy=policy) as consumer:
        await eventually(lambda: bool(bench.of(ConsumptionPaused)))
        await settle()
        assert consumer.snapshot().paused
        assert len(bench.seen) == 3
        lag = await bench.transport.lag(SUB)
        assert (lag.ready, lag.in_flight) == (17, 0)  # given back
        await bench.pass_time(29)
        assert len(bench.seen) == 3
        await bench.pass_time(3)  # one on trial, which fails
        assert len(bench.seen) == 4
        broken = False
        await bench.pass_time(32)
        await eventually(lambda: len(bench.seen) == 20)
        assert not consumer.snapshot().paused
    assert len(bench.of(ConsumptionPaused)) == 2
    assert bench.of(ConsumptionResumed) == [ConsumptionResumed(SUB)]
    assert {attempt for _, attempt in bench.seen} == {1}


async def test_messages_that_are_themselves_bad_do_not_pause(bench: Bench) -> None:
    async def handle(delivery: Delivery) -> None:
        await bench.note(delivery)
        raise Reject("bad") if int(delivery.message.id) % 2 else Retry(after=100)

    await bench.publish(*(str(n) for n in range(20)))
    async with bench.consumer(handle, breaker=BREAKER):
        await eventually(lambda: len(bench.seen) == 20)
    assert not bench.of(ConsumptionPaused)


# Rate


async def test_a_rate_is_kept(bench: Bench) -> None:
    at: list[float] = []

    async def handle(_: Delivery) -> None:
        at.append(bench.clock.now())

    await bench.publish(*(str(n) for n in range(100)))
    async with bench.consumer(handle, rate=2, lease=1e6, timeout=1e9, drain=0):
        await bench.pass_time(20, step=0.25)
    assert 40 <= len(at) <= 42
    assert all(later - earlier >= 0.5 for earlier, later in itertools.pairwise(at))


# Order


async def keyed(bench: Bench, *names: str) -> None:
    """Messages named KEY and a number, of that key."""
    await bench.transport.publish("t", [Message(name, b"", key=name[0]) for name in names])


async def test_a_failed_message_holds_up_its_key_and_no_other(bench: Bench) -> None:
    async def handle(delivery: Delivery) -> None:
        await bench.note(delivery)
        if delivery.message.id == "a1" and delivery.attempt < 3:
            raise Retry(after=2)

    await keyed(bench, "a1", "a2", "b1", "a3", "b2")
    async with bench.consumer(handle, ordered=ALONE):
        await eventually(lambda: len(bench.seen) == 3)
        await settle()
        assert sorted(bench.seen) == [("a1", 1), ("b1", 1), ("b2", 1)]
        await bench.pass_time(5)
        await eventually(lambda: len(bench.seen) == 7)
    assert [seen for seen in bench.seen if seen[0][0] == "a"] == [
        *(("a1", 1), ("a1", 2), ("a1", 3), ("a2", 1), ("a3", 1))
    ]
    assert len(bench.of(Retried)) == 2
    lag = await bench.transport.lag(SUB)
    assert (lag.ready, lag.in_flight, lag.dead) == (0, 0, 0)


@pytest.mark.parametrize("then", ["park", "skip"])
async def test_a_key_that_is_blocked_too_long(bench: Bench, then: str) -> None:
    async def handle(delivery: Delivery) -> None:
        await bench.note(delivery)
        if delivery.message.id == "a1" and bench.clock.wall() < 1_700_000_050:
            raise ValueError("boom")

    ordered = Ordered(alone=True, max_block=10, then=then)  # type: ignore[arg-type]
    policy = RetryPolicy(attempts=100, immediate=0, base=8, cap=8)
    await keyed(bench, "a1", "a2", "b1")
    async with bench.consumer(handle, policy=policy, ordered=ordered):
        await bench.pass_time(20)
        await eventually(lambda: bool(bench.of(Died)))
        await keyed(bench, "a3")
        await bench.pass_time(2)
        letters = await bench.transport.dead_letters(SUB)
        dead = [(letter.message.id, letter.reason) for letter in letters]
        if then == "skip":
            assert dead == [("a1", "exhausted")]
            assert [name for name, _ in bench.seen if name != "a1"] == ["b1", "a2", "a3"]
            return
        assert dead == [("a1", "exhausted"), ("a2", "parked"), ("a3", "parked")]
        assert [name for name, _ in bench.seen if name != "a1"] == ["b1"]
        (parked,) = bench.of(KeyParked)
        assert isinstance(parked, KeyParked)
        assert (parked.key, parked.message_id, parked.followers) == ("a", "a1", 1)
        # Sent again in their order, they are handled in it.
        await bench.pass_time(50)
        await bench.transport.redrive(SUB, [letter.letter_id for letter in letters])
        await eventually(lambda: [name for name, _ in bench.seen][-3:] == ["a1", "a2", "a3"])


async def test_a_drain_gives_back_a_blocked_key(bench: Bench) -> None:
    async def handle(delivery: Delivery) -> None:
        await bench.note(delivery)
        raise Retry(after=5)

    await keyed(bench, "a1", "a2")
    async with bench.consumer(handle, ordered=ALONE):
        await eventually(lambda: bool(bench.of(Retried)))
    again = await bench.transport.fetch(SUB, 5, wait=0, lease=1)
    assert [delivery.message.id for delivery in again] == ["a1", "a2"]


class Unordered(MemoryTransport):
    @property
    def caps(self) -> Caps:
        return Caps(
            durability=Durability.NONE,
            ordered=False,
            native_delay=True,
            replay=True,
            max_body=1,
            fifo=False,
        )


async def test_order_that_cannot_be_kept_is_refused_at_start(bench: Bench) -> None:
    with pytest.raises(Misconfigured, match="by several members"):
        await bench.consumer(bench.note, ordered=Ordered()).start()
    with pytest.raises(Misconfigured, match="does not keep any"):
        await bench.consumer(bench.note, transport=Unordered(), ordered=ALONE).start()


class Shared:
    """A store of turns that two members share; it can be out of reach for one of them."""

    def __init__(self, bench: Bench, unique: str) -> None:
        self.turns = MemoryTurns(unique, clock=bench.clock)
        self.cut: set[str] = set()

    def of(self, holder: str) -> "Member":
        return Member(self, holder)


class Member:
    def __init__(self, shared: Shared, holder: str) -> None:
        self.shared, self.holder = shared, holder

    async def take(self, seconds: float) -> bool:
        if self.holder in self.shared.cut:
            raise Unavailable("the store of turns is away")
        return await self.shared.turns.take("t/g", self.holder, seconds)

    async def give(self) -> None:
        if self.holder not in self.shared.cut:
            await self.shared.turns.give("t/g", self.holder)


async def test_of_two_members_one_consumes_and_the_other_follows(bench: Bench, unique: str) -> None:
    shared = Shared(bench, unique)
    seen: list[tuple[str, str]] = []

    def member(name: str) -> Consumer:
        async def handle(delivery: Delivery) -> None:
            seen.append((name, delivery.message.id))

        return bench.consumer(handle, turn=shared.of(name), ordered=Ordered(), lease=30)

    one, two = member("one"), member("two")
    await one.start()
    await bench.pass_time(2)
    await two.start()
    await keyed(bench, "a1", "a2", "b1")
    await bench.pass_time(40)  # longer than a turn, which is renewed
    assert sorted(seen) == [("one", "a1"), ("one", "a2"), ("one", "b1")]
    await one.drain()
    await keyed(bench, "a3")
    await bench.pass_time(3)
    assert seen[-1] == ("two", "a3")
    await two.drain()


async def test_a_member_that_lost_its_turn_and_has_it_again_handles_the_same_keys(
    bench: Bench, unique: str
) -> None:
    async def handle(delivery: Delivery) -> None:
        await bench.note(delivery)
        if len(bench.seen) == 1:
            raise Retry(after=50)

    shared = Shared(bench, unique)
    ordered = Ordered(max_block=100)
    async with bench.consumer(
        handle, turn=shared.of("one"), ordered=ordered, concurrency=1, prefetch=2
    ) as member:
        await keyed(bench, "a1", "a2")
        await bench.pass_time(2)
        assert member.snapshot().buffered == 2  # no room for more
        shared.cut.add("one")
        await bench.pass_time(12)
        lag = await bench.transport.lag(SUB)
        assert (lag.ready, lag.in_flight) == (2, 0)
        shared.cut.clear()
        await bench.pass_time(3)
    assert [name for name, _ in bench.seen] == ["a1", "a1", "a2"]


async def test_who_cannot_reach_the_store_of_turns_stops_before_another_begins(
    bench: Bench, unique: str
) -> None:
    shared = Shared(bench, unique)
    running: list[str] = []
    stopped: list[str] = []

    def member(name: str) -> Consumer:
        async def handle(_: Delivery) -> None:
            running.append(name)
            try:
                await bench.clock.sleep(200)
            except asyncio.CancelledError:
                stopped.append(name)
                raise

        rules = {"ordered": Ordered(), "lease": 30.0, "timeout": 1e6}
        return bench.consumer(handle, turn=shared.of(name), **rules)

    one, two = member("one"), member("two")
    await one.start()
    await bench.pass_time(2)
    await two.start()
    await keyed(bench, "a1", "a2")
    await bench.pass_time(2)
    assert running == ["one"]
    shared.cut.add("one")
    await bench.pass_time(10)
    assert stopped == ["one"]
    assert running == ["one"]
    await bench.pass_time(40)  # until the lease of what it held has run out
    assert running == ["one", "two"]
    await two.drain(within=0)
    await one.drain(within=0)


# Batches


async def test_batches_are_as_large_as_there_are_messages(bench: Bench) -> None:
    batches: list[list[str]] = []

    async def handle(batch: list[Delivery]) -> None:
        batches.append([delivery.message.id for delivery in batch])

    await bench.publish(*(str(n) for n in range(25)))
    async with bench.consumer(handle, batch=10, linger=3, concurrency=1):
        await eventually(lambda: len(batches) == 2)
        await settle()
        assert [len(batch) for batch in batches] == [10, 10]
        await bench.pass_time(4)  # the rest has waited for more long enough
        await eventually(lambda: len(batches) == 3)
    assert [name for batch in batches for name in batch] == [str(n) for n in range(25)]
    lag = await bench.transport.lag(SUB)
    assert (lag.ready, lag.in_flight) == (0, 0)


async def test_one_failure_of_a_batch_is_its_own(bench: Bench) -> None:
    async def handle(batch: list[Delivery]) -> list[Exception | None]:
        for delivery in batch:
            await bench.note(delivery)
        fates: dict[str, Exception] = {"1": Reject("never"), "2": Retry(after=5)}
        return [fates.get(d.message.id) if d.attempt == 1 else None for d in batch]

    await bench.publish("0", "1", "2", "3")
    async with bench.consumer(handle, batch=10, concurrency=1):
        await eventually(lambda: bool(bench.of(Retried)))
        await bench.pass_time(6)
        await eventually(lambda: ("2", 2) in bench.seen)
    assert len(bench.seen) == 5
    assert [letter.message.id for letter in await bench.transport.dead_letters(SUB)] == ["1"]


@pytest.mark.parametrize("wrong", [[None], "no", [1, 2]])
async def test_a_batch_whose_outcome_nobody_understands_failed(bench: Bench, wrong: object) -> None:
    async def handle(batch: list[Delivery]) -> object:
        return wrong

    await bench.publish("0", "1")
    async with bench.consumer(handle, batch=2, policy=RetryPolicy(attempts=1)):
        await eventually(lambda: len(bench.of(Died)) == 2)


async def test_a_batch_that_fails_as_a_whole_is_retried_and_counts_for_the_breaker(
    bench: Bench,
) -> None:
    async def handle(batch: list[Delivery]) -> None:
        raise ConnectionError

    await bench.publish(*(str(n) for n in range(8)))
    breaker = BreakerConfig(consecutive_failures=2, failure_rate=None)
    async with bench.consumer(handle, batch=2, concurrency=1, breaker=breaker):
        await eventually(lambda: bool(bench.of(ConsumptionPaused)))
        await settle()
        assert len(bench.of(Retried)) == 4
        assert (await bench.transport.lag(SUB)).in_flight == 0


@pytest.mark.parametrize(
    "wrong",
    [
        *({"batch": 0}, {"batch": 10**6}, {"linger": 60.0}, {"rate": 0.0}, {"stalled_after": 0.0}),
        {"batch": 2, "ordered": Ordered()},
    ],
)
def test_nonsense_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(Misconfigured):
        ConsumerConfig(**wrong)  # type: ignore[arg-type]


# Getting nothing


class Deaf(MemoryTransport):
    """Its fetches bring nothing until it is connected anew."""

    deaf = True

    async def fetch(
        self, subscription: Subscription, limit: int, *, wait: float, lease: float
    ) -> Sequence[Delivery]:
        if self.deaf:
            await self._clock.sleep(wait)
            return []
        return await super().fetch(subscription, limit, wait=wait, lease=lease)

    async def reconnect(self, subscription: Subscription) -> None:
        self.deaf = False


async def test_a_consumer_that_gets_nothing_although_messages_wait_connects_anew(
    bench: Bench,
) -> None:
    transport = Deaf(bench.broker, clock=bench.clock)
    await transport.open()
    await bench.publish("a", "b")
    async with bench.consumer(bench.note, transport=transport, stalled_after=30) as consumer:
        await bench.pass_time(29)
        assert not consumer.snapshot().stalled
        await bench.pass_time(12)
        await eventually(lambda: len(bench.seen) == 2)
        assert not consumer.snapshot().stalled
    (stalled,) = bench.of(ConsumerStalled)
    assert isinstance(stalled, ConsumerStalled)
    assert (stalled.ready, stalled.subscription) == (2, SUB)
    assert bench.of(ConsumerRecovered) == [ConsumerRecovered(SUB)]


async def test_a_consumer_that_has_no_room_is_not_stalled(bench: Bench) -> None:
    async def handle(_: Delivery) -> None:
        await asyncio.Event().wait()

    await bench.publish(*(str(n) for n in range(10)))
    consumer = bench.consumer(handle, concurrency=1, prefetch=1, lease=1e6, timeout=1e9)
    await consumer.start()
    await bench.pass_time(100)
    assert not bench.of(ConsumerStalled)
    await consumer.drain(within=0)
