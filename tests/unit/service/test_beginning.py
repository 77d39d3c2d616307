"""Who begins next, where handlers hold the loop: the clock moves only while one works."""

import asyncio
import math
from collections.abc import Iterator, Sequence

import pytest

from seawall.resilience.shed import Importance
from seawall.service.beginning import Beginners
from seawall.testing.clock import ManualClock
from tests.support.waiting import eventually

CRITICAL, NORMAL, SHEDDABLE = (one.value for one in Importance)


class Turning(ManualClock):
    """On which a sleep of no time takes a turn of the loop, as it does in life."""

    async def sleep(self, seconds: float) -> None:
        loop = asyncio.get_running_loop()
        turned = loop.create_future()
        loop.call_soon(lambda: turned.done() or turned.set_result(None))
        await turned


class Works:
    """Each that begins holds the loop for a second; `comes` says who comes during the first."""

    def __init__(self, comes: Sequence[tuple[str, str]] = ()) -> None:
        self.clock = Turning()
        self.beginners = Beginners((CRITICAL, NORMAL, SHEDDABLE), self.clock)
        self.order: list[str] = []
        self.tasks: dict[str, asyncio.Task[None]] = {}
        self._comes: Iterator[tuple[str, str]] = iter(comes)

    def come(self, name: str, importance: str, patience: float = math.inf) -> None:
        self.beginners.arrived += 1
        work = self._work(name, importance, patience)
        self.tasks[name] = asyncio.get_running_loop().create_task(work)

    async def _work(self, name: str, importance: str, patience: float) -> None:
        if not await self.beginners.begin(importance, patience):
            self.order.append(f"not {name}")
            return
        self.order.append(name)
        for other, theirs in self._comes:
            self.come(other, theirs)
        self.clock.advance(1.0)

    async def done(self) -> list[str]:
        await eventually(lambda: all(task.done() for task in self.tasks.values()))
        return self.order


async def test_those_that_are_as_important_begin_as_they_came() -> None:
    works = Works()
    for name in "abcd":
        works.come(name, NORMAL)
    assert await works.done() == ["a", "b", "c", "d"]
    assert len(works.beginners) == 0


async def test_the_most_important_begins_first() -> None:
    works = Works()
    works.come("a", NORMAL)
    works.come("prefetch", SHEDDABLE)
    works.come("b", NORMAL)
    works.come("pay", CRITICAL)
    assert await works.done() == ["pay", "a", "b", "prefetch"]


async def test_whoever_comes_while_the_loop_is_held_goes_before_the_less_important() -> None:
    works = Works([("pay", CRITICAL)])
    for name in "abc":
        works.come(name, NORMAL)
    assert await works.done() == ["a", "pay", "b", "c"]


async def test_who_cannot_begin_in_time_is_told_unless_nobody_else_would() -> None:
    works = Works()
    for name in "abcdef":
        works.come(name, NORMAL, patience=1.5)
    assert await works.done() == ["a", "b", "c", "not d", "not e", "f"]


async def test_the_less_important_is_told_that_others_went_first() -> None:
    works = Works()
    works.come("prefetch", SHEDDABLE, patience=0.5)
    for name in "abc":
        works.come(name, NORMAL)
    order = await works.done()
    assert order[:1] == ["a"]
    assert sorted(order[1:]) == ["b", "c", "not prefetch"]


@pytest.mark.parametrize("turns", range(8))
@pytest.mark.parametrize("name", ["a", "b", "pay"])
async def test_who_leaves_at_any_moment_holds_nobody_up(name: str, turns: int) -> None:
    works = Works([("pay", CRITICAL)])
    for each in "abcd":
        works.come(each, NORMAL)
    for _ in range(turns):
        await works.clock.sleep(0)
    if name in works.tasks:
        works.tasks[name].cancel()
    order = await works.done()
    assert set("abcd") - {name} <= set(order)
    works.come("z", SHEDDABLE)
    assert (await works.done())[-1] == "z"
