import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seawall.errors import Misconfigured
from seawall.scaling.decision import Limit
from seawall.scaling.tracking import TargetTracking, TrackingSamples, TrackingState

# Few examples: each plays many looks, and the suite is to stay quick.
LAW = settings(max_examples=25, deadline=None)

MINUTE = 60.0


def plays(kernel: TargetTracking, replicas: int, values: list[float | None]) -> list[int]:
    state, seen = kernel.begin(), []
    for number, value in enumerate(values):
        samples = TrackingSamples(replicas, value)
        state, decision = kernel.decide(state, samples, number * MINUTE)
        replicas = decision.desired
        seen.append(replicas)
    return seen


def test_three_points_above_scale_out_in_proportion() -> None:
    kernel = TargetTracking(target=50.0, maximum=20)
    assert plays(kernel, 4, [80.0, 80.0, 80.0]) == [4, 4, 7]
    assert plays(kernel, 4, [80.0, 80.0, 50.0, 80.0, 80.0]) == [4] * 5


def test_fifteen_points_below_nine_tenths_scale_in() -> None:
    kernel = TargetTracking(target=50.0, maximum=20)
    assert plays(kernel, 10, [20.0] * 15) == [10] * 14 + [4]
    assert plays(kernel, 10, [46.0] * 30) == [10] * 30  # between: the band is quiet


def test_it_goes_in_once_a_cooldown_and_out_in_it() -> None:
    kernel = TargetTracking(target=50.0, maximum=20, points_in=1)
    state, decision = kernel.decide(TrackingState(), TrackingSamples(10, 40.0), 0.0)
    assert decision.desired == 8
    state, decision = kernel.decide(state, TrackingSamples(8, 40.0), 60.0)
    assert decision.desired == 8
    assert decision.limits == (Limit.COOLDOWN,)
    for at in (120.0, 180.0, 240.0):
        state, decision = kernel.decide(state, TrackingSamples(8, 90.0), at)
    assert decision.desired == 15


def test_what_warms_up_is_capacity_that_the_metric_does_not_show() -> None:
    kernel = TargetTracking(target=50.0, maximum=20, points_out=1, points_in=1)
    _, decision = kernel.decide(TrackingState(), TrackingSamples(8, 100.0, warming=4), 0.0)
    assert decision.desired == 8  # 4 serve at twice the target, and 4 more come
    _, decision = kernel.decide(TrackingState(), TrackingSamples(8, 10.0, warming=1), 0.0)
    assert decision.desired == 8
    assert decision.limits == (Limit.WARM_UP,)


@pytest.mark.parametrize("value", [None, math.nan, math.inf, -1.0])
def test_missing_data_changes_nothing(value: float | None) -> None:
    kernel = TargetTracking(target=50.0, maximum=20, points_in=1)
    _, decision = kernel.decide(TrackingState(2, 0), TrackingSamples(8, value), 0.0)
    assert decision.desired == 8
    assert decision.is_held


def test_scaling_in_may_be_off() -> None:
    kernel = TargetTracking(target=50.0, maximum=20, points_in=1, scales_in=False)
    assert plays(kernel, 8, [1.0] * 3) == [8, 8, 8]


@LAW
@given(st.lists(st.floats(0, 1000), min_size=1, max_size=60))
def test_never_outside_its_bounds(values: list[float]) -> None:
    kernel = TargetTracking(target=50.0, minimum=2, maximum=9)
    assert all(2 <= replicas <= 9 for replicas in plays(kernel, 2, list(values)))


@LAW
@given(st.floats(1, 1000))
def test_a_constant_load_settles(load: float) -> None:
    kernel = TargetTracking(target=50.0, maximum=100)
    state, replicas, seen = kernel.begin(), 3, []
    for number in range(100):
        samples = TrackingSamples(replicas, load / replicas)
        state, decision = kernel.decide(state, samples, number * MINUTE)
        replicas = decision.desired
        seen.append(replicas)
    assert len(set(seen[60:])) == 1
    assert load / seen[-1] <= 50.0


@pytest.mark.parametrize(
    "said",
    [{"target": 0.0}, {"minimum": 3, "maximum": 2}, {"low": 1.1}, {"points_in": 0}],
)
def test_what_makes_no_sense_is_refused(said: dict[str, Any]) -> None:
    with pytest.raises(Misconfigured):
        TargetTracking(**{"target": 50.0, "maximum": 9, **said})
