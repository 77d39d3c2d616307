from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seawall.errors import Misconfigured
from seawall.resilience.deadline import Deadline
from seawall.resilience.hedge import HedgeConfig, Hedger


def warm(**config: float) -> Hedger:
    """One that has seen 100 answers, of 1 to 100 ms."""
    hedger = Hedger(HedgeConfig(**config))  # type: ignore[arg-type]
    for number in range(1, 101):
        hedger.observe(number / 1000, 0.0)
    return hedger


def test_hedges_after_what_is_usual() -> None:
    assert warm().delay(0.0) == pytest.approx(0.095, rel=0.1)


def test_does_not_hedge_before_it_knows_what_is_usual() -> None:
    hedger = Hedger()
    for _ in range(99):
        hedger.observe(0.01, 0.0)
    assert hedger.delay(0.0) is None


def test_does_not_hedge_what_may_not_happen_twice() -> None:
    assert warm().delay(0.0, idempotent=False) is None


def test_does_not_hedge_what_would_come_too_late() -> None:
    hedger = warm()
    assert hedger.delay(0.0, deadline=Deadline(0.15)) is None
    assert hedger.delay(0.0, deadline=Deadline(0.25)) is not None


def test_does_not_hedge_at_once() -> None:
    hedger = Hedger()
    for _ in range(200):
        hedger.observe(0.0001, 0.0)
    assert hedger.delay(0.0) == 0.001


def test_when_everything_is_slow_hedges_stay_within_the_budget() -> None:
    hedger = warm(ratio=0.1, floor=0.0)
    sent = 0
    for number in range(1000):
        now = number / 1000
        assert hedger.delay(now) is not None
        sent += hedger.hedge(now)
    assert sent == 100
    assert repr(hedger).startswith("<Hedger 0.09")


def test_on_a_usual_day_one_in_twenty_is_hedged_and_the_tail_is_cut() -> None:
    rng, hedger = Random(1), Hedger()
    times, hedges = [], 0
    for number in range(20_000):
        now = number / 1000
        seconds = 0.010 if rng.random() < 0.97 else 1.0
        delay = hedger.delay(now)
        if delay is not None and seconds > delay and hedger.hedge(now):
            hedges += 1
            seconds = min(seconds, delay + (0.010 if rng.random() < 0.97 else 1.0))
        hedger.observe(min(seconds, 1.0), now)
        times.append(seconds)
    assert hedges / 20_000 < 0.06
    assert sorted(times)[int(0.995 * len(times))] < 0.1


@given(st.lists(st.tuples(st.floats(0, 1), st.booleans(), st.floats(0, 10)), max_size=50))
def test_a_delay_is_never_negative_nor_past_half_of_the_deadline(
    calls: list[tuple[float, bool, float]],
) -> None:
    hedger, now = Hedger(HedgeConfig(min_samples=1)), 0.0
    for seconds, idempotent, left in calls:
        now += seconds
        delay = hedger.delay(now, idempotent=idempotent, deadline=Deadline(now + left))
        if delay is not None:
            assert idempotent
            assert 0.001 <= delay <= left / 2 + 1e-9
        hedger.observe(seconds, now)


def test_a_config_that_makes_no_sense_is_refused() -> None:
    for config in ({"min_samples": 0}, {"quantile": 1.5}, {"ratio": -1.0}):
        with pytest.raises(Misconfigured):
            Hedger(HedgeConfig(**config))


def test_a_delay_can_be_given() -> None:
    hedger = Hedger(HedgeConfig(after=0.25, most=2))
    assert (hedger.delay(0.0), hedger.most) == (0.25, 2)
    assert hedger.delay(0.0, deadline=Deadline(0.4)) is None


@pytest.mark.parametrize("wrong", [{"most": 0}, {"after": -1.0}])
def test_a_hedge_that_cannot_be_meant_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(Misconfigured):
        HedgeConfig(**wrong)  # type: ignore[arg-type]  # by name
