import asyncio

import pytest

from seawall.concurrency.tasks import Tasks, running
from tests.support.waiting import eventually, settle


async def never() -> None:
    await asyncio.get_running_loop().create_future()


async def fail(error: Exception) -> None:
    raise error


async def nothing() -> None:
    pass


async def test_what_is_left_is_cancelled_when_the_block_ends() -> None:
    async with Tasks() as tasks:
        task = tasks.start(never())
        assert len(tasks) == 1
    assert task.cancelled()
    assert len(tasks) == 0


async def test_a_failure_leaves_the_others_alone_and_is_raised_at_the_end() -> None:
    seen = []

    async def block() -> None:
        async with Tasks() as tasks:
            other = tasks.start(never())
            tasks.start(fail(KeyError("first")))
            await settle()
            tasks.start(fail(KeyError("second")))
            await settle()
            seen.append(other.done())

    with pytest.raises(KeyError, match="first"):
        await block()
    assert seen == [False]


async def test_the_blocks_own_error_comes_first() -> None:
    async def block() -> None:
        async with Tasks() as tasks:
            tasks.start(fail(KeyError()))
            await settle()
            raise IndexError

    with pytest.raises(IndexError):
        await block()


async def test_join_waits_for_all_also_for_those_started_meanwhile() -> None:
    done = []

    async with Tasks() as tasks:

        async def first() -> None:
            await asyncio.get_running_loop().run_in_executor(None, int)
            tasks.start(second())

        async def second() -> None:
            done.append("second")

        tasks.start(first())
        await tasks.join()
        assert done == ["second"]


async def test_a_task_that_ignores_one_cancellation_is_cancelled_again() -> None:
    stubborn = asyncio.Event()

    async def twice() -> None:
        try:
            await never()
        except asyncio.CancelledError:
            stubborn.set()
        await nothing()

    async with Tasks() as tasks:
        task = tasks.start(twice())
        await settle()
    assert stubborn.is_set()
    assert task.done()


async def test_running_stops_with_its_block() -> None:
    async with running(never(), name="beat") as task:
        assert task.get_name() == "beat"
        await settle()
        assert not task.done()
    assert task.cancelled()


async def test_running_raises_the_error_of_its_work() -> None:
    async def block() -> None:
        async with running(fail(KeyError())) as task:
            await eventually(task.done)

    with pytest.raises(KeyError):
        await block()
