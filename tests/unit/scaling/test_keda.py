"""KEDA's ScaledObject by its own test cases, and by its laws."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seawall.errors import Misconfigured
from seawall.scaling.decision import Limit
from seawall.scaling.keda import Fallback, FallbackBehavior, Keda, KedaSamples, Trigger

# Few examples: each plays many looks, and the suite is to stay quick.
LAW = settings(max_examples=25, deadline=None)

UPSTREAM = json.loads((Path(__file__).parent / "data" / "keda.json").read_text())
QUEUE = Trigger("queue", 10.0)
Row = dict[str, Any]


def rows(key: str) -> list[Any]:
    return [pytest.param(row, id=row["name"]) for row in UPSTREAM[key]]


@pytest.mark.parametrize("row", rows("objects"))
def test_upstream_objects(row: Row) -> None:
    said = {k: v for k, v in row.items() if k not in ("name", "current", "active", "want")}
    keda = Keda(triggers=(QUEUE,), **said)
    state, _ = keda.decide(keda.begin(), KedaSamples(0, (None,)), -1.0)
    value = 1.0 if row["active"] else 0.0
    state, decision = keda.decide(state, KedaSamples(row["current"], (value,)), 0.0)
    assert [decision.desired, state.active_at == 0.0] == row["want"]


@pytest.mark.parametrize("row", rows("fallback"))
def test_upstream_fallback(row: Row) -> None:
    fallback = Fallback(row["replicas"], row["threshold"], FallbackBehavior(row["behavior"]))
    keda = Keda(triggers=(Trigger("queue", row["target"]),), fallback=fallback)
    seen = KedaSamples(row["current"], (None,))
    assert keda.value_for(0, seen, row["failures"]) == row["want"]


def plays(keda: Keda, values: list[float | None], every: float = 30.0) -> list[int]:
    state, replicas, seen = keda.begin(), keda.minimum, []
    for number, value in enumerate(values):
        state, decision = keda.decide(state, KedaSamples(replicas, (value,)), number * every)
        replicas = decision.desired
        seen.append(replicas)
    return seen


def test_it_wakes_grows_and_sleeps_only_after_the_cooldown() -> None:
    keda = Keda(triggers=(QUEUE,))
    assert plays(keda, [0.0, 25.0, 25.0, 25.0] + [0.0] * 12) == [0, 1, 3, 3] + [3] * 10 + [0, 0]


def test_activation_is_above_and_not_at_its_threshold() -> None:
    keda = Keda(triggers=(Trigger("queue", 10.0, activation=5.0),))
    assert plays(keda, [5.0, 5.1]) == [0, 1]


def test_what_was_scaled_by_hand_sleeps_without_a_cooldown() -> None:
    keda = Keda(triggers=(QUEUE,))
    state, _ = keda.decide(keda.begin(), KedaSamples(0, (0.0,)), 0.0)
    _, decision = keda.decide(state, KedaSamples(7, (0.0,)), 30.0)
    assert decision.desired == 0


def test_a_new_one_may_be_given_time() -> None:
    keda = Keda(triggers=(QUEUE,), initial_cooldown=100.0)
    state, decision = keda.decide(keda.begin(), KedaSamples(7, (0.0,)), 0.0)
    assert decision.desired > 0
    _, decision = keda.decide(state, KedaSamples(7, (0.0,)), 100.1)
    assert decision.desired == 0


@pytest.mark.parametrize("broken", [None, math.nan, math.inf, -1.0])
def test_a_broken_trigger_never_scales_in(broken: float | None) -> None:
    keda = Keda(triggers=(QUEUE,))
    assert plays(keda, [100.0, 100.0, 100.0, 100.0] + [broken] * 30)[-1] == 10


def test_after_enough_failures_the_fallback_holds() -> None:
    keda = Keda(triggers=(QUEUE,), fallback=Fallback(6))
    assert plays(keda, [20.0, 20.0] + [None] * 8) == [1, 2, 2, 2, 2, 4, 6, 6, 6, 6]
    state = keda.begin()
    for number in range(5):
        state, decision = keda.decide(state, KedaSamples(6, (None,)), number * 30.0)
    assert Limit.FALLBACK in decision.limits


@LAW
@given(st.lists(st.one_of(st.none(), st.floats(0, 5000)), min_size=1, max_size=60))
def test_never_outside_its_bounds(values: list[float | None]) -> None:
    keda = Keda(triggers=(QUEUE,), minimum=2, maximum=20)
    assert all(2 <= replicas <= 20 for replicas in plays(keda, values))


@LAW
@given(st.floats(0.001, 5000))
def test_a_constant_load_settles(value: float) -> None:
    seen = plays(Keda(triggers=(QUEUE,), maximum=1000), [value] * 40)
    assert len(set(seen[20:])) == 1
    assert seen == sorted(seen)


@pytest.mark.parametrize(
    "said",
    [
        {"triggers": ()},
        {"minimum": 3, "maximum": 2},
        {"minimum": 2, "idle": 2},
        {"idle": 0},
    ],
)
def test_an_object_that_makes_no_sense_is_refused(said: dict[str, Any]) -> None:
    with pytest.raises(Misconfigured):
        Keda(**{"triggers": (QUEUE,), **said})


def test_a_trigger_or_fallback_that_makes_no_sense_is_refused() -> None:
    with pytest.raises(Misconfigured):
        Trigger("queue", 0.0)
    with pytest.raises(Misconfigured):
        Fallback(-1)


def test_the_fallback_may_go_by_what_there_is() -> None:
    lower = Fallback(5, behavior=FallbackBehavior.CURRENT_IF_LOWER)
    assert [lower.chosen(3), lower.chosen(8)] == [3, 5]
