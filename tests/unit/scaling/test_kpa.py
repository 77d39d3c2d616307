"""Knative's autoscaler by its own test cases, and by its laws."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seawall.errors import Misconfigured
from seawall.scaling.decision import Limit
from seawall.scaling.kpa import Buckets, Kpa, KpaSamples, KpaState, recorded

# Few examples: each plays many looks, and the suite is to stay quick.
LAW = settings(max_examples=25, deadline=None)

UPSTREAM = json.loads((Path(__file__).parent / "data" / "kpa.json").read_text())
Row = dict[str, Any]


def kpa(row: Row) -> Kpa:
    said = {k: v for k, v in row.items() if k not in ("name", "steps", "state", "panic_at")}
    return Kpa(**{"capacity": row["target"] / 0.75, "max_up": 10, "max_down": 10, **said})


@pytest.mark.parametrize("row", [pytest.param(row, id=row["name"]) for row in UPSTREAM["rows"]])
def test_upstream(row: Row) -> None:
    kernel = kpa(row)
    state = KpaState(begun=True, **row.get("state", {}))
    panicked = []
    for at, ready, stable, panic, desired, burst in row["steps"]:
        state, decision = kernel.scale(state, ready, stable, panic, at)
        panicked.append(state.panic_at)
        assert decision.desired == desired
        assert kernel.excess_burst(ready, panic) == pytest.approx(burst, abs=1)
    assert panicked == row.get("panic_at", panicked)


@pytest.mark.parametrize("row", [pytest.param(row, id=row["name"]) for row in UPSTREAM["windows"]])
def test_upstream_windows(row: Row) -> None:
    lately: Buckets = ()
    highest = []
    for number, value in enumerate(row["values"]):
        index = row.get("buckets", range(100))[number]
        lately = recorded(lately, 5, index, value)
        highest.append(lately[0][1])
    assert highest == row["want"]


@pytest.mark.parametrize(
    "samples",
    [
        KpaSamples(3, None, None),
        KpaSamples(None, 1.0, 1.0),
        KpaSamples(3, math.nan, 1.0),
        KpaSamples(3, 1.0, math.inf),
        KpaSamples(3, -1.0, 1.0),
    ],
)
def test_what_is_not_known_changes_nothing(samples: KpaSamples) -> None:
    kernel = Kpa()
    before, _ = kernel.decide(kernel.begin(), KpaSamples(3, 100.0, 100.0), 0.0)
    after, decision = kernel.decide(before, samples, 2.0)
    assert after == before
    assert decision.is_held
    assert decision.limits == (Limit.NO_DATA,)


def test_several_at_the_start_are_kept_for_a_stable_window() -> None:
    kernel = Kpa()
    state, decision = kernel.decide(kernel.begin(), KpaSamples(4, 0.0, 0.0), 0.0)
    assert decision.desired == 4
    assert Limit.PANIC in decision.limits
    _, decision = kernel.decide(state, KpaSamples(4, 0.0, 0.0), 60.1)
    assert decision.desired == 2  # half at a time


def test_the_last_replica_waits_until_the_activator_stands_in() -> None:
    kernel = Kpa(burst=0.0)
    state, _ = kernel.decide(kernel.begin(), KpaSamples(1, 10.0, 10.0), 0.0)
    seen = []
    for at in (30.0, 60.0, 89.0, 90.0):
        state, decision = kernel.decide(state, KpaSamples(1, 0.0, 0.0), at)
        seen.append((decision.desired, Limit.GRACE in decision.limits))
    assert seen == [(1, True), (1, True), (1, True), (0, False)]
    assert decision.needs_activator


def test_where_it_stands_in_already_the_last_replica_waits_no_grace() -> None:
    kernel = Kpa(burst=200.0)
    state, decision = kernel.decide(kernel.begin(), KpaSamples(1, 10.0, 10.0), 0.0)
    assert decision.needs_activator
    _, decision = kernel.decide(state, KpaSamples(1, 0.0, 0.0), 60.0)
    assert decision.desired == 0


def test_traffic_begins_the_way_to_zero_anew() -> None:
    kernel = Kpa(burst=0.0)
    state, _ = kernel.decide(kernel.begin(), KpaSamples(1, 10.0, 10.0), 0.0)
    for at, load in ((60.0, 0.0), (70.0, 10.0), (95.0, 0.0), (131.0, 0.0), (160.0, 0.0)):
        state, decision = kernel.decide(state, KpaSamples(1, load, load), at)
        assert decision.desired == 1
    _, decision = kernel.decide(state, KpaSamples(1, 0.0, 0.0), 161.0)
    assert decision.desired == 0


def test_it_may_be_told_never_to_go_to_zero() -> None:
    kernel = Kpa(scale_to_zero=False)
    state, _ = kernel.decide(kernel.begin(), KpaSamples(1, 10.0, 10.0), 0.0)
    _, decision = kernel.decide(state, KpaSamples(1, 0.0, 0.0), 1e6)
    assert decision.desired == 1


LOADS = st.lists(st.floats(0, 5000), min_size=1, max_size=60)


@LAW
@given(LOADS)
def test_never_outside_its_bounds(loads: list[float]) -> None:
    kernel = Kpa(minimum=2, maximum=20)
    state, ready = kernel.begin(), 2
    for number, load in enumerate(loads):
        state, decision = kernel.decide(state, KpaSamples(ready, load, load), number * 2.0)
        ready = decision.desired
        assert 2 <= ready <= 20


@LAW
@given(LOADS)
def test_in_panic_it_never_scales_in(loads: list[float]) -> None:
    kernel = Kpa()
    state, ready = kernel.begin(), 1
    for number, load in enumerate(loads):
        state, decision = kernel.decide(state, KpaSamples(ready, load, load), number * 2.0)
        if Limit.PANIC in decision.limits:
            assert decision.desired >= ready
        ready = decision.desired


@LAW
@given(st.floats(0, 5000))
def test_a_constant_load_settles(load: float) -> None:
    kernel = Kpa(scale_to_zero=False)
    state, ready, seen = kernel.begin(), 1, []
    for number in range(100):
        state, decision = kernel.decide(state, KpaSamples(ready, load, load), number * 2.0)
        ready = decision.desired
        seen.append(ready)
    assert len(set(seen[50:])) == 1
    assert seen[-1] == max(1, math.ceil(load / 70.0))


@LAW
@given(st.floats(0, 5000), st.floats(0, 5000), st.integers(1, 50))
def test_more_load_is_never_fewer_replicas(one: float, other: float, ready: int) -> None:
    kernel, little, much = Kpa(), *sorted((one, other))
    _, low = kernel.scale(KpaState(begun=True), ready, little, little, 0.0)
    _, high = kernel.scale(KpaState(begun=True), ready, much, much, 0.0)
    assert low.desired <= high.desired


@pytest.mark.parametrize(
    "said",
    [
        {"target": 0.0},
        {"max_up": 1.0},
        {"max_down": 0.5},
        {"minimum": -1},
        {"maximum": 1, "minimum": 2},
    ],
)
def test_a_configuration_that_makes_no_sense_is_refused(said: dict[str, Any]) -> None:
    with pytest.raises(Misconfigured):
        Kpa(**said)
