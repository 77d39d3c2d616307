import asyncio
from collections.abc import Callable

import pytest

from seawall.clock import SYSTEM, Clock
from seawall.concurrency.tasks import Tasks
from seawall.testing.clock import ManualClock
from tests.support.waiting import eventually, settle


async def test_the_machine_only_goes_forward() -> None:
    before = SYSTEM.now()
    await SYSTEM.sleep(0.01)
    assert SYSTEM.now() > before
    assert SYSTEM.wall() > 1_700_000_000


async def test_a_manual_clock_stands_still() -> None:
    clock = ManualClock(now=5.0, wall=100.0)
    assert (clock.now(), clock.wall()) == (5.0, 100.0)
    clock.advance(2.5)
    assert (clock.now(), clock.wall()) == (7.5, 102.5)


async def test_sleepers_wake_in_the_order_of_their_time() -> None:
    clock, woken = ManualClock(now=0.0), []

    async def sleeper(seconds: float) -> None:
        await clock.sleep(seconds)
        woken.append((seconds, clock.now()))

    async with Tasks() as tasks:
        for seconds in (3.0, 1.0, 2.0, 9.0):
            tasks.start(sleeper(seconds))
        await eventually(lambda: clock.sleeping == 4)
        clock.advance(1.0)
        await settle()
        assert woken == [(1.0, 1.0)]
        clock.advance(5.0)
        await settle()
        assert [seconds for seconds, _ in woken] == [1.0, 2.0, 3.0]
        assert clock.sleeping == 1


async def test_no_time_is_no_wait() -> None:
    clock = ManualClock()
    await clock.sleep(0)
    await clock.sleep(-1)
    assert clock.sleeping == 0


async def test_a_cancelled_sleeper_waits_no_more() -> None:
    clock = ManualClock()
    async with Tasks() as tasks:
        task = tasks.start(clock.sleep(5))
        await eventually(lambda: clock.sleeping == 1)
        task.cancel()
        await settle()
        assert clock.sleeping == 0
        clock.advance(10)


async def never() -> None:
    await asyncio.get_running_loop().create_future()


@pytest.fixture(params=["system", "manual"])
def clock_and_advance(request: pytest.FixtureRequest) -> tuple[Clock, Callable[[float], None]]:
    if request.param == "system":
        return SYSTEM, lambda _: None
    manual = ManualClock()
    return manual, manual.advance


class TestTimeout:
    async def test_ends_a_block_that_takes_longer(
        self, clock_and_advance: tuple[Clock, Callable[[float], None]]
    ) -> None:
        clock, advance = clock_and_advance
        entered = asyncio.Event()

        async def limited() -> str:
            try:
                async with clock.timeout(0.02):
                    entered.set()
                    await never()
            except TimeoutError:
                return "timed out"
            return "finished"

        async with Tasks() as tasks:
            task = tasks.start(limited())
            await entered.wait()
            await settle()
            advance(0.02)
            assert await task == "timed out"

    async def test_leaves_a_block_that_is_in_time(
        self, clock_and_advance: tuple[Clock, Callable[[float], None]]
    ) -> None:
        clock, advance = clock_and_advance
        async with clock.timeout(60):
            advance(59)
            await settle()
        advance(10)
        await settle()

    async def test_that_has_passed_ends_it_at_the_first_wait(
        self, clock_and_advance: tuple[Clock, Callable[[float], None]]
    ) -> None:
        clock, _ = clock_and_advance
        for seconds in (0.0, -1.0):
            with pytest.raises(TimeoutError):
                async with clock.timeout(seconds):
                    await never()

    async def test_lets_the_blocks_own_error_through(
        self, clock_and_advance: tuple[Clock, Callable[[float], None]]
    ) -> None:
        clock, _ = clock_and_advance
        with pytest.raises(KeyError):
            async with clock.timeout(60):
                raise KeyError

    async def test_a_cancellation_from_outside_stays_one(
        self, clock_and_advance: tuple[Clock, Callable[[float], None]]
    ) -> None:
        clock, _ = clock_and_advance

        async def limited() -> None:
            async with clock.timeout(60):
                await never()

        async with Tasks() as tasks:
            task = tasks.start(limited())
            await settle()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task


async def test_an_alarm_at_the_very_end_of_a_block_does_not_reach_beyond_it() -> None:
    errors: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: errors.append(context))
    clock = ManualClock()
    async with clock.timeout(5):
        clock.advance(5)  # the alarm rings, and the block ends before anybody hears it
    await settle()
    assert clock.sleeping == 0
    assert errors == []
