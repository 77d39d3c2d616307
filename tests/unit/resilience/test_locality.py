import json
from collections import Counter
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seawall.errors import Misconfigured
from seawall.resilience.locality import (
    LocalityConfig,
    Member,
    Plan,
    plan,
    shares,
    zone_shares,
)

ENVOY = json.loads((Path(__file__).parent / "data" / "envoy_priorities.json").read_text())


@pytest.mark.parametrize("row", ENVOY["rows"], ids=lambda row: "-".join(map(str, row["healthy"])))
def test_priorities_and_panic_are_those_of_envoy(row: dict[str, Any]) -> None:
    given = shares([(percent, 100) for percent in row["healthy"]], LocalityConfig())
    assert [100 * share.traffic for share in given] == pytest.approx(row["traffic"], abs=0.8)
    assert [share.panic for share in given] == row["panic"]


def test_without_panic_nobody_is_asked_if_nobody_is_healthy() -> None:
    ill = [Member(name, healthy=False) for name in "ab"]
    assert list(plan(ill, LocalityConfig(panic=0)).draw(0.5)) == []
    assert repr(plan(ill, LocalityConfig(panic=0))) == "<Plan nobody>"
    assert list(plan(ill).draw(0.5)) == ["a", "b"]
    assert repr(plan(ill)) == "<Plan 100% to 2, panic>"


def test_an_empty_priority_takes_nothing() -> None:
    assert [share.traffic for share in shares([(0, 0), (2, 2)], LocalityConfig())] == [0, 1]
    assert [share.panic for share in shares([(0, 0), (0, 2)], LocalityConfig())] == [False, True]
    assert plan([]).draw(0.3) == ()


def test_in_panic_the_ill_are_asked_too_and_else_not() -> None:
    members = [Member("a"), Member("b", healthy=False), Member("c", healthy=False)]
    assert plan(members).panic
    assert list(plan(members).draw(0.0)) == ["a", "b", "c"]
    assert list(plan(members[:2]).draw(0.0)) == ["a"]


def test_traffic_goes_down_the_priorities_as_it_should() -> None:
    members = [Member(f"near-{n}", healthy=n < 5) for n in range(10)]
    members += [Member(f"far-{n}", priority=1) for n in range(10)]
    drawn, rng = Counter[str](), Random(1)
    chosen = plan(members)
    for _ in range(10_000):
        drawn[chosen.draw(rng.random())[0]] += 1
    assert drawn["near-0"] == pytest.approx(7000, abs=200)
    assert drawn["near-0"] + drawn["far-0"] == 10_000
    assert repr(chosen) == "<Plan 70% to 5, 30% to 10>"


@pytest.mark.parametrize(
    ("callers", "instances", "wanted"),
    [
        ({"a": 1, "b": 1}, {"a": 5, "b": 5}, {"a": 1.0}),
        ({"a": 1, "b": 1}, {"a": 8, "b": 2}, {"a": 1.0}),
        # A tenth of the instances for half of the callers: a fifth stays, the rest crosses.
        ({"a": 1, "b": 1}, {"a": 1, "b": 9}, {"a": 0.2, "b": 0.8}),
        ({"a": 1, "b": 1}, {"b": 9}, {"b": 1.0}),
        # What crosses goes where there are more instances than callers, by how many more.
        ({"a": 2, "b": 1, "c": 1}, {"a": 1, "b": 1, "c": 2}, {"a": 0.5, "c": 0.5}),
        ({"x": 3}, {"a": 3, "b": 1}, {"a": 0.75, "b": 0.25}),
    ],
)
def test_as_much_stays_in_the_zone_as_is_fair(
    callers: dict[str, int], instances: dict[str, int], wanted: dict[str, float]
) -> None:
    zone = next(iter(callers)) if "x" not in callers else "y"
    assert zone_shares(callers, instances, zone) == pytest.approx(wanted)


ZONES = st.sampled_from("abc")


@given(
    callers=st.dictionaries(ZONES, st.integers(1, 20), min_size=1),
    instances=st.dictionaries(ZONES, st.integers(1, 20), min_size=1),
)
def test_every_instance_gets_alike_whatever_the_zones(
    callers: dict[str, int], instances: dict[str, int]
) -> None:
    """Envoy's promise: roughly the same number of requests per instance."""
    got: Counter[str] = Counter()
    for zone, count in callers.items():
        parts = zone_shares(callers, instances, zone)
        assert sum(parts.values()) == pytest.approx(1.0)
        for name, part in parts.items():
            got[name] += part * count  # type: ignore[assignment]
    each = sum(callers.values()) / sum(instances.values())
    for name, count in instances.items():
        assert got[name] == pytest.approx(each * count)


def zoned(a: int, b: int) -> list[Member[str]]:
    return [Member(f"a{n}", zone="a") for n in range(a)] + [
        Member(f"b{n}", zone="b") for n in range(b)
    ]


def test_a_plan_keeps_to_its_zone_if_there_are_enough_instances() -> None:
    ours = LocalityConfig(zone="a")
    assert repr(plan(zoned(4, 4), ours)) == "<Plan 100% to 4>"
    assert repr(plan(zoned(2, 2), ours)) == "<Plan 100% to 4>"
    assert list(plan(zoned(2, 2), ours).draw(0.0)) == ["a0", "a1", "b0", "b1"]
    assert list(plan(zoned(4, 4), LocalityConfig()).draw(0.0)) == [m.one for m in zoned(4, 4)]
    callers = LocalityConfig(zone="a", callers={"a": 3, "b": 1})
    # Three quarters of the callers, half of the instances: two thirds of ours stay.
    assert sorted(repr(plan(zoned(3, 3), callers))) == sorted("<Plan 67% to 3, 33% to 3>")


@given(
    st.lists(
        st.builds(
            Member,
            st.uuids(),
            st.booleans(),
            st.integers(0, 2),
            ZONES,
        ),
        max_size=20,
    ),
    st.floats(0, 1, exclude_max=True),
)
def test_a_plan_never_leaves_one_without_anybody(
    members: list[Member[object]], chance: float
) -> None:
    made: Plan[object] = plan(members, LocalityConfig(zone="a"))
    assert bool(made.draw(chance)) is bool(members)
    assert sum(part for part, _ in made.groups) == pytest.approx(1.0 if members else 0.0)
    healthy = {member.one for member in members if member.healthy}
    if not made.panic:
        assert healthy.issuperset(made.draw(chance))


@pytest.mark.parametrize("config", [{"overprovisioning": 0.9}, {"panic": 1.1}])
def test_rules_that_make_no_sense_are_refused(config: dict[str, float]) -> None:
    with pytest.raises(Misconfigured):
        LocalityConfig(**config)  # type: ignore[arg-type]
