"""What a consumer and a publisher promise on every broker."""

import asyncio
from collections import defaultdict
from contextlib import suppress

import pytest

from seawall.errors import Misconfigured
from seawall.messaging.base import Delivery, Subscription, Transport
from seawall.messaging.consumer import Consumer, ConsumerConfig
from seawall.messaging.ordering import Ordered
from seawall.messaging.outcomes import Undecodable
from seawall.messaging.policy import RetryPolicy
from seawall.messaging.publisher import Publisher
from seawall.messaging.watchdog import Reconnecting
from tests.support.transports import LEASE, Opener, ids, message, short, store, take, take_all
from tests.support.waiting import eventually, eventually_async

MANY = 24  # several batches; moto, a model of SQS, is slow


async def test_a_long_handler_keeps_its_lease(
    transport: Transport, rival: Opener, sub: Subscription
) -> None:
    lease = max(0.6, short(transport))  # a loaded machine is late by tenths of a second
    attempts: list[int] = []
    done = asyncio.Event()

    async def handle(delivery: Delivery) -> None:
        attempts.append(delivery.attempt)
        with suppress(TimeoutError):
            async with asyncio.timeout(lease * 2.5):
                await asyncio.Event().wait()
        done.set()

    other = await rival()
    await store(transport, sub.topic, message())
    async with Consumer(transport, sub, handle, config=ConsumerConfig(lease=lease, wait=0.2)):
        await eventually(lambda: bool(attempts))
        if other is not transport:
            assert not await other.fetch(sub, 1, wait=lease * 2, lease=lease)
        await eventually(done.is_set)
    assert attempts == [1]
    assert (await transport.lag(sub)).in_flight == 0


async def test_what_a_stopping_consumer_did_not_start_goes_to_others_uncounted(
    transport: Transport, rival: Opener, sub: Subscription
) -> None:
    started, gate = asyncio.Event(), asyncio.Event()
    handled: list[str] = []

    async def handle(delivery: Delivery) -> None:
        started.set()
        await gate.wait()
        handled.append(delivery.message.id)

    stayer = await rival()
    names = [str(n) for n in range(10)]
    await store(transport, sub.topic, *map(message, names))
    config = ConsumerConfig(concurrency=1, prefetch=5, lease=LEASE, wait=0.2)
    async with Consumer(transport, sub, handle, config=config) as leaver:
        await eventually(lambda: leaver.snapshot().buffered > 0)
        gate.set()
        await leaver.drain()
    rest = await take_all(stayer, sub, len(names) - len(handled))
    assert sorted([*handled, *ids(rest)], key=int) == names
    assert {delivery.attempt for delivery in rest} <= {1}


async def test_what_a_handler_cannot_decode_is_dead_at_once_with_its_bytes(
    transport: Transport, sub: Subscription
) -> None:
    async def handle(delivery: Delivery) -> None:
        raise Undecodable("not JSON")

    sent = message(body=b"\xff{torn")
    await store(transport, sub.topic, sent)
    async with Consumer(transport, sub, handle):
        await _dead(transport, sub, 1)
    (letter,) = await transport.dead_letters(sub)
    assert (letter.message, letter.reason, letter.attempts) == (sent, "undecodable", 1)


async def test_what_fails_too_often_is_dead_with_its_last_error(
    transport: Transport, sub: Subscription
) -> None:
    async def handle(delivery: Delivery) -> None:
        raise ValueError(f"failure {delivery.attempt}")

    await store(transport, sub.topic, message())
    async with Consumer(transport, sub, handle, retry=RetryPolicy(attempts=3, immediate=2)):
        await _dead(transport, sub, 1)
    (letter,) = await transport.dead_letters(sub)
    assert (letter.reason, letter.attempts) == ("exhausted", 3)
    assert "ValueError: failure 3" in letter.error


async def test_what_was_dropped_on_each_attempt_is_dead_before_a_handler_sees_it(
    transport: Transport, sub: Subscription
) -> None:
    seen: list[Delivery] = []

    async def handle(delivery: Delivery) -> None:
        seen.append(delivery)

    lease = short(transport)
    sent = message(body=b"\x00poison")
    await store(transport, sub.topic, sent)
    for _ in range(2):
        await take(transport, sub, wait=5, lease=lease)  # and let fall
    config = ConsumerConfig(lease=lease, wait=1)
    policy = RetryPolicy(attempts=2)
    async with Consumer(transport, sub, handle, retry=policy, config=config):
        await _dead(transport, sub, 1)
    (letter,) = await transport.dead_letters(sub)
    assert (letter.message, letter.reason, letter.attempts) == (sent, "poison", 3)
    assert not seen


async def test_nothing_is_held_beside_what_is_handled_alone(
    transport: Transport, rival: Opener, sub: Subscription
) -> None:
    names = ["a", "b", "c"]
    gate = asyncio.Event()
    handling: list[str] = []

    async def handle(delivery: Delivery) -> None:
        handling.append(delivery.message.id)
        await gate.wait()

    await store(transport, sub.topic, *map(message, names))
    await take_all(transport, sub, 3, lease=short(transport))  # and let fall, all together
    other = await rival()
    again = await take_all(other, sub, 3, lease=short(transport))
    assert {(delivery.attempt, delivery.dropped) for delivery in again} == {(2, True)}
    await other.extend(again, lease=LEASE)
    await other.quiesce(sub)
    await other.release(again)
    config = ConsumerConfig(lease=LEASE, wait=1)
    async with Consumer(transport, sub, handle, config=config, retry=RetryPolicy(attempts=2)):
        await eventually(lambda: bool(handling))
        assert (await transport.lag(sub)).ready == 2
        await store(other, sub.topic, message("new"))
        rest = await take_all(other, sub, 3)
        assert {*handling, *ids(rest)} == {*names, "new"}
        assert {delivery.attempt for delivery in rest if delivery.message.id != "new"} == {2}
        await other.ack(rest)
        gate.set()
    assert len(handling) == 1
    assert (await transport.lag(sub)).in_flight == 0


async def test_a_slow_consumer_holds_no_more_than_it_said_and_holds_up_nobody(
    transport: Transport, sub: Subscription
) -> None:
    gate = asyncio.Event()
    late: list[str] = []
    soon: list[str] = []

    async def slow(delivery: Delivery) -> None:
        await gate.wait()
        late.append(delivery.message.id)

    async def quick(delivery: Delivery) -> None:
        soon.append(delivery.message.id)

    config = ConsumerConfig(concurrency=2, prefetch=4, lease=LEASE, wait=0.2)
    others = Subscription(sub.topic, "others")
    await transport.provision([sub, others])
    consumer = Consumer(transport, sub, slow, config=config)
    async with consumer, Consumer(transport, others, quick):
        await store(transport, sub.topic, *(message(str(n)) for n in range(MANY)))
        await eventually(lambda: len(set(soon)) == MANY, within=10)
        await eventually(lambda: consumer.snapshot().running == 2)
        assert consumer.snapshot().buffered <= 2
        gate.set()
        await eventually(lambda: len(set(late)) == MANY, within=10)


async def test_publishing_one_by_one_stores_in_the_order_of_the_calls(
    transport: Transport, sub: Subscription
) -> None:
    names = [str(n) for n in range(MANY)]
    async with Publisher(transport, batch=8) as publisher:
        await asyncio.gather(
            *(publisher.publish(sub.topic, message(name, key="k")) for name in names)
        )
    found = ids(await take_all(transport, sub, MANY))
    if transport.caps.fifo:
        assert found == names
    assert set(found) == set(names)


async def test_a_key_keeps_its_order_among_others(transport: Transport, sub: Subscription) -> None:
    sent = [message(str(n), key=f"key {n % 3}") for n in range(MANY)]
    handled: defaultdict[str | None, list[str]] = defaultdict(list)

    async def handle(delivery: Delivery) -> None:
        handled[delivery.message.key].append(delivery.message.id)

    for start in range(0, MANY, 6):
        await store(transport, sub.topic, *sent[start : start + 6])
    config = ConsumerConfig(concurrency=1, lease=LEASE, wait=0.2)
    async with Consumer(transport, sub, handle, config=config):
        await eventually(lambda: sum(map(len, handled.values())) >= MANY, within=10)
    for key, found in handled.items():
        if transport.caps.fifo:
            assert found == [each.id for each in sent if each.key == key]


async def _dead(transport: Transport, sub: Subscription, count: int) -> None:
    async def are_dead() -> bool:
        return (await transport.lag(sub)).dead == count

    await eventually_async(are_dead, within=10)


async def test_a_subscription_connected_anew_goes_on(
    transport: Transport, sub: Subscription
) -> None:
    if not isinstance(transport, Reconnecting):
        return  # it has no connection of a subscription's own, or the client sees to it
    await store(transport, sub.topic, message("1"))
    before = await take(transport, sub)
    await transport.ack([before])
    await transport.reconnect(sub)
    await store(transport, sub.topic, message("2"))
    after = await take(transport, sub)
    await transport.ack([after])
    assert (before.message.id, after.message.id, after.attempt) == ("1", "2", 1)


async def test_an_ordered_consumer_keeps_the_order_of_each_key_over_failures(
    transport: Transport, sub: Subscription
) -> None:
    handled: dict[str, list[str]] = {"a": [], "b": [], "c": []}

    async def handle(delivery: Delivery) -> None:
        name = delivery.message.id
        if name.endswith("1") and delivery.attempt < 3:
            raise ConnectionError(name)
        handled[name[0]].append(name)

    config = ConsumerConfig(ordered=Ordered(alone=True), wait=0.2)
    consumer = Consumer(transport, sub, handle, config=config, retry=RetryPolicy(base=0, cap=0))
    if not transport.caps.ordered and not transport.caps.fifo:
        with pytest.raises(Misconfigured, match="does not keep any"):
            await consumer.start()
        return
    names = [f"{key}{number}" for number in range(4) for key in "abc"]
    await store(transport, sub.topic, *(message(name, key=name[0]) for name in names))
    async with consumer:
        await eventually(lambda: sum(map(len, handled.values())) == len(names), within=15)
    assert handled == {key: [f"{key}{number}" for number in range(4)] for key in "abc"}
