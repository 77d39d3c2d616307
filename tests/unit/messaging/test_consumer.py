"""The runtime of one subscription, on memory; time is moved by hand where it matters."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Sequence

import pytest

from seawall.errors import Misconfigured, OutcomeUnknown, Unavailable
from seawall.messaging.base import Delivery, Message, Receipt, Subscription
from seawall.messaging.consumer import Consumer, ConsumerConfig
from seawall.messaging.facts import (
    Acked,
    BrokerAway,
    BrokerBack,
    Died,
    Fetched,
    LeaseLost,
    Released,
    Retried,
)
from seawall.messaging.outcomes import Reject, Retry, Undecodable
from seawall.messaging.policy import RetryPolicy
from seawall.messaging.transports.memory import MemoryTransport
from tests.support.consuming import SUB, Bench
from tests.support.waiting import eventually, eventually_async


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    bench = Bench()
    await bench.transport.open()
    yield bench
    await bench.transport.aclose()


async def test_handled_messages_are_acked_in_batches(bench: Bench) -> None:
    await bench.publish(*(str(n) for n in range(40)))
    async with bench.consumer(bench.note):
        await eventually(lambda: len(bench.seen) == 40)
    assert bench.seen == [(str(n), 1) for n in range(40)]
    acked = [fact for fact in bench.facts if isinstance(fact, Acked)]
    assert sum(len(fact.seconds) for fact in acked) == 40
    assert len(acked) < 10
    assert sum(fact.messages for fact in bench.facts if isinstance(fact, Fetched)) == 40
    lag = await bench.transport.lag(SUB)
    assert (lag.ready, lag.in_flight) == (0, 0)


async def test_concurrency_is_bounded_and_used(bench: Bench) -> None:
    running = highest = 0
    gate = asyncio.Event()

    async def handle(_: Delivery) -> None:
        nonlocal running, highest
        running += 1
        highest = max(highest, running)
        await gate.wait()
        running -= 1
        await bench.note(_)

    await bench.publish(*(str(n) for n in range(100)))
    async with bench.consumer(handle, concurrency=7, prefetch=20) as consumer:
        await eventually(lambda: running == 7)
        snapshot = consumer.snapshot()
        assert (snapshot.running, snapshot.buffered) == (7, 13)
        assert (await bench.transport.lag(SUB)).in_flight == 20  # prefetch, and no more
        gate.set()
        await eventually(lambda: len(bench.seen) == 100)
    assert highest == 7


@pytest.mark.parametrize("raised", [True, False])
async def test_retry_with_a_time_comes_then(bench: Bench, raised: bool) -> None:
    async def handle(delivery: Delivery) -> object:
        await bench.note(delivery)
        if delivery.attempt == 1:
            if raised:
                raise Retry(after=60, reason="later")
            return Retry(after=60, reason="later")
        return None

    await bench.publish("a")
    async with bench.consumer(handle):
        await eventually(lambda: bool(bench.of(Retried)))
        assert bench.of(Retried) == [Retried(SUB, "a", 1, 60, "Retry: later")]
        await eventually(lambda: bench.clock.sleeping > 0)
        bench.clock.advance(61)
        await eventually(lambda: bench.seen == [("a", 1), ("a", 2)])


async def test_any_error_is_retried_by_the_policy_until_it_is_exhausted(bench: Bench) -> None:
    async def handle(delivery: Delivery) -> None:
        await bench.note(delivery)
        raise ValueError("boom")

    await bench.publish("a")
    policy = RetryPolicy(attempts=3, immediate=3)
    async with bench.consumer(handle, policy=policy):
        await eventually(lambda: bool(bench.of(Died)))
    assert bench.seen == [("a", 1), ("a", 2), ("a", 3)]
    assert bench.of(Died) == [Died(SUB, "a", 3, "exhausted", "ValueError: boom")]
    (letter,) = await bench.transport.dead_letters(SUB)
    assert (letter.reason, letter.attempts) == ("exhausted", 3)


@pytest.mark.parametrize(
    ("outcome", "reason"),
    [(Reject("never"), "rejected"), (Undecodable("not JSON"), "undecodable")],
)
async def test_rejected_goes_to_the_dead_letters_at_once(
    bench: Bench, outcome: Exception, reason: str
) -> None:
    async def handle(delivery: Delivery) -> None:
        raise outcome

    await bench.publish("a")
    async with bench.consumer(handle):
        await eventually(lambda: bool(bench.of(Died)))
    (letter,) = await bench.transport.dead_letters(SUB)
    assert (letter.reason, letter.message.body) == (reason, b"a")


async def test_one_failing_message_does_not_hold_up_others(bench: Bench) -> None:
    async def handle(delivery: Delivery) -> None:
        if delivery.message.id == "bad":
            raise ValueError
        await bench.note(delivery)

    await bench.publish("a", "bad", "b")
    async with bench.consumer(handle, concurrency=1):
        await eventually(lambda: bench.seen == [("a", 1), ("b", 1)])


async def test_poison_does_not_reach_the_handler(bench: Bench) -> None:
    policy = RetryPolicy(attempts=2)
    await bench.publish("a")
    for _ in range(2):  # two processes died of it
        await bench.transport.fetch(SUB, 1, wait=0, lease=1)
        bench.clock.advance(2)
    async with bench.consumer(bench.note, policy=policy):
        await eventually(lambda: bool(bench.of(Died)))
    assert bench.seen == []
    (letter,) = await bench.transport.dead_letters(SUB)
    assert (letter.reason, letter.attempts) == ("poison", 3)


async def test_what_fell_together_is_handled_alone_on_its_last_attempt(bench: Bench) -> None:
    held: list[int] = []

    async def handle(delivery: Delivery) -> None:
        await bench.note(delivery)
        held.append((await bench.transport.lag(SUB)).in_flight)

    names = ["a", "b", "c", "d"]
    await bench.publish(*names)
    for _ in range(2):  # one of them ended two processes, and the others' deliveries with them
        assert len(await bench.transport.fetch(SUB, 10, wait=0, lease=1)) == 4
        bench.clock.advance(2)
    await bench.publish("fresh")
    async with bench.consumer(handle, policy=RetryPolicy(attempts=3)):
        await eventually(lambda: len(bench.seen) == 5)
    assert bench.seen[0] == ("fresh", 1)
    assert sorted(bench.seen[1:]) == [(name, 3) for name in names]
    assert held[1:] == [1, 1, 1, 1]
    assert not bench.of(Died)


async def test_a_drain_releases_what_waits_to_be_handled_alone(bench: Bench) -> None:
    gate = asyncio.Event()

    async def handle(delivery: Delivery) -> None:
        await bench.note(delivery)
        await gate.wait()

    await bench.publish("suspect")
    await bench.transport.fetch(SUB, 1, wait=0, lease=1)
    bench.clock.advance(2)
    await bench.publish("slow")
    async with bench.consumer(handle, policy=RetryPolicy(attempts=2)) as consumer:
        await eventually(lambda: consumer.snapshot().buffered == 1 and bool(bench.seen))
        gate.set()
        await consumer.drain()
    assert bench.seen == [("slow", 1)]
    (again,) = await bench.transport.fetch(SUB, 2, wait=0, lease=1)
    assert (again.message.id, again.attempt, again.dropped) == ("suspect", 2, True)


@pytest.mark.parametrize(
    ("expires", "reason"),
    [(-1.0, "expired"), ("soon", "undecodable")],
)
async def test_expired_messages_are_not_handled(
    bench: Bench, expires: float | str, reason: str
) -> None:
    at = expires if isinstance(expires, str) else str(bench.clock.wall() + expires)
    await bench.publish("late", **{"ce-expires": at})
    await bench.publish("fresh", **{"ce-expires": str(bench.clock.wall() + 60)})
    async with bench.consumer(bench.note):
        await eventually(lambda: bench.seen == [("fresh", 1)])
    (letter,) = await bench.transport.dead_letters(SUB)
    assert (letter.message.id, letter.reason) == ("late", reason)


class Damaging(MemoryTransport):
    async def fetch(
        self, subscription: Subscription, limit: int, *, wait: float, lease: float
    ) -> Sequence[Delivery]:
        found = await super().fetch(subscription, limit, wait=wait, lease=lease)
        return [Delivery(d.message, d.subscription, d.attempt, d.receipt, "torn") for d in found]


async def test_damaged_deliveries_are_dead_at_once(bench: Bench) -> None:
    await bench.publish("a")
    transport = Damaging(bench.broker, clock=bench.clock)
    await transport.open()
    async with bench.consumer(bench.note, transport=transport):
        await eventually(lambda: bool(bench.of(Died)))
    assert bench.seen == []
    (letter,) = await bench.transport.dead_letters(SUB)
    assert (letter.reason, letter.error, letter.message.body) == ("undecodable", "torn", b"a")


async def test_leases_of_running_and_waiting_messages_are_renewed(bench: Bench) -> None:
    gate = asyncio.Event()

    async def handle(delivery: Delivery) -> None:
        await gate.wait()
        await bench.note(delivery)

    await bench.publish("running", "waiting")
    async with bench.consumer(handle, concurrency=1, prefetch=2, lease=30):
        await eventually_async(lambda: _in_flight(bench, 2))
        for _ in range(9):
            await eventually(lambda: bench.clock.sleeping >= 1)
            bench.clock.advance(10)
            await asyncio.get_running_loop().run_in_executor(None, bool)  # let it renew
            assert await _in_flight(bench, 2)
        gate.set()
        await eventually(lambda: len(bench.seen) == 2)
    assert bench.seen == [("running", 1), ("waiting", 1)]
    assert not bench.of(LeaseLost)


async def _in_flight(bench: Bench, wanted: int) -> bool:
    return (await bench.transport.lag(SUB)).in_flight == wanted


async def test_a_handler_that_lost_its_lease_is_cancelled_and_settles_nothing(
    bench: Bench,
) -> None:
    cancelled = asyncio.Event()

    async def handle(delivery: Delivery) -> None:
        if delivery.message.id == "other":
            await bench.note(delivery)
            return
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.set()
            raise

    await bench.publish("lost")
    async with bench.consumer(handle, concurrency=1, lease=30) as consumer:
        await eventually(lambda: consumer.snapshot().running == 1)
        group = bench.broker.group(SUB)
        group.leases.clear()  # as if it had run out and been taken by somebody else
        bench.clock.advance(10)
        await cancelled.wait()
        await bench.publish("other")  # the worker lives on
        await eventually(lambda: bench.seen == [("other", 1)])
    assert bench.of(LeaseLost) == [LeaseLost(SUB, "lost", "extend")]
    lag = await bench.transport.lag(SUB)
    assert (lag.dead, lag.delayed) == (0, 0)


async def test_a_handler_that_runs_too_long_is_stopped_and_retried(bench: Bench) -> None:
    async def handle(delivery: Delivery) -> None:
        await bench.note(delivery)
        if delivery.attempt == 1:
            await asyncio.Event().wait()

    await bench.publish("a")
    policy = RetryPolicy(immediate=1)
    async with bench.consumer(handle, lease=30, timeout=25, policy=policy) as consumer:
        await eventually(lambda: consumer.snapshot().running == 1)
        for _ in range(3):
            await eventually(lambda: bench.clock.sleeping >= 1)
            bench.clock.advance(10)
            await asyncio.get_running_loop().run_in_executor(None, bool)
        await eventually(lambda: bench.seen == [("a", 1), ("a", 2)])
    (retried,) = bench.of(Retried)
    assert isinstance(retried, Retried)
    assert "longer than 25" in retried.error


async def test_draining_waits_for_running_handlers_and_releases_the_rest(bench: Bench) -> None:
    gate = asyncio.Event()

    async def handle(delivery: Delivery) -> None:
        await gate.wait()
        await bench.note(delivery)

    await bench.publish("a", "b", "c", "d")
    consumer = bench.consumer(handle, concurrency=1, prefetch=3)
    await consumer.start()
    await eventually(lambda: consumer.snapshot().running == 1)
    async with asyncio.TaskGroup() as tasks:
        draining = tasks.create_task(consumer.drain(within=5))
        await eventually(lambda: bool(bench.of(Released)))
        assert not draining.done()
        gate.set()
    assert bench.seen == [("a", 1)]
    lag = await bench.transport.lag(SUB)
    assert (lag.ready, lag.in_flight) == (3, 0)
    rest = await bench.transport.fetch(SUB, 10, wait=0, lease=1)
    assert [(d.message.id, d.attempt) for d in rest] == [("b", 1), ("c", 1), ("d", 1)]


async def test_a_handler_that_outlives_the_drain_is_cancelled_and_released(bench: Bench) -> None:
    async def handle(_: Delivery) -> None:
        await asyncio.Event().wait()

    await bench.publish("a")
    consumer = bench.consumer(handle)
    await consumer.start()
    await eventually(lambda: consumer.snapshot().running == 1)
    await consumer.drain(within=0.05)
    (again,) = await bench.transport.fetch(SUB, 10, wait=0, lease=1)
    assert (again.message.id, again.attempt) == ("a", 1)


async def test_draining_twice_is_fine(bench: Bench) -> None:
    consumer = bench.consumer(bench.note)
    await consumer.start()
    await consumer.drain()
    await consumer.drain()
    assert not consumer.snapshot().fetching


class Flaky(MemoryTransport):
    """Fails each kind of call a few times before it works."""

    def __init__(self, bench: Bench, failures: int) -> None:
        super().__init__(bench.broker, clock=bench.clock)
        self.left = Counter(dict.fromkeys(("fetch", "ack", "retry", "dead"), failures))

    def _fail(self, call: str) -> None:
        if self.left[call] > 0:
            self.left[call] -= 1
            raise (Unavailable if self.left[call] % 2 else OutcomeUnknown)("away")

    async def fetch(
        self, subscription: Subscription, limit: int, *, wait: float, lease: float
    ) -> Sequence[Delivery]:
        self._fail("fetch")
        return await super().fetch(subscription, limit, wait=wait, lease=lease)

    async def ack(self, deliveries: Sequence[Delivery]) -> None:
        self._fail("ack")
        await super().ack(deliveries)

    async def retry(self, delivery: Delivery, *, delay: float, error: str) -> None:
        self._fail("retry")
        await super().retry(delivery, delay=delay, error=error)

    async def dead(self, delivery: Delivery, *, reason: str, error: str) -> None:
        self._fail("dead")
        await super().dead(delivery, reason=reason, error=error)

    async def publish(
        self, topic: str, messages: Sequence[Message], *, delay: float = 0.0
    ) -> Sequence[Receipt]:
        return await super().publish(topic, messages, delay=delay)


async def test_a_broker_that_comes_and_goes_costs_nothing_but_time(bench: Bench) -> None:
    async def handle(delivery: Delivery) -> None:
        if delivery.message.id == "bad":
            raise Reject("no")
        if delivery.message.id == "again" and delivery.attempt == 1:
            raise Retry(after=0)
        await bench.note(delivery)

    transport = Flaky(bench, failures=3)
    await transport.open()
    await bench.publish("good", "bad", "again")
    async with bench.consumer(handle, transport=transport, lease=1e6, timeout=1e9) as consumer:
        for _ in range(40):
            await asyncio.get_running_loop().run_in_executor(None, bool)
            bench.clock.advance(1)
        await eventually(lambda: len(bench.seen) == 2)
        await eventually(lambda: not consumer.snapshot().away)
    assert sorted(bench.seen) == [("again", 2), ("good", 1)]
    assert not any(transport.left.values())
    assert bench.of(BrokerAway)
    assert len(bench.of(BrokerAway)) == len(bench.of(BrokerBack))
    lag = await bench.transport.lag(SUB)
    assert (lag.ready, lag.in_flight, lag.dead) == (0, 0, 1)


def test_the_state_is_one_line() -> None:
    consumer = Consumer(MemoryTransport(), SUB, Bench().note)
    assert repr(consumer).startswith("<Consumer t/g ")


@pytest.mark.parametrize("wrong", [{"concurrency": 0}, {"lease": 0}])
def test_nonsense_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(Misconfigured):
        ConsumerConfig(**wrong)  # type: ignore[arg-type]
