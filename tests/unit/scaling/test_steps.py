import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seawall.errors import Misconfigured
from seawall.scaling.decision import Limit
from seawall.scaling.steps import Adjustment, Step, StepSamples, StepScaling, StepState

# Few examples: each plays many looks, and the suite is to stay quick.
LAW = settings(max_examples=25, deadline=None)

# The example of AWS's documents: 10 % more from 60 to 70 (of a threshold of 50), 30 % above.
OUT = (Step(0, 10, 0), Step(10, 20, 10), Step(20, None, 30))
IN = (Step(-10, 0, 0), Step(-20, -10, -10), Step(None, -20, -30))


def scaling(**said: Any) -> StepScaling:
    usual = {"threshold": 50.0, "steps": OUT, "maximum": 100, "adjustment": Adjustment.PERCENT}
    return StepScaling(**{**usual, **said})


def desired(kernel: StepScaling, replicas: int, value: float, warming: int = 0) -> int:
    samples = StepSamples(replicas, value, warming)
    return kernel.decide(kernel.begin(), samples, 0.0)[1].desired


@pytest.mark.parametrize(
    ("value", "want"), [(49.0, 10), (55.0, 10), (60.0, 11), (69.9, 11), (70.0, 13), (99.0, 13)]
)
def test_steps_out(value: float, want: int) -> None:
    assert desired(scaling(), 10, value) == want


@pytest.mark.parametrize(
    ("value", "want"), [(51.0, 10), (45.0, 10), (39.0, 9), (30.0, 9), (29.0, 7)]
)
def test_steps_in(value: float, want: int) -> None:
    assert desired(scaling(steps=IN, above=False), 10, value) == want


@pytest.mark.parametrize(
    ("replicas", "percent", "want"),
    [(10, 12.7, 11), (10, 6.7, 11), (10, -6.7, 9), (10, -66.7, 4), (100, 12.7, 112)],
)
def test_percentages_are_cut_and_less_than_one_is_one(
    replicas: int, percent: float, want: int
) -> None:
    kernel = scaling(steps=(Step(0, None, percent),), maximum=1000)
    assert desired(kernel, replicas, 50.0) == want


def test_a_magnitude_lifts_small_percentages() -> None:
    kernel = scaling(steps=(Step(0, None, 10),), magnitude=2)
    assert desired(kernel, 4, 50.0) == 6


def test_other_adjustments() -> None:
    change = scaling(steps=(Step(0, None, 3),), adjustment=Adjustment.CHANGE)
    exact = scaling(steps=(Step(0, None, 3),), adjustment=Adjustment.EXACT)
    assert desired(change, 10, 50.0) == 13
    assert desired(exact, 10, 50.0) == 3


def test_while_some_warm_up_only_what_is_missing_is_added() -> None:
    assert desired(scaling(), 11, 65.0, warming=1) == 11
    assert desired(scaling(), 11, 75.0, warming=1) == 13
    samples = StepSamples(11, 20.0, 1)
    kernel = scaling(steps=IN, above=False)
    _, decision = kernel.decide(StepState(), samples, 0.0)
    assert decision.desired == 11
    assert decision.limits == (Limit.WARM_UP,)


def test_an_alarm_may_take_several_points() -> None:
    kernel, state, seen = scaling(points=2), StepState(), []
    for value in (75.0, 10.0, 75.0, 75.0):
        state, decision = kernel.decide(state, StepSamples(10, value), 0.0)
        seen.append(decision.desired)
    assert seen == [10, 10, 10, 13]


@pytest.mark.parametrize("value", [None, math.nan, math.inf])
def test_missing_data_changes_nothing(value: float | None) -> None:
    state, decision = scaling().decide(StepState(5), StepSamples(10, value), 0.0)
    assert decision.desired == 10
    assert decision.is_held
    assert state.breached == 0


@LAW
@given(st.integers(1, 20), st.floats(-1000, 1000))
def test_never_outside_its_bounds(replicas: int, value: float) -> None:
    for steps, above in ((OUT, True), (IN, False)):
        kernel = scaling(steps=steps, above=above, minimum=1, maximum=20)
        assert 1 <= desired(kernel, replicas, value) <= 20


@LAW
@given(st.integers(1, 100), st.floats(0, 500), st.floats(0, 500))
def test_a_bigger_breach_is_never_a_smaller_step(replicas: int, one: float, other: float) -> None:
    little, much = sorted((one, other))
    kernel = scaling(maximum=1000)
    assert desired(kernel, replicas, little) <= desired(kernel, replicas, much)


@pytest.mark.parametrize(
    "said",
    [
        {"steps": ()},
        {"steps": (Step(0, 10, 1), Step(5, 20, 2))},
        {"steps": (Step(0, 10, 1), Step(15, 20, 2))},
        {"steps": (Step(0, None, 1), Step(5, 20, 2))},
        {"minimum": 3, "maximum": 2},
    ],
)
def test_what_makes_no_sense_is_refused(said: dict[str, Any]) -> None:
    with pytest.raises(Misconfigured):
        scaling(**said)
