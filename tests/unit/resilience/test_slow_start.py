import pytest
from hypothesis import given
from hypothesis import strategies as st

from seawall.errors import Misconfigured
from seawall.resilience.slow_start import SlowStart


@pytest.mark.parametrize(
    ("age", "share"), [(-5, 0.1), (0, 0.1), (3, 0.1), (15, 0.5), (29.7, 0.99), (30, 1), (999, 1)]
)
def test_the_ramp_is_a_line_from_its_floor(age: float, share: float) -> None:
    assert SlowStart(window=30.0).weight(4.0, 100.0, 100.0 + age) == pytest.approx(4.0 * share)


def test_aggression_bends_it() -> None:
    assert SlowStart(window=100.0, aggression=2.0).weight(1.0, 0.0, 25.0) == 0.5
    assert SlowStart(window=100.0, aggression=0.5).weight(1.0, 0.0, 50.0) == 0.25


@given(
    st.floats(0.1, 100), st.floats(0.1, 10), st.floats(0.01, 1), st.floats(0, 99), st.floats(0, 99)
)
def test_never_falls_and_never_leaves_its_bounds(
    window: float, aggression: float, floor: float, a: float, b: float
) -> None:
    ramp = SlowStart(window=window, aggression=aggression, floor=floor)
    first, second = ramp.weight(1.0, 0.0, min(a, b)), ramp.weight(1.0, 0.0, max(a, b))
    assert floor <= first <= second <= 1.0


@pytest.mark.parametrize("config", [{"window": 0}, {"aggression": 0}, {"floor": 0}, {"floor": 2}])
def test_a_ramp_that_makes_no_sense_is_refused(config: dict[str, float]) -> None:
    with pytest.raises(Misconfigured):
        SlowStart(**config)
