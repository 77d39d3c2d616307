"""Windows, policies and bounds, by the test cases of Kubernetes' HPA controller."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seawall.errors import Misconfigured
from seawall.scaling.hpa_behavior import (
    DOWN,
    UP,
    Behavior,
    History,
    Policy,
    Rules,
    Select,
    Unit,
    bounded,
    changed,
    highest,
    longest_period,
    paced,
    remembered,
    stabilized,
    up_limit,
)

# Few examples: each plays many looks, and the suite is to stay quick.
LAW = settings(max_examples=25, deadline=None)

UPSTREAM = json.loads((Path(__file__).parent / "data" / "hpa_behavior.json").read_text())
NOW = 1e6
Row = dict[str, Any]


def rows(key: str) -> list[Any]:
    return [pytest.param(row, id=row["name"]) for row in UPSTREAM[key]]


def rules(said: list[int] | None, otherwise: Rules, select: str = "MAX") -> Rules:
    if said is None:
        return otherwise
    pods, pods_period, percent, percent_period, window = said
    policies = []
    if pods:
        policies.append(Policy(Unit.PODS, pods, pods_period))
    if percent:
        policies.append(Policy(Unit.PERCENT, percent, percent_period))
    return Rules(tuple(policies), window, Select[select])


def spread(said: dict[str, Any] | None) -> History:
    if said is None:
        return ()
    part = said["spread"] / len(said["events"])
    return tuple(
        (event, NOW - (said["spread"] - part * (n + 0.5))) for n, event in enumerate(said["events"])
    )


def ago(said: list[list[int]]) -> History:
    return tuple((number, NOW - seconds) for number, seconds in said)


@pytest.mark.parametrize("row", rows("bounded"))
def test_without_behavior(row: Row) -> None:
    assert list(bounded(row["current"], row["proposed"], *row["bounds"])) == row["want"]


@pytest.mark.parametrize("row", rows("paced"))
def test_policies(row: Row) -> None:
    select = row.get("select", "MAX")
    behavior = Behavior(rules(row.get("up"), UP, select), rules(row.get("down"), DOWN, select))
    changes = (spread(row.get("ups")), spread(row.get("downs")))
    bounds = (row["bounds"][0], row["bounds"][1])
    got = paced(row["current"], row["proposed"], bounds, behavior, changes, NOW)
    assert list(got) == row["want"]


@pytest.mark.parametrize("row", rows("events"))
def test_changes_are_remembered_as_long_as_a_policy_counts_them(row: Row) -> None:
    before = ago(row["before"])
    assert changed(before, 60.0, NOW) == row["changed"]
    cutoff = NOW - longest_period(rules(row["rules"], UP))
    assert [number for number, _ in remembered(before, 5, cutoff, NOW)] == row["after"]


@pytest.mark.parametrize("row", rows("highest"))
def test_the_highest_of_a_window(row: Row) -> None:
    before = ago(row["before"])
    assert highest(before, row["proposed"], 300.0, NOW) == row["want"]
    assert len(remembered(before, row["proposed"], NOW - 300.0, NOW)) == row["after"]


@pytest.mark.parametrize("row", rows("stabilized"))
def test_stabilization(row: Row) -> None:
    up, down = row["windows"]
    behavior = Behavior(Rules(UP.policies, up), Rules(DOWN.policies, down))
    before = ago(row["before"])
    assert stabilized(before, row["current"], row["proposed"], behavior, NOW) == row["want"]
    if "after" in row:
        after = remembered(before, row["proposed"], NOW - max(up, down), NOW)
        assert [number for number, _ in after] == row["after"]


def test_what_is_disabled_does_not_move() -> None:
    still = Rules(UP.policies, select=Select.DISABLED)
    behavior = Behavior(still, still)
    for proposed in (1, 100):
        assert paced(10, proposed, (1, 1000), behavior, ((), ()), NOW)[0] == 10


@LAW
@given(
    st.integers(1, 500),
    st.integers(0, 5000),
    st.lists(st.tuples(st.integers(1, 50), st.floats(0, 200)), max_size=5),
)
def test_policies_never_turn_a_change_round(
    current: int, proposed: int, lately: list[tuple[int, float]]
) -> None:
    changes = (ago([[n, 10] for n, _ in lately]), ago([[n, 20] for n, _ in lately]))
    desired, _ = paced(current, proposed, (1, 1000), Behavior(), changes, NOW)
    assert min(current, max(1, proposed)) <= desired <= max(current, min(1000, proposed), 1)


@LAW
@given(st.integers(1, 500))
def test_a_small_fleet_may_always_grow(current: int) -> None:
    one_percent = Rules((Policy(Unit.PERCENT, 1, 60.0),))
    assert up_limit(current, one_percent, ((), ()), NOW) > current


@pytest.mark.parametrize(("value", "period"), [(0, 60), (-1, 60), (1, 0), (1, 1801)])
def test_a_policy_that_allows_nothing_is_refused(value: int, period: float) -> None:
    with pytest.raises(Misconfigured):
        Policy(Unit.PODS, value, period)


def test_rules_that_make_no_sense_are_refused() -> None:
    with pytest.raises(Misconfigured):
        Rules(())
    with pytest.raises(Misconfigured):
        Rules(UP.policies, window=3601)
