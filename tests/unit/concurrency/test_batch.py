"""Natural batching: at once when idle, together when busy."""

import asyncio
from collections.abc import Sequence

import pytest

from seawall.concurrency.batch import Batcher, BatchSnapshot
from seawall.errors import Full, Unavailable
from tests.support.waiting import eventually


class Sink:
    """Records batches; a flush ends when `gate` is open."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.gate = asyncio.Event()
        self.gate.set()

    async def __call__(self, items: Sequence[int]) -> Sequence[int | Exception]:
        self.batches.append(list(items))
        await self.gate.wait()
        return [item * 10 for item in items]


async def test_an_idle_batcher_flushes_at_once() -> None:
    sink = Sink()
    async with Batcher(sink) as batcher:
        assert await batcher.submit(1) == 10
        assert await batcher.submit(2) == 20
    assert sink.batches == [[1], [2]]


async def test_what_arrives_during_a_flush_is_the_next_batch_up_to_the_cap() -> None:
    sink = Sink()
    sink.gate.clear()
    batcher = Batcher(sink, cap=3)
    async with asyncio.TaskGroup() as tasks:
        first = tasks.create_task(batcher.submit(0))
        await eventually(lambda: len(sink.batches) == 1)
        rest = [tasks.create_task(batcher.submit(n)) for n in range(1, 6)]
        await eventually(lambda: batcher.snapshot() == BatchSnapshot(5, 1, 1))
        sink.gate.set()
    assert sink.batches == [[0], [1, 2, 3], [4, 5]]
    assert [first.result(), *(task.result() for task in rest)] == [0, 10, 20, 30, 40, 50]
    assert batcher.snapshot() == BatchSnapshot(0, 0, 3)


async def test_flushes_are_under_way_together_as_far_as_they_may_be() -> None:
    sink = Sink()
    sink.gate.clear()
    batcher = Batcher(sink, under_way=2)
    async with asyncio.TaskGroup() as tasks:
        calls = []
        for n in range(2):
            calls.append(tasks.create_task(batcher.submit(n)))
            await eventually(lambda n=n: len(sink.batches) == n + 1)  # type: ignore[misc]
        calls += [tasks.create_task(batcher.submit(n)) for n in (2, 3)]
        await eventually(lambda: batcher.snapshot() == BatchSnapshot(2, 2, 2))
        sink.gate.set()
    await batcher.aclose()
    assert [call.result() for call in calls] == [0, 10, 20, 30]
    assert sink.batches == [[0], [1], [2, 3]]
    assert batcher.snapshot() == BatchSnapshot(0, 0, 3)


async def test_calls_of_one_moment_are_one_flush_though_more_may_be_under_way() -> None:
    sink = Sink()
    async with Batcher(sink, under_way=4) as batcher:
        await asyncio.gather(*(batcher.submit(n) for n in range(5)))
    assert sink.batches == [[0, 1, 2, 3, 4]]


async def test_concurrent_calls_travel_together_from_the_start() -> None:
    sink = Sink()
    batcher = Batcher(sink)
    assert await asyncio.gather(*(batcher.submit(n) for n in range(5))) == [0, 10, 20, 30, 40]
    assert sink.batches == [[0, 1, 2, 3, 4]]


async def test_a_cancelled_caller_withdraws_an_item_that_was_not_taken() -> None:
    sink = Sink()
    sink.gate.clear()
    batcher = Batcher(sink)
    async with asyncio.TaskGroup() as tasks:
        taken = tasks.create_task(batcher.submit(0))
        await eventually(lambda: len(sink.batches) == 1)
        gone = tasks.create_task(batcher.submit(1))
        stays = tasks.create_task(batcher.submit(2))
        await eventually(lambda: batcher.snapshot().waiting == 2)
        gone.cancel()
        taken.cancel()
        await eventually(lambda: gone.done() and taken.done())
        sink.gate.set()
    assert sink.batches == [[0], [2]]
    assert stays.result() == 20


async def test_an_error_of_one_item_is_its_callers() -> None:
    async def flush(items: Sequence[int]) -> Sequence[int | Exception]:
        return [Full("odd") if item % 2 else item for item in items]

    batcher = Batcher(flush)
    results = await asyncio.gather(*map(batcher.submit, range(4)), return_exceptions=True)
    assert [type(result) for result in results] == [int, Full, int, Full]


async def test_an_error_of_the_flush_is_everybodys_and_the_next_flush_is_new() -> None:
    broken = True

    async def flush(items: Sequence[int]) -> Sequence[int | Exception]:
        if broken:
            raise Unavailable("away", retry_after=3)
        return list(items)

    batcher = Batcher(flush)
    results = await asyncio.gather(*map(batcher.submit, range(3)), return_exceptions=True)
    errors = [result for result in results if isinstance(result, Unavailable)]
    assert [(str(error), error.retry_after) for error in errors] == [("away", 3)] * 3
    assert len({id(error) for error in errors}) == 3  # each raises its own
    broken = False
    assert await batcher.submit(7) == 7


async def test_waiting_items_are_bounded() -> None:
    sink = Sink()
    sink.gate.clear()
    batcher = Batcher(sink, waiting=2)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(batcher.submit(0))
        await eventually(lambda: len(sink.batches) == 1)
        for n in (1, 2):
            tasks.create_task(batcher.submit(n))
        await eventually(lambda: batcher.snapshot().waiting == 2)
        with pytest.raises(Full):
            await batcher.submit(3)
        sink.gate.set()
    assert sink.batches == [[0], [1, 2]]


async def test_closing_flushes_what_waits_and_refuses_more() -> None:
    sink = Sink()
    sink.gate.clear()
    batcher = Batcher(sink)
    async with asyncio.TaskGroup() as tasks:
        first = tasks.create_task(batcher.submit(1))
        await eventually(lambda: len(sink.batches) == 1)
        second = tasks.create_task(batcher.submit(2))
        await eventually(lambda: batcher.snapshot().waiting == 1)
        closing = tasks.create_task(batcher.aclose())
        sink.gate.set()
    assert closing.done()
    assert (first.result(), second.result()) == (10, 20)
    with pytest.raises(Full):
        await batcher.submit(3)
