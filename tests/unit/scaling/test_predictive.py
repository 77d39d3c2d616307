import math
from typing import Any

import pytest

from seawall.errors import Misconfigured
from seawall.scaling.decision import Limit
from seawall.scaling.predictive import Predictive, PredictiveState

DAY, SLOT = 2400.0, 100.0  # a short day, of 24 slots


def predictive(**said: Any) -> Predictive:
    usual = {"each": 70.0, "maximum": 50, "season": DAY, "slot": SLOT, "lead": 10.0, "buffer": 90.0}
    return Predictive(**{**usual, **said})


def rush(now: float) -> float:
    """700 a second in the 13th slot of a day, and 70 else."""
    return 700.0 if 1200 <= now % DAY < 1300 else 70.0


def after(kernel: Predictive, seconds: float, every: float = 10.0) -> PredictiveState:
    state = kernel.begin()
    for number in range(round(seconds / every)):
        state, _ = kernel.decide(state, rush(number * every), number * every)
    return state


def floor(kernel: Predictive, state: PredictiveState, now: float) -> int:
    return kernel.decide(state, rush(now), now)[1].desired


def test_it_says_nothing_before_a_whole_season() -> None:
    kernel = predictive()
    _, decision = kernel.decide(after(kernel, DAY / 2), 70.0, DAY / 2)
    assert decision.desired == 0
    assert decision.limits == (Limit.NO_DATA,)


def test_replicas_are_there_before_what_comes_each_day() -> None:
    kernel = predictive()
    state = after(kernel, DAY)
    asked = {now: floor(kernel, state, DAY + now) for now in (0.0, 1090.0, 1110.0, 1290.0, 1310.0)}
    assert asked == {0.0: 1, 1090.0: 1, 1110.0: 10, 1290.0: 10, 1310.0: 1}


def test_the_newest_day_counts_most() -> None:
    kernel = predictive(weight=0.5)
    state = after(kernel, DAY)
    for number in range(240):
        state, _ = kernel.decide(state, 1400.0, DAY + number * 10.0)
    state, _ = kernel.decide(state, 1400.0, 2 * DAY)
    assert state.slots[0] == pytest.approx(70 + (1400 - 70) / 2)


def test_the_maximum_is_honoured_or_exceeded_by_a_share() -> None:
    state = after(predictive(), DAY)
    honours, exceeds = predictive(maximum=6), predictive(maximum=6, beyond=0.5)
    assert floor(honours, state, DAY + 1200) == 6
    assert floor(exceeds, state, DAY + 1200) == 9


def test_it_may_only_foresee() -> None:
    kernel = predictive(forecast_only=True)
    _, decision = kernel.decide(after(kernel, DAY), 700.0, DAY + 1200)
    assert decision.desired == 0
    assert decision.proposed == 10


@pytest.mark.parametrize("offered", [None, math.nan, math.inf, -5.0])
def test_what_is_not_known_is_not_remembered(offered: float | None) -> None:
    kernel = predictive()
    before = after(kernel, DAY + 50)
    state, _ = kernel.decide(before, offered, DAY + 60)
    assert (state.total, state.count) == (before.total, before.count)


def test_its_memory_is_one_season_long() -> None:
    assert len(after(predictive(), 3 * DAY).slots) == 24
    assert len(Predictive(each=1, maximum=1).begin().slots) == 288


@pytest.mark.parametrize(
    "said",
    [{"each": 0.0}, {"maximum": 0}, {"weight": 0.0}, {"slot": 0.01}, {"buffer": 3600.0}],
)
def test_what_makes_no_sense_is_refused(said: dict[str, Any]) -> None:
    with pytest.raises(Misconfigured):
        predictive(**said)
