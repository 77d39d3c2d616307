import math
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seawall.errors import Misconfigured
from seawall.scaling.decision import Decision, Limit
from seawall.scaling.surge import BUCKETS, SLACK, Surge, SurgeSamples, SurgeState

# Few examples: each plays many looks, and the suite is to stay quick.
LAW = settings(max_examples=25, deadline=None)


def surge(**said: Any) -> Surge:
    return Surge(**{"capacity": 100.0, "utilization": 0.7, "maximum": 100, **said})


class Played:
    """A kernel at work on a service whose replicas serve at once."""

    def __init__(self, kernel: Surge, replicas: int = 1, every: float = 0.5) -> None:
        self.kernel, self.every = kernel, every
        self.state, self.replicas, self.now = kernel.begin(), replicas, 0.0
        self.decision: Decision

    def at(self, offered: float | None, seconds: float = 0.0, **said: Any) -> list[int]:
        seen = []
        for _ in range(max(1, round(seconds / self.every))):
            self.now += self.every
            samples = SurgeSamples(self.replicas, self.replicas, offered, **said)
            self.state, self.decision = self.kernel.decide(self.state, samples, self.now)
            self.replicas = self.decision.desired
            seen.append(self.replicas)
        return seen


def test_a_step_is_answered_at_the_first_look() -> None:
    played = Played(surge())
    played.at(700.0, 60.0)
    assert played.replicas == 10
    assert played.at(7000.0) == [100]
    assert played.decision.reason.startswith("surge: 7000/s")


def test_a_step_is_not_taken_for_a_trend() -> None:
    played = Played(surge(lead=10.0, maximum=1000))
    played.at(700.0, 60.0)
    assert max(played.at(7000.0, 60.0)) <= 105


def test_chance_is_no_step() -> None:
    played, rng = Played(surge()), Random(7)
    played.at(700.0, 60.0)
    seen = {played.at(rng.gauss(680, math.sqrt(680 / 0.5)))[0] for _ in range(1200)}
    assert seen <= {10, 11}


def test_a_trend_is_followed_as_far_as_a_replica_needs_to_start() -> None:
    slow, quick = Played(surge(lead=60.0)), Played(surge(lead=1.0))
    for number in range(240):
        slow.at(700.0 + number * 5)
        quick.at(700.0 + number * 5)
    assert slow.replicas > quick.replicas >= 1895 / 70 - 1


def test_a_backlog_is_drained_in_its_time() -> None:
    played = Played(surge(drain=5.0))
    played.at(0.0, 10.0)
    played.at(0.0, backlog=3500.0)
    assert played.replicas == 10  # 3,500 in 5 s are 700 a second


def test_it_leaves_only_what_the_whole_window_did_not_need() -> None:
    played = Played(surge(window=300.0, calm=60.0, pace=30.0, share=0.5), every=5.0)
    played.at(1400.0, 60.0)
    assert played.replicas == 20
    assert set(played.at(680.0, 200.0)) == {20}
    assert played.decision.limits == (Limit.SCALE_DOWN_STABILIZED,)
    seen = played.at(680.0, 300.0)
    assert seen[-1] == 10
    assert seen == sorted(seen, reverse=True)


def test_it_leaves_a_share_at_a_time() -> None:
    played = Played(surge(window=10.0, calm=0.0, pace=30.0, share=0.1), every=5.0)
    played.at(7000.0, 60.0)
    steps = sorted(set(played.at(70.0, 90.0)), reverse=True)
    assert steps[:4] == [100, 90, 81, 73]
    assert Limit.COOLDOWN in played.decision.limits


def test_a_little_too_many_stay() -> None:
    played = Played(surge(window=10.0, calm=0.0, band=0.1), every=5.0)
    played.at(1400.0, 60.0)
    played.at(1310.0, 120.0)  # 19 would do
    assert played.replicas == 20
    assert played.decision.limits == (Limit.HYSTERESIS,)


def test_one_more_stays_where_the_load_hovers_at_its_edge() -> None:
    played, rng = Played(surge()), Random(7)
    played.at(710.0, 60.0)
    assert played.replicas == 11
    seen = [played.at(695 + rng.gauss(0, 26))[0] for _ in range(4000)]  # half an hour
    assert set(seen) == {11}
    assert played.at(600.0, 400.0)[-1] == 9


def test_room_for_more_than_is_expected_is_kept() -> None:
    played = Played(surge(spare=0.02), every=5.0)
    played.at(695.0, 60.0)  # 9.93 replicas, and 0.2 more
    assert played.replicas == 11


def test_after_a_step_out_it_calms_down_first() -> None:
    played = Played(surge(window=5.0, calm=60.0), every=5.0)
    played.at(70.0, 60.0)
    played.at(1400.0, 5.0)
    assert set(played.at(70.0, 40.0)) == {20}
    assert played.decision.limits == (Limit.PANIC,)


def test_it_sleeps_when_idle_and_wakes_at_once() -> None:
    played = Played(surge(minimum=0, window=30.0, calm=0.0, pace=0.0, idle=60.0), every=5.0)
    played.at(10.0, 30.0)
    assert set(played.at(0.0, 55.0)) == {1}
    played.at(0.0, 90.0)
    assert played.replicas == 0
    assert played.at(0.4) == [1]


def test_what_a_replica_bears_is_learnt_from_busy_ones() -> None:
    played = Played(surge())
    for _ in range(400):
        busy = min(1.0, 700.0 / (played.replicas * 50.0))
        played.at(700.0, served=700.0, busy=busy)
    assert played.replicas == 20  # half of what was configured
    assert played.state.capacity == pytest.approx(50.0, rel=0.01)


def test_what_idle_ones_show_is_not_learnt() -> None:
    played = Played(surge())
    played.at(7.0, 60.0, served=7.0, busy=0.2)
    assert played.state.capacity == 100.0


def test_it_says_that_more_do_not_help() -> None:
    played = Played(surge(useful=4))
    played.at(7000.0, 5.0)
    assert played.replicas == 4
    assert played.decision.limits == (Limit.CAPACITY,)
    assert played.decision.proposed == 100


@pytest.mark.parametrize("offered", [None, math.nan, math.inf, -1.0])
def test_without_figures_it_holds(offered: float | None) -> None:
    played = Played(surge(window=5.0, calm=0.0))
    played.at(1400.0, 5.0)
    before = played.state
    assert set(played.at(offered, 600.0)) == {20}
    assert played.decision.is_held
    assert played.state == before


def test_a_backlog_that_makes_no_sense_holds_too() -> None:
    played = Played(surge())
    played.at(1400.0, 5.0)
    played.at(0.0, backlog=math.nan)
    assert played.replicas == 20


LOADS = st.lists(st.floats(0, 20_000), min_size=1, max_size=80)


@LAW
@given(LOADS)
def test_never_outside_its_bounds(loads: list[float]) -> None:
    played = Played(surge(minimum=2, maximum=50), replicas=2)
    for load in loads:
        assert 2 <= played.at(load)[0] <= 50


@LAW
@given(st.floats(0, 6500))
def test_a_constant_load_settles(load: float) -> None:
    played = Played(surge(minimum=0), every=2.0)
    seen = played.at(load, 700.0)
    assert len(set(seen[-100:])) == 1
    assert seen[-1] == (max(1, math.ceil(load / 70.0 - SLACK)) if load else 0)


@LAW
@given(st.floats(0, 6500), st.floats(0, 6500))
def test_what_stays_bears_the_load_with_what_is_held_back(before: float, load: float) -> None:
    played = Played(surge(minimum=1), every=2.0)
    played.at(before, 60.0)
    most = played.replicas
    seen = played.at(load, 1200.0)
    # Whoever left was not needed, not even for the part of a replica that is held back.
    if min(seen) < most:
        assert min(seen) >= min(most, load / 70.0 + played.kernel.hold - 2 * SLACK)
    assert seen[-1] >= load / 70.0 - 2 * SLACK


@LAW
@given(st.floats(0, 6000), st.floats(0, 6000))
def test_more_load_is_never_fewer_replicas(one: float, other: float) -> None:
    little, much = Played(surge()), Played(surge())
    little.at(min(one, other), 20.0)
    much.at(max(one, other), 20.0)
    assert little.replicas <= much.replicas


@LAW
@given(LOADS)
def test_its_memory_is_bounded(loads: list[float]) -> None:
    played = Played(surge(window=10.0))
    for load in loads:
        played.at(load)
        assert len(played.state.needs) <= BUCKETS + 1


def test_a_decision_is_a_matter_of_its_inputs() -> None:
    state, samples = SurgeState(), SurgeSamples(1, 1, 700.0)
    assert surge().decide(state, samples, 1.0) == surge().decide(state, samples, 1.0)


@pytest.mark.parametrize(
    "said",
    [
        {"capacity": 0.0},
        {"utilization": 1.1},
        {"drain": 0.0},
        {"minimum": 2, "maximum": 1},
        {"fast": 20.0, "steady": 20.0},
        {"share": 0.0},
        {"band": 1.0},
        {"hold": 1.0},
        {"spare": -0.1},
    ],
)
def test_what_makes_no_sense_is_refused(said: dict[str, Any]) -> None:
    with pytest.raises(Misconfigured):
        surge(**said)
