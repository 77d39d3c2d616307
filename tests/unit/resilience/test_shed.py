import itertools
import json
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from seawall.errors import Misconfigured
from seawall.resilience.shed import BANDS, SHARES, Band, Importance, Partitions, Shedding

UPSTREAM = json.loads((Path(__file__).parent / "data" / "concurrency_limits.json").read_text())
ORDER = [Importance.SHEDDABLE, Importance.NORMAL, Importance.CRITICAL]


def shares(partitions: Partitions) -> dict[str, int]:
    return {one.name: one.share for one in partitions.snapshot()}


@pytest.mark.parametrize(
    "case", [pytest.param(case, id=case["name"]) for case in UPSTREAM["partitions"]]
)
def test_partitions_do_what_upstream_does(case: dict[str, Any]) -> None:
    partitions = Partitions(case["limit"], case["shares"])
    assert shares(partitions) == case.get("expect_shares", shares(partitions))
    for name, times, admitted in case["steps"]:
        for _ in range(times):
            assert partitions.try_acquire(name) is admitted


def test_a_place_given_back_can_be_taken() -> None:
    partitions = Partitions(10, {"batch": 0.3, "live": 0.7})
    assert sum(partitions.try_acquire("batch") for _ in range(12)) == 10
    partitions.release("batch")
    assert partitions.taken == 9
    assert partitions.try_acquire("batch")
    assert partitions.snapshot()[0].refused == 2


def test_a_limit_that_moves_moves_the_shares_and_nobody_under_way() -> None:
    partitions = Partitions(10, {"batch": 0.3, "live": 0.7})
    partitions.try_acquire("batch")
    partitions.resize(20)
    assert partitions.limit == 20
    assert shares(partitions) == {"batch": 6, "live": 14}
    assert partitions.taken == 1
    assert repr(partitions) == "<Partitions 1 of 20 taken>"


def test_critical_calls_find_room_in_a_flood_of_others() -> None:
    partitions = Partitions(100)
    for _ in range(1000):
        partitions.try_acquire(Importance.SHEDDABLE)
        partitions.try_acquire(Importance.NORMAL)
    assert sum(partitions.try_acquire(Importance.CRITICAL) for _ in range(60)) == 50


def test_the_smallest_class_has_one_place_at_least() -> None:
    assert shares(Partitions(3, {"a": 0.9, "b": 0.0})) == {"a": 3, "b": 1}


def test_a_place_that_is_not_taken_cannot_be_given_back() -> None:
    with pytest.raises(RuntimeError):
        Partitions(3).release(Importance.NORMAL)


@pytest.mark.parametrize("given", [{}, {"a": -0.1}, {"a": 1.1}, {"a": 0.6, "b": 0.5}])
def test_shares_that_make_no_sense_are_refused(given: dict[str, float]) -> None:
    with pytest.raises(Misconfigured):
        Partitions(10, given)


class AnyCalls(RuleBasedStateMachine):
    """Whatever comes: nobody holds more than the limit unless it is within their share."""

    def __init__(self) -> None:
        super().__init__()
        self.partitions = Partitions(10)
        self.held = dict.fromkeys(Importance, 0)

    @rule(name=st.sampled_from(list(Importance)), times=st.integers(1, 12))
    def call(self, name: Importance, times: int) -> None:
        for _ in range(times):
            full = sum(self.held.values()) >= self.partitions.limit
            entitled = self.held[name] < shares(self.partitions)[name]
            assert self.partitions.try_acquire(name) is (entitled or not full)
            self.held[name] += entitled or not full

    @precondition(lambda self: any(self.held.values()))
    @rule(data=st.data())
    def end(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from([name for name in Importance if self.held[name]]))
        self.partitions.release(name)
        self.held[name] -= 1

    @rule(limit=st.integers(1, 30))
    def resize(self, limit: int) -> None:
        self.partitions.resize(limit)

    @invariant()
    def counted(self) -> None:
        assert self.partitions.taken == sum(self.held.values())
        assert {one.name: one.taken for one in self.partitions.snapshot()} == self.held


TestAnyCalls = AnyCalls.TestCase
TestAnyCalls.settings = settings(max_examples=30)


# -- shedding


@pytest.mark.parametrize(
    ("utilisation", "refused"),
    [
        (0.0, [0, 0, 0]),
        (0.75, [0, 0, 0]),
        (0.80, [0.5, 0, 0]),
        (0.85, [1, 0, 0]),
        (0.90, [1, 0.5, 0]),
        (0.95, [1, 1, 0]),
        (1.20, [1, 1, 1]),
        (9.00, [1, 1, 1]),
    ],
)
def test_classes_go_one_after_the_other(utilisation: float, refused: list[float]) -> None:
    shedding = Shedding()
    assert [shedding.chance(name, utilisation) for name in ORDER] == pytest.approx(refused)


@given(a=st.floats(0, 3), b=st.floats(0, 3))
def test_more_load_never_sheds_less_and_importance_never_loses(a: float, b: float) -> None:
    shedding = Shedding()
    for name in ORDER:
        assert shedding.chance(name, min(a, b)) <= shedding.chance(name, max(a, b))
    chances = [shedding.chance(name, a) for name in ORDER]
    assert chances == sorted(chances, reverse=True)
    # No class is touched before the one below it is refused whole.
    assert all(one == 1.0 for one, other in itertools.pairwise(chances) if other)


def test_as_many_are_shed_as_it_says() -> None:
    shedding, rng = Shedding(), Random(1)
    shed = sum(shedding.sheds(Importance.SHEDDABLE, 0.78, rng) for _ in range(10_000))
    assert 2800 < shed < 3200
    assert not any(shedding.sheds(Importance.CRITICAL, 0.9, rng) for _ in range(100))
    assert all(shedding.sheds(Importance.CRITICAL, 1.3, rng) for _ in range(100))


def test_a_class_without_a_band_is_not_shed() -> None:
    assert Shedding({"batch": Band(0.5, 0.6)}).chance("live", 5.0) == 0.0


def test_a_band_that_makes_no_sense_is_refused() -> None:
    with pytest.raises(Misconfigured):
        Shedding({"batch": Band(0.6, 0.6)})


def test_every_class_has_a_share_and_a_band() -> None:
    assert set(SHARES) == set(BANDS) == set(Importance)


def test_a_class_has_a_share_until_it_is_taken() -> None:
    places = Partitions(10, {"a": 0.2})
    assert places.has_share("a")
    assert places.try_acquire("a")
    assert places.has_share("a")
    assert places.try_acquire("a")
    assert not places.has_share("a")
    places.release("a")
    assert places.has_share("a")
