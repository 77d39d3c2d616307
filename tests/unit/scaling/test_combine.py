import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seawall.errors import Misconfigured
from seawall.scaling.combine import capped, highest, vetoed, with_floor
from seawall.scaling.decision import Decision, Limit

# Few examples: each plays many looks, and the suite is to stay quick.
LAW = settings(max_examples=25, deadline=None)

KNOWN = st.integers(0, 100).map(lambda desired: Decision(desired, "so", (), desired))
HELD = Decision(10, "no data", (Limit.NO_DATA,))


def test_the_one_that_wants_most_is_named() -> None:
    got = highest(3, {"cpu": Decision(2, "low", (), 2), "queue": Decision(7, "long", (), 7)})
    assert got.desired == 7
    assert got.reason == "queue: long"


@LAW
@given(st.lists(KNOWN, min_size=1, max_size=5))
def test_any_one_scales_out_and_all_must_agree_to_scale_in(decisions: list[Decision]) -> None:
    got = highest(10, {str(number): each for number, each in enumerate(decisions)}).desired
    if any(each.desired > 10 for each in decisions):
        assert got > 10
    elif not all(each.desired < 10 for each in decisions):
        assert got == 10
    else:
        assert got < 10


def test_one_that_knows_nothing_holds_but_does_not_stop_scaling_out() -> None:
    assert highest(10, {"cpu": Decision(4, "low", (), 4), "queue": HELD}).desired == 10
    assert highest(10, {"cpu": Decision(14, "high", (), 14), "queue": HELD}).desired == 14


def test_one_that_was_cut_off_at_another_number_holds_too() -> None:
    gone = Decision(0, "no data", (Limit.NO_DATA,))  # it could not even count
    got = highest(10, {"cpu": Decision(4, "low", (), 4), "queue": gone})
    assert got.desired == 10
    assert got.limits == (Limit.METRIC_FAILED,)


def test_nothing_cannot_be_combined() -> None:
    with pytest.raises(Misconfigured):
        highest(1, {})


def test_a_floor_lifts_as_far_as_the_maximum() -> None:
    low = Decision(2, "quiet", (), 2)
    assert with_floor(low, 5, "the usual rush", 20).desired == 5
    assert with_floor(low, 50, "the usual rush", 20).desired == 20
    assert with_floor(low, 1, "night", 20) is low
    assert Limit.FLOOR in with_floor(low, 5, "the usual rush", 20).limits


def test_a_veto_stops_scaling_in_only() -> None:
    low, high = Decision(2, "quiet", (), 2), Decision(9, "busy", (), 9)
    assert vetoed(5, low, ["memory at 93 %"]).desired == 5
    assert "memory at 93 %" in vetoed(5, low, ["memory at 93 %"]).reason
    assert vetoed(5, high, ["memory at 93 %"]) is high
    assert vetoed(5, low, []) is low


def test_a_cap_says_that_more_would_not_help() -> None:
    high = Decision(9, "busy", (), 9)
    got = capped(high, 4, "4 cores")
    assert got.desired == 4
    assert got.limits == (Limit.CAPACITY,)
    assert got.reason == "busy; capacity-limited: 4 cores"
    assert capped(high, 9, "9 cores") is high
