"""The generator keeps its schedule whatever happens, and its report counts everything."""

import math
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seawall.concurrency.tasks import running
from seawall.load.generator import Attempted, Generator
from seawall.load.report import Sample, quantile, summarize
from seawall.load.schedule import Phase, arrivals, spike
from seawall.testing.clock import ManualClock
from tests.support.waiting import eventually


def test_the_same_seed_gives_the_same_arrivals() -> None:
    phases = spike(20, 30)
    assert arrivals(phases, Random(7)) == arrivals(phases, Random(7))
    assert arrivals(phases, Random(7)) != arrivals(phases, Random(8))


@given(st.lists(st.builds(Phase, st.floats(0, 50), st.floats(0, 5)), max_size=4), st.integers())
def test_arrivals_ascend_and_stay_inside(phases: list[Phase], seed: int) -> None:
    times = arrivals(phases, Random(seed))
    assert times == sorted(times)
    assert all(0 <= at < sum(phase.seconds for phase in phases) for at in times)


def test_a_spike_is_ten_times_as_dense_in_its_middle() -> None:
    times = arrivals(spike(50, 100), Random(1))
    middle = sum(40 <= at < 60 for at in times)
    assert middle / 20 == pytest.approx(500, rel=0.1)
    assert (len(times) - middle) / 80 == pytest.approx(50, rel=0.1)


def test_negative_phases_are_refused() -> None:
    with pytest.raises(ValueError, match="not negative"):
        Phase(-1, 1)


async def test_requests_start_on_time_though_none_is_answered() -> None:
    clock = ManualClock()
    begun: list[float] = []
    start = clock.now()

    async def never_answers(number: int) -> Attempted:
        begun.append(clock.now() - start)
        await clock.sleep(1e6)
        return Attempted("browse", True, True)

    generator = Generator([1.0, 2.0, 3.5], never_answers, clock=clock)
    async with running(generator.run()):
        for step in range(1, 8):
            await eventually(lambda: clock.sleeping > 0)
            clock.advance(0.5)
            await eventually(lambda due=step / 2: len(begun) == sum(t <= due for t in (1, 2, 3.5)))
    assert begun == [1.0, 2.0, 3.5]


async def test_what_would_exceed_the_bound_is_counted_as_failed() -> None:
    clock = ManualClock()

    async def slow(number: int) -> Attempted:
        await clock.sleep(10)
        return Attempted("browse", True, True)

    generator = Generator([0.0, 0.0, 0.0], slow, clock=clock, max_in_flight=2)
    async with running(generator.run()) as run:
        await eventually(lambda: clock.sleeping == 2)
        clock.advance(10)
        samples = await run
    assert [sample.ok for sample in samples] == [False, True, True]
    assert samples[0].detail == "too many under way"
    assert samples[1].latency == 10


async def test_an_act_that_raises_ends_the_run() -> None:
    async def broken(number: int) -> Attempted:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await Generator([0.0], broken).run()


def test_latency_counts_from_the_intended_start() -> None:
    late = Sample(
        "order", intended=1.0, started=1.5, ended=2.0, first_ok=False, ok=True, attempts=2
    )
    fine = Sample("order", intended=2.0, started=2.0, ended=2.1, first_ok=True, ok=True)
    lost = Sample("order", intended=3.0, started=3.0, ended=9.0, first_ok=False, ok=False)
    report = summarize([late, fine, lost])
    assert report.scheduled == 3
    assert report.availability_first == pytest.approx(1 / 3)
    assert report.availability_retry == pytest.approx(2 / 3)
    assert report.p99 == pytest.approx(1.0)
    assert report.p50 == pytest.approx(0.1)
    assert report.void


def test_nothing_is_not_a_number() -> None:
    report = summarize([])
    assert report.scheduled == 0
    assert math.isnan(report.p99)
    assert not report.void


@given(st.lists(st.floats(0, 100), min_size=1), st.floats(0, 1))
def test_a_quantile_is_one_of_the_values(values: list[float], q: float) -> None:
    values.sort()
    found = quantile(values, q)
    assert found in values
    assert sum(value <= found for value in values) >= q * len(values) - 1e-6
