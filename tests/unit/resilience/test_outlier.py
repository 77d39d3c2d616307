from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seawall.errors import Misconfigured
from seawall.resilience.outlier import Ejected, OutlierConfig, Outliers

KEYS = ("a", "b", "c", "d")


def eject(outliers: Outliers, key: str, now: float) -> Ejected:
    while True:
        fact = outliers.failed(key, now)
        if fact is not None:
            return fact


def test_five_failures_in_a_row_eject_for_half_a_minute() -> None:
    outliers = Outliers()
    assert [outliers.failed("a", 1.0) for _ in range(4)] == [None] * 4
    assert outliers.usable(KEYS, 1.0) == KEYS
    assert outliers.failed("a", 2.0) == Ejected("a", failures=5, until=32.0, at=2.0)
    assert outliers.usable(KEYS, 31.9) == ["b", "c", "d"]
    assert outliers.usable(KEYS, 32.0) == KEYS


def test_a_success_ends_the_row() -> None:
    outliers = Outliers()
    for _ in range(5):
        assert [outliers.failed("a", 0.0) for _ in range(4)] == [None] * 4
        outliers.succeeded("a", 0.0)


def test_a_success_of_one_without_a_history_leaves_none() -> None:
    outliers = Outliers()
    outliers.succeeded("a", 0.0)
    assert repr(outliers) == "<Outliers 0 with a history>"


def test_what_comes_late_changes_nothing() -> None:
    outliers = Outliers()
    until = eject(outliers, "a", 0.0).until
    outliers.succeeded("a", 1.0)
    assert outliers.failed("a", 1.0) is None
    assert outliers.usable(KEYS, until - 0.1) == ["b", "c", "d"]
    assert outliers.usable(KEYS, until) == KEYS
    fact = outliers.failed("a", until)  # still on probation
    assert fact is not None
    assert fact.failures == 6


def test_on_probation_one_failure_is_enough_and_it_lasts_longer_each_time() -> None:
    outliers = Outliers()
    now, lengths = 0.0, list[float]()
    for _ in range(6):
        fact = eject(outliers, "a", now) if not lengths else outliers.failed("a", now)
        assert fact is not None
        lengths.append(fact.until - now)
        now = fact.until
    assert lengths == [30.0, 60.0, 120.0, 240.0, 300.0, 300.0]


def test_a_success_ends_the_probation_but_not_the_memory() -> None:
    outliers = Outliers()
    now = eject(outliers, "a", 0.0).until
    outliers.succeeded("a", now)
    assert [outliers.failed("a", now) for _ in range(4)] == [None] * 4
    fact = outliers.failed("a", now)
    assert fact is not None
    assert fact.until - now == 60.0


@pytest.mark.parametrize("well", [True, False])
def test_after_a_long_time_without_ejection_all_is_forgiven(well: bool) -> None:
    outliers = Outliers()
    now = eject(outliers, "a", 0.0).until + 300.0
    if well:
        outliers.succeeded("a", now)
    fact = eject(outliers, "a", now)
    assert (fact.failures, fact.until - now) == (5, 30.0)


def test_never_more_than_half_and_the_first_to_return_are_asked() -> None:
    outliers = Outliers()
    for at, key in enumerate("bdac"):
        eject(outliers, key, float(at))
    assert outliers.usable(KEYS, 5.0) == ["b", "d"]
    assert outliers.usable(["a", "b", "c"], 5.0) == ["a", "b"]
    assert outliers.usable(["a", "c"], 5.0) == ["a"]
    assert outliers.usable(["c"], 5.0) == ["c"]
    assert outliers.usable([], 5.0) == []


def test_who_is_gone_is_forgotten() -> None:
    outliers = Outliers()
    eject(outliers, "a", 0.0)
    outliers.forget("a")
    outliers.forget("never seen")
    assert outliers.usable(KEYS, 1.0) == KEYS


def test_histories_are_bounded_and_the_oldest_goes() -> None:
    outliers = Outliers(OutlierConfig(max_keys=2))
    for key in ("a", "b", "c"):
        eject(outliers, key, 0.0)
    assert outliers.usable(["a", "x", "y", "z"], 1.0) == ["a", "x", "y", "z"]
    assert outliers.usable(["b", "c", "y", "z"], 1.0) == ["y", "z"]


@pytest.mark.parametrize(
    "wrong",
    [{"consecutive_failures": 0}, {"max_keys": 0}, {"eject_for": 0.0}, {"eject_for_max": 1.0}],
)
def test_a_config_that_makes_no_sense_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(Misconfigured):
        OutlierConfig(**wrong)


EVENTS = st.tuples(st.sampled_from("abcdefg"), st.integers(0, 40), st.booleans())


@given(st.lists(EVENTS, max_size=120), st.lists(st.sampled_from("abcdefg"), unique=True))
def test_at_least_half_stay_usable_whatever_fails(
    events: list[tuple[str, int, bool]], keys: list[str]
) -> None:
    outliers = Outliers(OutlierConfig(consecutive_failures=1))
    now = 0.0
    for key, seconds, fails in events:
        now += seconds
        if fails:
            outliers.failed(key, now)
        else:
            outliers.succeeded(key, now)
        usable = outliers.usable(keys, now)
        assert len(keys) - len(usable) <= len(keys) // 2
        assert list(usable) == [one for one in keys if one in usable]


@given(count=st.integers(0, 12), share=st.floats(0, 1))
def test_the_ceiling_holds_whoever_fails(count: int, share: float) -> None:
    outliers = Outliers(OutlierConfig(consecutive_failures=1, max_ejected=share))
    keys = [str(number) for number in range(count)]
    for key in keys:
        outliers.failed(key, 0.0)
    assert count - len(outliers.usable(keys, 1.0)) == int(count * share)


def test_a_ceiling_is_a_share() -> None:
    with pytest.raises(Misconfigured):
        OutlierConfig(max_ejected=1.1)
