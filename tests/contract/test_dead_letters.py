"""What every broker promises to whoever operates it: looking, counting, editing dead letters."""

from dataclasses import replace

import pytest

from seawall.clock import SYSTEM
from seawall.errors import Refused
from seawall.messaging.base import DeadLetter, Message, Subscription, Transport
from tests.support.transports import (
    LEASE,
    Opener,
    bury,
    ids,
    message,
    short,
    store,
    take,
    take_all,
)
from tests.support.waiting import eventually_async

FAR = 60.0  # seconds of a delay that no test waits for


def names(found: object) -> list[str]:
    return [each.message.id for each in found]  # type: ignore[attr-defined]


# Dead letters


async def test_a_letter_says_when_it_failed_first_and_last(
    transport: Transport, sub: Subscription
) -> None:
    before = SYSTEM.wall()
    await store(transport, sub.topic, message())
    await transport.retry(await take(transport, sub), delay=0, error="first")
    between = SYSTEM.wall()
    await transport.retry(await take(transport, sub), delay=short(transport), error="second")
    third = await take(transport, sub, wait=5)
    await transport.release([third])
    fourth = await take(transport, sub, wait=5)
    last = SYSTEM.wall()
    await transport.dead(fourth, reason="exhausted", error="third")
    (letter,) = await transport.dead_letters(sub)
    # Brokers keep milliseconds, and some of them have a clock of their own.
    assert last - 0.01 <= letter.died_at
    if transport.caps.keeps_failed_at:
        assert before - 0.01 <= letter.failed_at <= between + 0.01
    else:
        assert letter.failed_at == 0


async def test_a_letter_that_failed_once_failed_first_when_it_died(
    transport: Transport, sub: Subscription
) -> None:
    await bury(transport, sub, "a")
    (letter,) = await transport.dead_letters(sub)
    assert letter.failed_at == pytest.approx(letter.died_at, abs=0.1)
    assert letter.edited_at == 0


async def test_after_a_death_nobody_knows_the_first_failure(
    transport: Transport, rival: Opener, sub: Subscription
) -> None:
    other = await rival()
    await store(transport, sub.topic, message())
    await take(transport, sub, lease=short(transport))
    again = await take(other, sub, wait=5, lease=short(transport))
    await other.dead(again, reason="poison", error="its process died")
    (letter,) = await transport.dead_letters(sub)
    assert (letter.attempts, letter.failed_at) == (2, 0)


async def test_a_redriven_message_has_not_failed_yet(
    transport: Transport, sub: Subscription
) -> None:
    await bury(transport, sub, "a")
    (letter,) = await transport.dead_letters(sub)
    await transport.redrive(sub, [letter.letter_id])
    delivery = await take(transport, sub)
    assert (delivery.attempt, delivery.failed_at) == (1, 0)


def _edited(letter: DeadLetter) -> DeadLetter:
    body = Message(letter.message.id, b'{"mended": true}', letter.message.headers, "k")
    return replace(letter, letter_id="", message=body, edited_at=1_700_000_000.5, attempts=5)


async def test_a_buried_letter_is_the_one_that_was_given(
    transport: Transport, sub: Subscription
) -> None:
    await bury(transport, sub, "a")
    (letter,) = await transport.dead_letters(sub)
    edited = _edited(letter)
    await transport.bury(edited)
    first, second = await transport.dead_letters(sub)
    assert first == letter
    assert second.letter_id not in ("", letter.letter_id)
    assert replace(second, letter_id="", died_at=letter.died_at) == edited
    assert second.died_at == pytest.approx(letter.died_at, abs=0.01)
    assert (await transport.lag(sub)).dead == 2


async def test_a_buried_letter_is_redriven_and_purged_like_any_other(
    transport: Transport, sub: Subscription
) -> None:
    await bury(transport, sub, "a")
    (letter,) = await transport.dead_letters(sub)
    for _ in range(2):
        await transport.bury(_edited(letter))
    _, second, third = await transport.dead_letters(sub)
    assert await transport.purge(sub, [letter.letter_id, third.letter_id]) == 2
    assert await transport.redrive(sub, [second.letter_id]) == 1
    assert list(await transport.dead_letters(sub)) == []
    delivery = await take(transport, sub)
    assert delivery.message == _edited(letter).message
    # One at most was counted by a broker that was just handing it to a consumer that stopped.
    assert delivery.attempt <= 2 < _edited(letter).attempts


async def test_a_letter_can_be_buried_where_there_was_none(
    transport: Transport, sub: Subscription
) -> None:
    letter = DeadLetter(
        letter_id="",
        message=message(),
        subscription=sub,
        reason="rejected",
        error="no",
        attempts=3,
        died_at=1_700_000_000.0,
    )
    await transport.bury(letter)
    (found,) = await transport.dead_letters(sub)
    assert replace(found, letter_id="") == letter


# Looking at what waits


async def _peekable(transport: Transport, sub: Subscription) -> bool:
    """Whether this broker can be peeked at; if not, it says so."""
    if not transport.caps.peeks:
        with pytest.raises(Refused, match="only by"):
            await transport.peek(sub, 1)
    return transport.caps.peeks


async def test_peek_shows_what_comes_next_with_its_attempts(
    transport: Transport, sub: Subscription
) -> None:
    if not await _peekable(transport, sub):
        return
    sent = [Message(name, name.encode(), {"ce-id": name}, "k") for name in ("a", "b", "c")]
    await transport.provision([sub])
    await store(transport, sub.topic, *sent)
    found = await transport.peek(sub, 10)
    assert [each.message for each in found] == sent
    assert [each.attempts for each in found] == [0, 0, 0]
    assert all(abs(each.published_at - SYSTEM.wall()) < 60 for each in found)
    assert names(await transport.peek(sub, 2)) == ["a", "b"]


async def test_peek_shows_what_was_retried_and_released_but_not_what_is_held_or_delayed(
    transport: Transport, sub: Subscription
) -> None:
    if not await _peekable(transport, sub):
        return
    await store(transport, sub.topic, *map(message, ("again", "back", "held", "later", "dead")))
    again, back, _held, later, dead = await take_all(transport, sub, 5)
    await transport.retry(later, delay=FAR, error="")
    await transport.dead(dead, reason="rejected", error="")
    await transport.release([back])
    await transport.retry(again, delay=0, error="")
    await store(transport, sub.topic, message("new"))
    await store(transport, sub.topic, message("delayed"), delay=FAR)

    async def shown() -> bool:
        found = {each.message.id: each.attempts for each in await transport.peek(sub, 10)}
        return found == {again.message.id: 1, back.message.id: 0, "new": 0}

    await eventually_async(shown)


async def test_peek_changes_nothing(transport: Transport, rival: Opener, sub: Subscription) -> None:
    if not await _peekable(transport, sub):
        return
    await store(transport, sub.topic, *(message(name, key="k") for name in "abcde"))
    held = await take_all(transport, sub, 1)
    await transport.retry(held[0], delay=0, error="")
    other = await rival()
    lag = await transport.lag(sub)
    for _ in range(3):
        await other.peek(sub, 10)
        await transport.peek(sub, 2)
    after = await transport.lag(sub)
    assert replace(after, oldest_age=0) == replace(lag, oldest_age=0)
    seen = [(each.message.id, each.attempts + 1) for each in await other.peek(sub, 10)]
    taken = [(each.message.id, each.attempt) for each in await take_all(transport, sub, 5)]
    assert sorted(taken) == sorted(seen)
    alike = [name for name, attempt in taken if attempt == 1]
    assert alike == [name for name, attempt in seen if attempt == 1]
    assert not await transport.peek(sub, 10)


async def test_peek_at_a_topic_that_never_was(transport: Transport, sub: Subscription) -> None:
    if await _peekable(transport, sub):
        assert list(await transport.peek(sub, 10)) == []


# Knowing and counting


async def test_the_broker_tells_its_groups(
    transport: Transport, connect: Opener, sub: Subscription
) -> None:
    others = [Subscription(sub.topic, "ż: 2"), Subscription(f"{sub.topic}.more_x", "a-b")]
    await transport.provision([sub, *others])
    if not transport.caps.lists:
        with pytest.raises(Refused, match="name topic and group"):
            await transport.subscriptions()
        return
    found = await (await connect()).subscriptions()
    assert [found.count(each) for each in (sub, *others)] == [1, 1, 1]


async def test_what_is_published_and_taken_is_counted(
    transport: Transport, sub: Subscription
) -> None:
    await transport.provision([sub])
    first = await transport.lag(sub)
    if first.published is None or first.taken is None:
        assert not transport.caps.lists  # of brokers that tell little else either
        return
    for name in "abc":  # the Kafka broker of these tests counts batches
        await store(transport, sub.topic, message(name))
    await transport.fetch(sub, 2, wait=2, lease=LEASE)

    async def counted() -> bool:
        lag = await transport.lag(sub)
        growth = (
            (lag.published or 0) - (first.published or 0),
            (lag.taken or 0) - (first.taken or 0),
        )
        # Kafka's client has read ahead what it has not handed out.
        return growth == (3, 2) or (transport.caps.reads_ahead and growth == (3, 3))

    await eventually_async(counted)


async def test_what_was_counted_stays_counted_when_it_is_settled(
    transport: Transport, sub: Subscription
) -> None:
    await store(transport, sub.topic, message("a"), message("b"))
    found = await take_all(transport, sub, 2)
    assert sorted(ids(found)) == ["a", "b"]
    before = await transport.lag(sub)
    await transport.ack(found)
    after = await transport.lag(sub)
    assert (after.published, after.taken) == (before.published, before.taken)
