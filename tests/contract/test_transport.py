"""`seawall.messaging.base.Transport` as code: what every broker promises here."""

import asyncio
import math
import os

import pytest

from seawall.errors import Refused, Unavailable
from seawall.messaging.base import Delivery, Message, Subscription, Transport
from seawall.messaging.facts import LeaseLost
from tests.support.transports import (
    LEASE,
    Opener,
    bury,
    ids,
    message,
    nothing,
    short,
    store,
    take,
    take_all,
)
from tests.support.waiting import eventually_async

WAYS = ("ack", "retry", "dead", "release")  # to settle a delivery

# How many messages make a backlog. Clients in Python take a processor for seconds where Valkey's
# takes it for tenths; moto is itself Python, and looks through a few hundred for half a second.
BACKLOG = {"memory": 20_000, "valkey": 20_000, "redis": 20_000, "sqs": 60}
FEWER = 2_000


def backlog(broker: str) -> int:
    """As many as `make test-brokers` asks for, but no more of moto than it bears."""
    asked = int(os.environ.get("SEAWALL_TEST_BACKLOG", "0"))
    return BACKLOG["sqs"] if broker == "sqs" else asked or BACKLOG.get(broker, FEWER)


# Storing


async def test_a_message_arrives_as_it_was_published(
    transport: Transport, sub: Subscription
) -> None:
    sent = Message("id 1", b'{"n": 1}', {"ce-id": "id 1", "traceparent": "00-aa-bb-01"}, "key 7")
    await store(transport, sub.topic, sent)
    delivery = await take(transport, sub)
    assert delivery.message == sent
    assert delivery.subscription == sub
    assert delivery.attempt == 1
    assert delivery.damage == ""


async def test_bodies_are_bytes(transport: Transport, sub: Subscription) -> None:
    bodies = [b"", b"\x00\xff\r\n$-1\r\n", "żółw 🐢".encode(), bytes(range(256)) * 400]
    sent = [message(str(n), body) for n, body in enumerate(bodies)]
    for each in sent:
        await store(transport, sub.topic, each)
    arrived = [delivery.message for delivery in await take_all(transport, sub, 4)]
    assert sorted(arrived, key=lambda message: message.id) == sent


async def test_headers_and_keys_are_any_text(transport: Transport, sub: Subscription) -> None:
    sent = Message("ü", b"", {"x-żółw": 'a "quoted"\n🐢', "empty": ""}, "klucz ż")
    await store(transport, sub.topic, sent)
    assert (await take(transport, sub)).message == sent


async def test_a_message_without_headers_and_key(transport: Transport, sub: Subscription) -> None:
    await store(transport, sub.topic, Message("bare", b"b"))
    assert (await take(transport, sub)).message == Message("bare", b"b")


async def test_each_message_has_its_receipt(transport: Transport, sub: Subscription) -> None:
    too_large = message("large", b"x" * (transport.caps.max_body + 1))
    receipts = await transport.publish(sub.topic, [message("a"), too_large, message("b")])
    assert [receipt.message_id for receipt in receipts] == ["a", "large", "b"]
    assert [type(receipt.error) for receipt in receipts] == [type(None), Refused, type(None)]
    assert sorted(ids(await take_all(transport, sub, 2))) == ["a", "b"]


async def test_the_largest_body_is_taken(transport: Transport, sub: Subscription) -> None:
    await store(transport, sub.topic, message(body=b"x" * transport.caps.max_body))
    assert len((await take(transport, sub)).message.body) == transport.caps.max_body


async def test_a_body_of_a_megabyte_is_taken(transport: Transport, sub: Subscription) -> None:
    large = message(body=b"x" * 1_000_000)
    if transport.caps.max_body < 1_000_000:
        (receipt,) = await transport.publish(sub.topic, [large])
        assert isinstance(receipt.error, Refused)
        return
    await store(transport, sub.topic, large)
    assert (await take(transport, sub)).message == large


async def test_publishing_nothing_is_fine(transport: Transport, sub: Subscription) -> None:
    assert list(await transport.publish(sub.topic, [])) == []


async def test_one_publisher_and_one_consumer_keep_the_order(
    transport: Transport, sub: Subscription, broker: str
) -> None:
    count = min(backlog(broker), 300)
    names = [str(n) for n in range(count)]
    for start in range(0, count, 50):
        part = names[start : start + 50]
        await store(transport, sub.topic, *(message(name, key="k") for name in part))
    found = ids(await take_all(transport, sub, count))
    if transport.caps.fifo:
        assert found == names
    assert set(found) == set(names)


async def test_a_delayed_message_comes_when_it_is_due(
    transport: Transport, sub: Subscription
) -> None:
    await transport.provision([sub])
    clock = asyncio.get_running_loop().time
    began, delay = clock(), short(transport)
    await store(transport, sub.topic, message("late"), delay=delay)
    await store(transport, sub.topic, message("now"))
    arrived: dict[str, float] = {}
    for _ in range(2):
        delivery = await take(transport, sub)
        arrived[delivery.message.id] = clock() - began
    assert delivery.message in (message("late"), message("now"))
    assert arrived["late"] > delay - 0.02
    # Where both were due before the first came, on a busy machine, either may be first.
    assert list(arrived) == ["now", "late"] or min(arrived.values()) > delay - 0.02


async def test_a_delayed_message_goes_to_every_group(
    transport: Transport, sub: Subscription
) -> None:
    other = Subscription(sub.topic, "others")
    await transport.provision([sub, other])
    await store(transport, sub.topic, message(), delay=0.1)
    assert (await take(transport, sub)).message.id == "a"
    assert (await take(transport, other)).message.id == "a"


# Fetching


async def test_an_empty_topic_has_nothing(transport: Transport, sub: Subscription) -> None:
    clock = asyncio.get_running_loop().time
    began = clock()
    assert await nothing(transport, sub, within=0.2)
    assert 0.15 < clock() - began < 5.0


async def test_fetch_without_waiting_answers_at_once(
    transport: Transport, sub: Subscription
) -> None:
    await store(transport, sub.topic, message())
    await transport.provision([sub])
    found: list[str] = []

    async def fetched() -> bool:
        found.extend(ids(await transport.fetch(sub, 10, wait=0, lease=LEASE)))
        return not transport.caps.reads_ahead or found == ["a"]

    await eventually_async(fetched)
    assert found == ["a"]
    assert not await transport.fetch(sub, 10, wait=0, lease=LEASE)


async def test_fetch_keeps_to_its_limit(transport: Transport, sub: Subscription) -> None:
    await store(transport, sub.topic, *(message(str(n)) for n in range(10)))
    first = ids(await transport.fetch(sub, 4, wait=1, lease=LEASE))
    assert len(first) == 4
    if transport.caps.fifo:
        assert first == ["0", "1", "2", "3"]
    assert len(await transport.fetch(sub, 100, wait=1, lease=LEASE)) == 6


async def test_fetch_keeps_to_its_limit_with_retries_beside_new_ones(
    transport: Transport, sub: Subscription
) -> None:
    await store(transport, sub.topic, *(message(f"old-{n}") for n in range(10)))
    for delivery in await take_all(transport, sub, 10):
        await transport.retry(delivery, delay=0, error="")
    await store(transport, sub.topic, *(message(f"new-{n}") for n in range(10)))
    found: list[Delivery] = []
    async with asyncio.timeout(10):
        while len(found) < 20:
            part = await transport.fetch(sub, 7, wait=1, lease=LEASE)
            assert len(part) <= 7
            found += part
    assert len(set(ids(found))) == 20
    attempts = {delivery.message.id: delivery.attempt for delivery in found}
    assert attempts == {f"old-{n}": 2 for n in range(10)} | {f"new-{n}": 1 for n in range(10)}


async def test_a_waiting_fetch_gets_a_message_as_it_is_published(
    transport: Transport, connect: Opener, sub: Subscription
) -> None:
    publisher = await connect()
    await transport.provision([sub])
    clock = asyncio.get_running_loop().time
    async with asyncio.TaskGroup() as tasks:
        fetch = tasks.create_task(take(transport, sub, wait=30))
        assert await nothing(publisher, Subscription(sub.topic, "probe"), within=0.1)
        began = clock()
        await store(publisher, sub.topic, message())
    assert fetch.result().message.id == "a"
    assert clock() - began < 5.0


async def test_a_cancelled_fetch_loses_nothing(transport: Transport, sub: Subscription) -> None:
    await transport.provision([sub])
    for n in range(5):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.02):
                await transport.fetch(sub, 1, wait=10, lease=LEASE)
        await store(transport, sub.topic, message(str(n)))
        delivery = await take(transport, sub)
        assert (delivery.message.id, delivery.attempt) == (str(n), 1)


async def test_what_a_cancelled_fetch_took_is_released_on_close(
    connect: Opener, sub: Subscription
) -> None:
    leaver, stayer = await connect(), await connect()
    await stayer.provision([sub])
    async with asyncio.TaskGroup() as tasks:
        fetch = tasks.create_task(leaver.fetch(sub, 1, wait=10, lease=LEASE))
        assert await nothing(stayer, Subscription(sub.topic, "probe"), within=0.1)
        await store(stayer, sub.topic, message())
        fetch.cancel()
    if not fetch.cancelled():  # it was quicker
        await leaver.release(fetch.result())
    await leaver.aclose()
    delivery = await take(stayer, sub)
    assert (delivery.message.id, delivery.attempt) == ("a", 1)


async def test_who_is_quiet_is_delivered_nothing_until_it_fetches(
    transport: Transport, rival: Opener, sub: Subscription
) -> None:
    quiet, other = transport, await rival()
    await store(other, sub.topic, message("lapsed"))
    await take(other, sub, lease=short(transport))
    lapsed = await quiet.fetch(sub, 10, wait=5, lease=short(transport))  # having waited for more
    await quiet.ack(lapsed)
    await quiet.quiesce(sub)
    await store(other, sub.topic, message("new"))
    assert (await other.lag(sub)).in_flight == 0
    delivery = await take(other, sub)
    await other.release([delivery])
    assert (await other.lag(sub)).in_flight == 0
    again = await take(other, sub)
    assert ids([*lapsed, delivery, again]) == ["lapsed", "new", "new"]
    assert (delivery.attempt, again.attempt) == (1, 1)


async def test_what_was_taken_and_not_fetched_goes_to_others_uncounted_once_it_is_quiet(
    transport: Transport, rival: Opener, sub: Subscription
) -> None:
    quiet, other = transport, await rival()
    await quiet.provision([sub])
    async with asyncio.TaskGroup() as tasks:
        fetch = tasks.create_task(quiet.fetch(sub, 2, wait=1, lease=LEASE))
        assert await nothing(other, Subscription(sub.topic, "probe"), within=0.1)
        await store(other, sub.topic, *(message(str(n)) for n in range(6)))
        fetch.cancel()
    held = [] if fetch.cancelled() else list(fetch.result())  # it was quicker
    held += await take_all(quiet, sub, 1 - len(held)) if not held else []
    await quiet.ack(held)  # which makes room
    await quiet.quiesce(sub)
    rest = await take_all(other, sub, 6 - len(held))
    assert sorted([*ids(held), *ids(rest)]) == [str(n) for n in range(6)]
    assert {delivery.attempt for delivery in rest} == {1}


# Groups


async def test_every_group_gets_every_message(transport: Transport, sub: Subscription) -> None:
    other = Subscription(sub.topic, "others")
    await transport.provision([sub, other])
    await store(transport, sub.topic, message("a"), message("b"))
    assert sorted(ids(await take_all(transport, sub, 2))) == ["a", "b"]
    assert sorted(ids(await take_all(transport, other, 2))) == ["a", "b"]


async def test_members_of_a_group_share(
    transport: Transport, rival: Opener, sub: Subscription
) -> None:
    one, two = transport, await rival()
    await store(one, sub.topic, *(message(str(n)) for n in range(40)))
    first = await one.fetch(sub, 10, wait=1, lease=LEASE)
    second = await two.fetch(sub, 10, wait=1, lease=LEASE)
    rest = await take_all(one, sub, 20)
    assert sorted(ids([*first, *second, *rest]), key=int) == [str(n) for n in range(40)]


async def test_a_new_group_starts_with_the_oldest_message(
    transport: Transport, sub: Subscription
) -> None:
    newcomers = Subscription(sub.topic, "newcomers")
    await store(transport, sub.topic, message("before"))
    await transport.provision([newcomers])
    await store(transport, sub.topic, message("after"))
    expected = ["before", "after"] if transport.caps.replay else ["after"]
    assert ids(await take_all(transport, newcomers, len(expected))) == expected


async def test_provision_again_changes_nothing(transport: Transport, sub: Subscription) -> None:
    await transport.provision([sub, sub])
    await store(transport, sub.topic, message())
    held = await take(transport, sub)
    await transport.provision([sub])
    assert await nothing(transport, sub)
    await transport.ack([held])
    assert (await transport.lag(sub)).in_flight == 0


async def test_topics_do_not_see_each_other(transport: Transport, sub: Subscription) -> None:
    other = Subscription(f"{sub.topic}:x", sub.group)
    await transport.provision([sub, other])
    await store(transport, other.topic, message())
    assert await nothing(transport, sub)
    assert (await take(transport, other)).message.id == "a"


# Settling


async def test_acked_is_done(transport: Transport, sub: Subscription) -> None:
    await store(transport, sub.topic, message())
    await transport.ack([await take(transport, sub, lease=short(transport))])
    assert await nothing(transport, sub, within=short(transport) * 2)
    lag = await transport.lag(sub)
    assert (lag.ready, lag.in_flight, lag.delayed, lag.dead) == (0, 0, 0, 0)


async def test_one_call_acks_for_several_subscriptions(
    transport: Transport, sub: Subscription
) -> None:
    all_of_them = [sub, *(Subscription(f"{sub.topic}-{n}", "others") for n in range(2))]
    await transport.provision(all_of_them)
    held = []
    for each in all_of_them:
        await store(transport, each.topic, *(message(str(n)) for n in range(10)))
        held += await take_all(transport, each, 10)
    await transport.ack(held)
    assert [(await transport.lag(each)).in_flight for each in all_of_them] == [0] * 3


async def test_what_is_not_settled_comes_back_and_counts(
    transport: Transport, rival: Opener, sub: Subscription
) -> None:
    dying, living = transport, await rival()
    await store(dying, sub.topic, message())
    await take(dying, sub, lease=short(transport))
    again = await take(living, sub, wait=5, lease=short(transport))
    assert (again.message, again.attempt) == (message(), 2)
    await living.ack([again])


async def test_a_lease_holds(transport: Transport, rival: Opener, sub: Subscription) -> None:
    holder, other = transport, await rival()
    await store(holder, sub.topic, message())
    await take(holder, sub, lease=LEASE)
    assert not await other.fetch(sub, 1, wait=0.5, lease=LEASE)


async def test_an_extended_lease_holds_longer(
    transport: Transport, rival: Opener, sub: Subscription
) -> None:
    holder, other = transport, await rival()
    await store(holder, sub.topic, message())
    held = await take(holder, sub, lease=short(transport))
    for _ in range(4):
        assert not await other.fetch(sub, 1, wait=short(transport) / 3, lease=short(transport))
        assert list(await holder.extend([held], lease=short(transport))) == []
    again = await take(other, sub, wait=5, lease=short(transport))
    assert again.attempt == 2


async def test_extend_tells_what_was_lost(
    transport: Transport, rival: Opener, sub: Subscription
) -> None:
    late, other = transport, await rival()
    await store(late, sub.topic, message("a"), message("b"))
    lost, kept = await late.fetch(sub, 2, wait=1, lease=short(transport))
    await late.ack([kept])
    assert ids([await take(other, sub, wait=5, lease=short(transport))]) == ["a"]
    assert list(await late.extend([lost], lease=short(transport))) == [lost]


async def test_settling_after_the_lease_was_lost_does_nothing(
    transport: Transport, rival: Opener, sub: Subscription, connect: Opener
) -> None:
    late, other = transport, await rival()
    await store(late, sub.topic, *(message(way) for way in WAYS))
    held = await take_all(late, sub, len(WAYS), lease=short(transport))
    now_others: list[Delivery] = []
    async with asyncio.timeout(10):
        while len(now_others) < len(WAYS):
            taken = await other.fetch(sub, len(WAYS), wait=5, lease=short(transport))
            assert not await other.extend(taken, lease=LEASE)
            now_others += taken
    for delivery in held:
        await _settle(late, delivery.message.id, delivery)
    for way in WAYS:
        assert LeaseLost(sub, way, way) in connect.facts  # type: ignore[attr-defined]
    lag = await other.lag(sub)
    assert (lag.ready, lag.in_flight, lag.delayed, lag.dead) == (0, len(WAYS), 0, 0)
    await other.ack(now_others)
    assert (await other.lag(sub)).in_flight == 0


async def test_an_older_delivery_cannot_settle_a_newer_one_of_the_same_client(
    transport: Transport, sub: Subscription
) -> None:
    await store(transport, sub.topic, message())
    older = await take(transport, sub, lease=short(transport))
    newer = await take(transport, sub, wait=5, lease=short(transport))
    await transport.ack([older])
    assert (await transport.lag(sub)).in_flight == 1
    await transport.ack([newer])
    assert (await transport.lag(sub)).in_flight == 0


async def test_settling_twice_does_nothing_the_second_time(
    transport: Transport, sub: Subscription
) -> None:
    await store(transport, sub.topic, message())
    held = await take(transport, sub)
    await transport.ack([held])
    for way in WAYS:
        await _settle(transport, way, held)
    lag = await transport.lag(sub)
    assert (lag.ready, lag.in_flight, lag.delayed, lag.dead) == (0, 0, 0, 0)


async def _settle(transport: Transport, how: str, delivery: Delivery) -> None:
    if how == "ack":
        await transport.ack([delivery])
    elif how == "retry":
        await transport.retry(delivery, delay=0, error="late")
    elif how == "dead":
        await transport.dead(delivery, reason="rejected", error="late")
    else:
        await transport.release([delivery])


async def test_released_goes_to_others_at_once_and_does_not_count(
    transport: Transport, rival: Opener, sub: Subscription
) -> None:
    leaver, stayer = transport, await rival()
    await store(leaver, sub.topic, *(message(str(n)) for n in range(20)))
    await leaver.release(await take_all(leaver, sub, 20))
    found = await take_all(stayer, sub, 20)
    assert {(d.message.id, d.attempt) for d in found} == {(str(n), 1) for n in range(20)}


async def test_a_lapsed_delivery_is_marked_until_it_is_retried(
    transport: Transport, rival: Opener, sub: Subscription
) -> None:
    one, two = transport, await rival()
    await store(one, sub.topic, message())
    assert not (await take(one, sub, lease=short(transport))).dropped  # and let fall
    lapsed = await take(two, sub, wait=5, lease=short(transport))
    assert lapsed.dropped
    await two.release([lapsed])
    released = await take(two, sub, lease=short(transport))
    assert released.dropped
    await two.retry(released, delay=0, error="boom")
    retried = await take(two, sub, lease=short(transport))
    assert retried.dropped is not transport.caps.tells_dropped


# Retrying


async def test_a_retry_comes_after_its_delay_and_counts(
    transport: Transport, sub: Subscription
) -> None:
    sent = Message("id", b"body", {"ce-id": "id", "h": "v"}, "key")
    await store(transport, sub.topic, sent)
    clock = asyncio.get_running_loop().time
    first = await take(transport, sub)
    began = clock()
    delay = short(transport)
    await transport.retry(first, delay=delay, error="boom")
    again = await take(transport, sub, wait=5)
    assert clock() - began > delay - 0.02
    assert (again.message, again.attempt) == (sent, 2)


async def test_a_retry_without_delay_comes_at_once(transport: Transport, sub: Subscription) -> None:
    await store(transport, sub.topic, message())
    await transport.retry(await take(transport, sub), delay=0, error="boom")
    assert (await take(transport, sub, wait=0.5)).attempt == 2


async def test_attempts_add_up_over_retries_releases_and_crashes(
    transport: Transport, rival: Opener, sub: Subscription
) -> None:
    one, two = transport, await rival()
    await store(one, sub.topic, message())
    await one.retry(await take(one, sub, lease=short(transport)), delay=0.01, error="")  # 1
    await one.retry(await take(one, sub, lease=short(transport)), delay=0, error="")  # 2
    await take(one, sub, lease=short(transport))  # 3, and lost
    await two.release(
        [await take(two, sub, wait=5, lease=short(transport))]
    )  # 4, which does not count
    await two.retry(await take(two, sub, lease=short(transport)), delay=0, error="")  # 4
    last = await take(two, sub, lease=short(transport))
    assert (last.attempt, last.message) == (5, message())


async def test_a_retry_is_private_to_its_group(transport: Transport, sub: Subscription) -> None:
    other = Subscription(sub.topic, "others")
    await transport.provision([sub, other])
    await store(transport, sub.topic, message())
    await transport.ack([await take(transport, other)])
    await transport.retry(await take(transport, sub), delay=0.05, error="boom")
    assert (await take(transport, sub)).attempt == 2
    assert await nothing(transport, other)


async def test_a_retry_survives_the_client_that_asked_for_it(
    connect: Opener, sub: Subscription
) -> None:
    leaver = await connect()
    await store(leaver, sub.topic, message())
    await leaver.retry(await take(leaver, sub), delay=0.1, error="boom")
    stayer = await connect()
    await leaver.aclose()
    assert (await take(stayer, sub, wait=5)).attempt == 2


async def test_several_retries_come_in_the_order_of_their_times(
    transport: Transport, sub: Subscription
) -> None:
    await store(transport, sub.topic, *(message(name) for name in "abc"))
    step = max(0.25, transport.caps.resolution)
    for delivery in await take_all(transport, sub, 3):
        steps = {"a": 3, "b": 1, "c": 2}[delivery.message.id]
        await transport.retry(delivery, delay=steps * step, error="")
    assert ids([await take(transport, sub, wait=5) for _ in range(3)]) == ["b", "c", "a"]


async def test_a_retry_lets_the_next_one_of_its_key_pass(
    transport: Transport, sub: Subscription
) -> None:
    await store(transport, sub.topic, message("a", key="k"), message("b", key="k"))
    first = await take(transport, sub)
    await transport.retry(first, delay=short(transport), error="boom")
    second = await take(transport, sub)
    again = await take(transport, sub, wait=5)
    assert {first.message.id, second.message.id} == {"a", "b"}
    assert (again.message, again.attempt) == (first.message, 2)


# Dead letters


async def test_a_dead_letter_says_what_happened(transport: Transport, sub: Subscription) -> None:
    sent = Message("id", b"\x00raw\xff", {"ce-id": "id"}, "key")
    await store(transport, sub.topic, sent)
    await transport.retry(await take(transport, sub), delay=0, error="first")
    await transport.dead(await take(transport, sub), reason="exhausted", error="ż" * 5_000)
    (letter,) = await transport.dead_letters(sub)
    assert (letter.message, letter.subscription) == (sent, sub)
    assert (letter.reason, letter.attempts) == ("exhausted", 2)
    assert letter.error == "ż" * 4_000
    assert letter.died_at > 1_600_000_000
    assert await nothing(transport, sub)
    lag = await transport.lag(sub)
    assert (lag.ready, lag.in_flight, lag.dead) == (0, 0, 1)


async def test_looking_at_dead_letters_changes_nothing(
    transport: Transport, sub: Subscription
) -> None:
    await bury(transport, sub, "a")
    assert await transport.dead_letters(sub) == await transport.dead_letters(sub)


async def test_dead_letters_come_in_pages(transport: Transport, sub: Subscription) -> None:
    await bury(transport, sub, *(str(n) for n in range(7)))
    seen: list[str] = []
    after = None
    while page := await transport.dead_letters(sub, after=after, limit=3):
        assert len(page) <= 3
        seen += [letter.message.id for letter in page]
        after = page[-1].letter_id
    assert seen == [str(n) for n in range(7)]


async def test_dead_letters_are_their_groups_own(transport: Transport, sub: Subscription) -> None:
    other = Subscription(sub.topic, "others")
    await transport.provision([sub, other])
    await bury(transport, sub, "a")
    assert list(await transport.dead_letters(other)) == []


async def test_redrive_starts_over_for_this_group_only(
    transport: Transport, sub: Subscription
) -> None:
    other = Subscription(sub.topic, "others")
    await transport.provision([sub, other])
    await bury(transport, sub, "a", "b")
    await transport.ack(await take_all(transport, other, 2))
    first, _ = await transport.dead_letters(sub)
    assert await transport.redrive(sub, [first.letter_id]) == 1
    again = await take(transport, sub)
    assert (again.message, again.attempt) == (message("a"), 1)
    assert await nothing(transport, other)
    assert [letter.message.id for letter in await transport.dead_letters(sub)] == ["b"]


async def test_purge_deletes(transport: Transport, sub: Subscription) -> None:
    await bury(transport, sub, "a", "b", "c")
    letters = await transport.dead_letters(sub)
    assert await transport.purge(sub, [letter.letter_id for letter in letters[:2]]) == 2
    assert [letter.message.id for letter in await transport.dead_letters(sub)] == ["c"]


async def test_letters_that_are_not_there_are_not_counted(
    transport: Transport, sub: Subscription
) -> None:
    await bury(transport, sub, "a")
    (letter,) = await transport.dead_letters(sub)
    assert await transport.purge(sub, [letter.letter_id]) == 1
    assert await transport.purge(sub, [letter.letter_id]) == 0
    assert await transport.redrive(sub, [letter.letter_id]) == 0
    assert await transport.redrive(sub, []) == await transport.purge(sub, []) == 0


# Looking, and the end


async def test_lag_counts(transport: Transport, sub: Subscription) -> None:
    await transport.provision([sub])
    assert (await transport.lag(sub)).oldest_age == 0
    await store(transport, sub.topic, *(message(str(n)) for n in range(10)))
    retried, dead, released, acked, _held = await take_all(transport, sub, 5)
    await transport.retry(retried, delay=60, error="")
    await transport.dead(dead, reason="rejected", error="")
    await transport.release([released])
    await transport.ack([acked])
    await store(transport, sub.topic, message("later"), delay=60)
    waiting = 1 if transport.caps.counts_retries else 0
    delayed = 1 + waiting if transport.caps.counts_delayed else 0
    expected = (6, 2 - waiting, delayed, 1)

    async def counted() -> bool:
        lag = await transport.lag(sub)
        counts = (lag.ready, lag.in_flight, lag.delayed, lag.dead)
        if not transport.caps.reads_ahead:
            assert counts == expected
        return counts == expected

    await eventually_async(counted)


async def test_lag_tells_the_age_of_the_oldest_unsettled(
    transport: Transport, sub: Subscription
) -> None:
    if not transport.caps.tells_age:
        await store(transport, sub.topic, message("old"))
        assert math.isnan((await transport.lag(sub)).oldest_age)
        return
    await store(transport, sub.topic, message("old"))
    held = await take(transport, sub)
    assert await nothing(transport, sub, within=0.3)
    await store(transport, sub.topic, message("young"))
    assert 0.25 < (await transport.lag(sub)).oldest_age < 5
    await transport.retry(held, delay=60, error="")
    if transport.caps.counts_delayed:
        assert 0.25 < (await transport.lag(sub)).oldest_age < 5


async def test_lag_of_a_topic_that_never_was(transport: Transport, sub: Subscription) -> None:
    lag = await transport.lag(sub)
    assert (lag.ready, lag.in_flight, lag.delayed, lag.dead, lag.oldest_age) == (0, 0, 0, 0, 0)


async def test_closing_twice_is_fine_and_calls_fail_afterwards(
    transport: Transport, sub: Subscription
) -> None:
    await transport.aclose()
    await transport.aclose()
    with pytest.raises(Unavailable):
        await transport.publish(sub.topic, [message()])
    with pytest.raises(Unavailable):
        await transport.fetch(sub, 1, wait=0, lease=LEASE)


@pytest.mark.timeout(240)  # 100,000 take RabbitMQ's client a minute
async def test_a_backlog_is_worked_off_once(
    transport: Transport, rival: Opener, sub: Subscription, broker: str
) -> None:
    count = backlog(broker)
    for start in range(0, count, 500):
        part = range(start, min(count, start + 500))
        await store(transport, sub.topic, *(message(str(n)) for n in part))
    seen: list[str] = []

    async def work(worker: Transport) -> None:
        while len(set(seen)) < count:
            found = await worker.fetch(sub, 400, wait=0.2, lease=LEASE)
            seen.extend(ids(found))
            await worker.ack(found)

    async with asyncio.TaskGroup() as tasks:
        for _ in range(3):
            tasks.create_task(work(await rival()))
    assert set(seen) == {str(n) for n in range(count)}
    if not transport.caps.repeats:  # else some may come once more, now
        assert len(seen) == count
        lag = await transport.lag(sub)
        assert (lag.ready, lag.in_flight) == (0, 0)
