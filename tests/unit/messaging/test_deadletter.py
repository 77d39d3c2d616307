"""Working off dead letters, on memory."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from seawall.concurrency.tasks import running
from seawall.errors import Misconfigured, Refused
from seawall.messaging import deadletter
from seawall.messaging.base import DeadLetter, Message, Subscription
from seawall.messaging.deadletter import Progress, Where, choose, edit, purge, redrive, step_of
from seawall.messaging.transports.memory import Broker, MemoryTransport
from seawall.testing.clock import ManualClock
from tests.support.transports import bury
from tests.support.waiting import eventually

SUB = Subscription("t", "g")
LETTER = DeadLetter(
    letter_id="7",
    message=Message("m-1", b'{"mail": "A@B.C"}', {"ce-type": "Placed"}, "key-1"),
    subscription=SUB,
    reason="exhausted",
    error="ValueError: No Stamp",
    attempts=3,
    died_at=100.0,
)


@pytest.fixture
async def transport() -> AsyncIterator[MemoryTransport]:
    transport = MemoryTransport(Broker())
    await transport.open()
    yield transport
    await transport.aclose()


@pytest.mark.parametrize(
    "where",
    [
        Where(),
        Where(ids=frozenset({"7"})),
        Where(ids=frozenset({"m-1"})),
        Where(reason="exhausted"),
        Where(since=100.0),
        Where(match="no stamp"),
        Where(match="a@b"),
        Where(match="placed"),
        Where(match="KEY-1"),
        Where(ids=frozenset({"7"}), reason="exhausted", since=99.0, match="value"),
    ],
    ids=str,
)
def test_these_fit(where: Where) -> None:
    assert where.fits(LETTER)


@pytest.mark.parametrize(
    "where",
    [
        Where(ids=frozenset({"8"})),
        Where(reason="rejected"),
        Where(since=100.5),
        Where(match="other"),
        Where(ids=frozenset({"7"}), reason="rejected"),
    ],
    ids=str,
)
def test_these_do_not(where: Where) -> None:
    assert not where.fits(LETTER)


def test_only_a_choice_without_any_condition_is_everything() -> None:
    assert Where().everything
    assert not Where(match="a").everything


async def _left(transport: MemoryTransport, sub: Subscription = SUB) -> list[str]:
    return [letter.message.id for letter in await transport.dead_letters(sub)]


async def test_letters_come_page_by_page(transport: MemoryTransport) -> None:
    await bury(transport, SUB, *"abcde")
    found = deadletter.letters(transport, [SUB], Where(), size=2)
    assert [letter.message.id async for letter in found] == [*"abcde"]


async def test_a_choice_goes_over_groups(transport: MemoryTransport) -> None:
    other = Subscription("t2", "g")
    await bury(transport, SUB, *"abcde")
    await bury(transport, other, "f")
    chosen = await choose(transport, [SUB, other], Where())
    assert [sub.topic for sub, _ in chosen] == ["t"] * 5 + ["t2"]
    assert len(await choose(transport, [SUB, other], Where(), limit=3)) == 3
    assert await choose(transport, [SUB, other], Where(), limit=0) == []
    assert len(await choose(transport, [SUB, other], Where(ids=frozenset({"b", "f"})))) == 2


async def test_redrive_sends_what_was_chosen_and_nothing_else(transport: MemoryTransport) -> None:
    await bury(transport, SUB, *"abc")
    chosen = await choose(transport, [SUB], Where(ids=frozenset({"a", "c"})))
    steps = [step async for step in redrive(transport, chosen)]
    assert steps == [Progress(2, 2)]
    assert await _left(transport) == ["b"]
    found = await transport.fetch(SUB, 9, wait=0, lease=30)
    assert [(each.message.id, each.attempt) for each in found] == [("a", 1), ("c", 1)]


async def test_what_is_gone_by_then_is_not_counted(transport: MemoryTransport) -> None:
    await bury(transport, SUB, *"ab")
    chosen = await choose(transport, [SUB], Where())
    await transport.purge(SUB, [chosen[0][1]])
    assert [step async for step in redrive(transport, chosen)] == [Progress(1, 2)]


async def test_what_dies_again_meanwhile_is_left_alone(transport: MemoryTransport) -> None:
    await bury(transport, SUB, *"ab")
    chosen = await choose(transport, [SUB], Where())
    async for step in redrive(transport, chosen, rate=5_000):
        assert step.done == 2
        for delivery in await transport.fetch(SUB, 9, wait=0, lease=30):
            await transport.dead(delivery, reason="rejected", error="again")
    assert await _left(transport) == ["a", "b"]


async def test_a_rate_is_kept(transport: MemoryTransport) -> None:
    clock = ManualClock()
    await bury(transport, SUB, *"abcd")
    chosen = await choose(transport, [SUB], Where())
    seen: list[int] = []

    async def work() -> None:
        async for step in redrive(transport, chosen, rate=2.0, clock=clock):
            seen.extend([step.done])

    async with running(work()) as task:
        for expected in (1, 2, 3):
            await eventually(lambda: clock.sleeping == 1)
            assert seen == list(range(1, expected + 1))
            clock.advance(0.5)
        await asyncio.wait_for(task, 5)
    assert seen == [1, 2, 3, 4]


@pytest.mark.parametrize(("rate", "step"), [(None, 200), (0.5, 1), (5, 1), (50, 10), (1e6, 200)])
def test_steps_keep_the_pace_even(rate: float | None, step: int) -> None:
    assert step_of(rate) == step


async def test_a_rate_of_nothing_is_refused(transport: MemoryTransport) -> None:
    with pytest.raises(Misconfigured):
        _ = [step async for step in redrive(transport, [], rate=0)]


async def test_purge_deletes_what_was_chosen(transport: MemoryTransport) -> None:
    await bury(transport, SUB, *"abc")
    chosen = await choose(transport, [SUB], Where(ids=frozenset({"b"})))
    assert [step async for step in purge(transport, chosen)] == [Progress(1, 1)]
    assert await _left(transport) == ["a", "c"]


async def test_an_edited_letter_keeps_its_story_and_id(transport: MemoryTransport) -> None:
    await bury(transport, SUB, "a")
    (before,) = await transport.dead_letters(SUB)
    await edit(transport, before, b"new", clock=ManualClock(wall=1_800_000_000.0))
    (after,) = await transport.dead_letters(SUB)
    assert after.message == replace(before.message, body=b"new")
    assert after.edited_at == 1_800_000_000.0
    story = ("reason", "error", "attempts", "died_at", "failed_at")
    assert [getattr(after, name) for name in story] == [getattr(before, name) for name in story]


async def test_an_edit_of_a_letter_that_is_gone_changes_nothing(
    transport: MemoryTransport,
) -> None:
    await bury(transport, SUB, *"ab")
    gone, _ = await transport.dead_letters(SUB)
    await transport.redrive(SUB, [gone.letter_id])
    with pytest.raises(Refused, match="gone"):
        await edit(transport, gone, b"new")
    assert await _left(transport) == ["b"]


class _Stubborn(MemoryTransport):
    """Its purge fails, as if the process died between copy and removal."""

    async def purge(self, subscription: Subscription, letter_ids: object) -> int:
        raise Refused("the end")


async def test_an_edit_that_is_cut_short_leaves_both() -> None:
    transport = _Stubborn(Broker())
    await transport.open()
    await bury(transport, SUB, "a")
    (letter,) = await transport.dead_letters(SUB)
    with pytest.raises(Refused, match="the end"):
        await edit(transport, letter, b"new")
    bodies = [each.message.body for each in await transport.dead_letters(SUB)]
    assert bodies == [letter.message.body, b"new"]
