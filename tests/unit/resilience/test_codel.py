import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seawall.errors import Misconfigured
from seawall.resilience.codel import CoDel

TICK = 0.001  # seconds between items in these tests


def drops(codel: CoDel, waited: float, start: float, seconds: float) -> list[float]:
    """When it drops, of an item each tick that waited as long."""
    times = [start + number * TICK for number in range(round(seconds / TICK))]
    return [now - start for now in times if codel.drops(waited, now)]


def test_short_waits_are_never_dropped() -> None:
    assert drops(CoDel(), 0.0049, 0.0, 10.0) == []


def test_a_burst_shorter_than_an_interval_is_let_through() -> None:
    assert drops(CoDel(), 5.0, 0.0, 0.099) == []


def test_the_pace_is_that_of_the_control_law() -> None:
    got = drops(CoDel(), 0.050, 0.0, 0.5)
    wanted = [0.1]
    while wanted[-1] < 0.5:
        wanted.append(wanted[-1] + 0.1 / math.sqrt(len(wanted)))
    assert got == pytest.approx(wanted[: len(got)], abs=2 * TICK)
    assert len(got) == len(wanted) - 1


def test_one_short_wait_ends_it() -> None:
    codel = CoDel()
    drops(codel, 0.050, 0.0, 0.3)
    assert repr(codel) == "<CoDel dropping, 3 lately>"
    assert not codel.drops(0.001, 0.3)
    assert repr(codel) == "<CoDel calm, 3 lately>"
    assert drops(codel, 0.050, 0.301, 0.09) == []


def test_soon_again_it_goes_on_at_its_former_pace() -> None:
    codel = CoDel()
    drops(codel, 0.050, 0.0, 2.0)
    pace = codel._count
    assert pace > 20
    codel.drops(0.0, 2.0)
    drops(codel, 0.050, 2.001, 0.102)
    assert codel._count == pace - 1  # since the last time it began, at 1
    codel.drops(0.0, 2.2)
    drops(codel, 0.050, 60.0, 0.102)
    assert codel._count == 1  # much later it begins anew


def test_the_last_one_is_not_dropped() -> None:
    codel = CoDel()
    drops(codel, 0.050, 0.0, 0.1)
    assert not codel.drops(0.050, 0.1, last=True)


@given(st.lists(st.tuples(st.floats(0, 0.2), st.floats(0, 1.0), st.booleans()), max_size=200))
def test_drops_only_after_a_whole_interval_of_long_waits(
    items: list[tuple[float, float, bool]],
) -> None:
    codel, now = CoDel(), 0.0
    above_since = math.inf
    for gap, waited, last in items:
        now += gap
        if waited < codel.target or last:
            above_since = math.inf
        elif above_since == math.inf:
            above_since = now
        if codel.drops(waited, now, last):
            assert now >= above_since + codel.interval


@pytest.mark.parametrize(("target", "interval"), [(0, 1), (1, 1), (2, 1), (math.nan, 1)])
def test_a_target_that_makes_no_sense_is_refused(target: float, interval: float) -> None:
    with pytest.raises(Misconfigured):
        CoDel(target, interval)
