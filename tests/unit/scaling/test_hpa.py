"""The whole autoscaler, by the test cases of Kubernetes' HPA controller, and by its laws."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seawall.errors import Misconfigured
from seawall.scaling.decision import Limit
from seawall.scaling.hpa import Hpa, HpaSamples, HpaState, Kind, Metric, PodReadings, Reading
from seawall.scaling.hpa_behavior import DOWN, Behavior, Policy, Rules, Unit
from seawall.scaling.hpa_metrics import Phase, Pod, Readiness, Usage

# Few examples: each plays many looks, and the suite is to stay quick.
LAW = settings(max_examples=25, deadline=None)

UPSTREAM = json.loads((Path(__file__).parent / "data" / "hpa.json").read_text())["rows"]
NOW = 1e9
PHASES = {"R": Phase.RUNNING, "F": Phase.FAILED}
STARTED = {"-": 0.0, "c": NOW - 180.0, "h": NOW - 30.0}
Row = dict[str, Any]


def letters(row: Row, key: str, default: str, count: int) -> str:
    text: str = row.get(key, "")
    return text + default * (count - len(text))


def pods_of(row: Row) -> tuple[Pod, ...]:
    count = max(
        row.get("existing", row["current"]), *(len(row.get(k, "")) for k in ("phase", "deleted"))
    )
    columns = zip(
        letters(row, "phase", "R", count),
        letters(row, "deleted", "-", count),
        letters(row, "ready", "T", count),
        letters(row, "age", "-", count),
        strict=True,
    )
    return tuple(
        Pod(f"pod-{n}", PHASES[phase], deleted == "D", ready == "T", 0.0, STARTED[age])
        for n, (phase, deleted, ready, age) in enumerate(columns)
    )


def usages(levels: list[int]) -> dict[str, Usage]:
    return {f"pod-{n}": Usage(level, at=0.0) for n, level in enumerate(levels)}


def inputs(row: Row) -> tuple[tuple[Metric, ...], tuple[Reading, ...]]:
    metrics: list[Metric] = []
    readings: list[Reading] = []
    if "cpu" in row:
        metrics.append(Metric("cpu", Kind.UTILIZATION, row["cpu"]))
        requests = {f"pod-{n}": request for n, request in enumerate(row["requests"])}
        readings.append(PodReadings(usages(row["levels"]), requests))
    for kind, target, series in row.get("metrics", []):
        metrics.append(Metric("qps", Kind[kind], target))
        if series is None:
            readings.append(None)
        else:
            readings.append(PodReadings(usages(series)) if kind == "PODS" else tuple(series))
    return tuple(metrics), tuple(readings)


@pytest.mark.parametrize("row", [pytest.param(row, id=row["name"]) for row in UPSTREAM])
def test_upstream(row: Row) -> None:
    metrics, readings = inputs(row)
    behavior = None
    if "up" in row:
        _, _, percent, period, window = row["up"]
        behavior = Behavior(Rules((Policy(Unit.PERCENT, percent, period),), window), DOWN)
    hpa = Hpa(
        metrics,
        minimum=row["bounds"][0],
        maximum=row["bounds"][1],
        behavior=behavior,
        readiness=Readiness(cpu_initialization=120.0, initial_delay=10.0),
    )
    state = hpa.begin()
    if "history" in row:
        state = HpaState(tuple((number, NOW - ago) for number, ago in row["history"]))
    samples = HpaSamples(row["current"], pods_of(row), readings, row.get("existing"))
    _, decision = hpa.decide(state, samples, NOW)
    assert decision.desired == row["want"]
    assert list(decision.limits) == row.get("limits", [])
    assert decision.reason


def by_queue(**said: Any) -> Hpa:
    return Hpa((Metric("queue", Kind.AVERAGE, 10_000),), **{"maximum": 50, **said})


def plays(hpa: Hpa, loads: list[int], every: float = 15.0) -> list[int]:
    """Replicas after each look at a queue of as many thousandths."""
    state, replicas, seen = hpa.begin(), hpa.minimum, []
    for number, load in enumerate(loads):
        samples = HpaSamples(replicas, tuple(Pod(f"p{n}") for n in range(replicas)), ((load,),))
        state, decision = hpa.decide(state, samples, number * every)
        replicas = decision.desired
        seen.append(replicas)
    return seen


LOADS = st.lists(st.integers(0, 2_000_000), min_size=1, max_size=40)


@LAW
@given(LOADS, st.booleans())
def test_never_outside_its_bounds(loads: list[int], with_behavior: bool) -> None:
    hpa = by_queue(minimum=2, behavior=Behavior() if with_behavior else None)
    assert all(2 <= replicas <= 50 for replicas in plays(hpa, loads))


@LAW
@given(st.integers(0, 2_000_000), st.booleans())
def test_a_constant_load_settles(load: int, with_behavior: bool) -> None:
    hpa = by_queue(behavior=Behavior() if with_behavior else None)
    seen = plays(hpa, [load] * 60)
    assert len(set(seen[-30:])) == 1
    assert seen == sorted(seen)  # from the minimum it only ever rises to it


@LAW
@given(st.integers(0, 600_000), st.integers(0, 600_000))
def test_more_load_is_never_fewer_replicas(one: int, other: int) -> None:
    little, much = sorted((one, other))
    hpa = by_queue()
    assert plays(hpa, [little] * 20)[-1] <= plays(hpa, [much] * 20)[-1] + 1  # within tolerance


@LAW
@given(LOADS)
def test_it_scales_in_only_to_what_the_whole_window_asked_for(loads: list[int]) -> None:
    hpa = by_queue()
    seen = plays(hpa, loads)
    for number in range(1, len(seen)):
        if seen[number] < seen[number - 1]:
            window = loads[max(0, number - 20) : number + 1]
            assert seen[number] * 10_000 * 1.1 >= min(max(window), 500_000)


def test_a_history_is_as_long_as_its_window() -> None:
    hpa = by_queue(behavior=Behavior())
    state = hpa.begin()
    for number in range(1000):
        samples = HpaSamples(3, (), (((number % 7) * 10_000,),))
        state, _ = hpa.decide(state, samples, number * 15.0)
    assert len(state.proposals or ()) <= 300 / 15 + 2
    assert len(state.ups) <= 3
    assert len(state.downs) <= 3


def test_it_says_what_it_saw_and_what_it_would_have_done() -> None:
    _, decision = by_queue().decide(HpaState(), HpaSamples(1, (Pod("a"),), ((95_000,),)), 0.0)
    assert decision.reason == "queue at 95, target 10"
    assert decision.proposed == 10
    assert decision.desired == 4
    assert decision.limits == (Limit.SCALE_UP,)
    assert not decision.is_held


@pytest.mark.parametrize(
    "said", [{"minimum": 3, "maximum": 2}, {"minimum": -1}, {"maximum": 0, "minimum": 0}]
)
def test_bounds_that_make_no_sense_are_refused(said: dict[str, int]) -> None:
    with pytest.raises(Misconfigured):
        by_queue(**said)


def test_an_autoscaler_needs_a_metric_and_a_target() -> None:
    with pytest.raises(Misconfigured):
        Hpa((), maximum=3)
    with pytest.raises(Misconfigured):
        Metric("cpu", Kind.UTILIZATION, 0)
