import asyncio

import pytest

from seawall.concurrency.drain import Drain
from seawall.concurrency.tasks import Tasks
from seawall.errors import NotSent
from seawall.testing.clock import ManualClock
from tests.support.waiting import eventually, settle


async def hold(drain: Drain, until: asyncio.Event) -> None:
    with drain.work():
        await until.wait()


async def test_nothing_under_way_is_drained_at_once() -> None:
    drain = Drain()
    drain.close()
    assert await drain.emptied(5, ManualClock()) == 0


async def test_waits_for_what_is_under_way() -> None:
    drain, done, clock = Drain(), asyncio.Event(), ManualClock()
    async with Tasks() as tasks:
        for _ in range(2):
            tasks.start(hold(drain, done))
        await eventually(lambda: len(drain) == 2)
        drain.close()
        waiting = tasks.start(drain.emptied(60, clock))
        await settle()
        assert not waiting.done()
        done.set()
        assert await waiting == 0


async def test_gives_up_in_time_and_says_what_is_left() -> None:
    drain, clock = Drain(), ManualClock()
    async with Tasks() as tasks:
        tasks.start(hold(drain, asyncio.Event()))
        await eventually(lambda: len(drain) == 1)
        waiting = tasks.start(drain.emptied(60, clock))
        await eventually(lambda: clock.sleeping == 1)
        clock.advance(60)
        assert await waiting == 1


async def test_closed_it_lets_nothing_begin_and_nobody_is_thrown_out() -> None:
    drain, done = Drain(), asyncio.Event()
    async with Tasks() as tasks:
        task = tasks.start(hold(drain, done))
        await eventually(lambda: len(drain) == 1)
        drain.close()
        drain.close()
        assert drain.closed
        with pytest.raises(NotSent, match="draining"), drain.work():
            pytest.fail("it had been closed")
        assert len(drain) == 1
        done.set()
        await task
        assert len(drain) == 0


async def test_work_that_fails_or_is_cancelled_is_no_longer_under_way() -> None:
    drain = Drain()

    def fail() -> None:
        with drain.work():
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    async with Tasks() as tasks:
        task = tasks.start(hold(drain, asyncio.Event()))
        await eventually(lambda: len(drain) == 1)
        task.cancel()
    assert await drain.emptied(0, ManualClock()) == 0


async def test_open_it_may_fill_again_after_it_was_empty() -> None:
    drain, clock = Drain(), ManualClock()
    with drain.work():
        pass
    assert await drain.emptied(1, clock) == 0
    with drain.work():
        assert await drain.emptied(0, clock) == 1


def test_says_what_it_holds() -> None:
    drain = Drain()
    with drain.work():
        assert repr(drain) == "<Drain 1 under way>"
    drain.close()
    assert repr(drain) == "<Drain 0 under way, closed>"
