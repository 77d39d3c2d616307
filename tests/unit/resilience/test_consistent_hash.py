from collections import Counter
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seawall.errors import Misconfigured
from seawall.resilience.consistent_hash import ConsistentHash

# Written down once: were they to change, an upgrade would move every session.
NOTED = ["orders-1", "orders-4", "orders-0"]
KEYS = [f"user-{number}" for number in range(1000)]


def idle(_: object) -> float:
    return 1.0


def ring(bound: float = 1.25) -> ConsistentHash[str]:
    return ConsistentHash(Random(1), bound=bound)


def owners(members: list[str]) -> dict[str, str]:
    one = ring()
    return {key: one.pick(members, idle, (), key) for key in KEYS}


def names(count: int) -> list[str]:
    return [f"orders-{number}" for number in range(count)]


def test_a_key_goes_where_it_went_in_every_process_and_whatever_the_order() -> None:
    assert [ring().pick(names(8), idle, (), key) for key in ("ann", "bob", "cem")] == NOTED
    shuffled = names(8)
    Random(2).shuffle(shuffled)
    assert owners(shuffled) == owners(names(8))


@settings(max_examples=20, deadline=None)
@given(count=st.integers(2, 12), gone=st.integers(0, 11))
def test_only_the_keys_of_the_one_that_left_move(count: int, gone: int) -> None:
    before = owners(names(count))
    leaver = names(count)[gone % count]
    after = owners([name for name in names(count) if name != leaver])
    for key in KEYS:
        assert after[key] == before[key] or before[key] == leaver


@pytest.mark.parametrize("count", [2, 4, 8, 16])
def test_few_keys_move_to_a_newcomer_and_none_elsewhere(count: int) -> None:
    before, after = owners(names(count)), owners(names(count + 1))
    moved = [key for key in KEYS if before[key] != after[key]]
    assert {after[key] for key in moved} == {f"orders-{count}"}
    assert 0.5 < len(moved) / (len(KEYS) / (count + 1)) < 1.5


def test_an_avoided_one_counts_as_gone() -> None:
    one, members = ring(), names(5)
    without = owners(members[1:])
    for key in KEYS:
        assert one.pick(members, idle, [members[0]], key) == without[key]


def test_a_hot_key_fills_its_instance_to_the_bound_and_goes_on_to_the_next() -> None:
    one, members = ring(bound=1.5), names(4)
    load = dict.fromkeys(members, 1.0)
    for _ in range(400):
        load[one.pick(members, load.__getitem__, (), "hot")] += 1
    average = sum(load.values()) / 4
    assert max(load.values()) <= 1.5 * average + 1
    assert max(load.values()) > 1.4 * average


@given(
    st.lists(st.floats(0, 100), min_size=2, max_size=8),
    st.text(min_size=1, max_size=8),
    st.floats(1.01, 3.0),
)
def test_nobody_above_the_bound_is_asked(load: list[float], key: str, bound: float) -> None:
    one: ConsistentHash[int] = ConsistentHash(Random(1), bound=bound)
    picked = one.pick(range(len(load)), load.__getitem__, (), key)
    assert load[picked] <= bound * sum(load) / len(load) + 1e-9


def test_who_has_no_weight_is_not_asked() -> None:
    one = ring()
    load = {"a": float("inf"), "b": 5.0, "c": 1.0}
    asked = {one.pick("abc", load.__getitem__, (), key) for key in KEYS}
    assert asked == {"b", "c"}
    assert one.pick("aa", load.__getitem__, (), "ann") == "a"


def test_the_ring_is_laid_out_anew_only_for_other_instances() -> None:
    one, members = ring(), names(3)
    one.pick(members, idle, (), "ann")
    hashes = one._hashes
    one.pick(list(members), idle, (), "ann")
    assert one._hashes is hashes
    one.pick(names(4), idle, (), "ann")
    assert one._hashes is not hashes
    assert repr(one) == "<ConsistentHash of 4, bound 1.25>"


def test_without_a_key_the_less_loaded_is_asked() -> None:
    load = {"a": 3.0, "b": 1.0}
    assert {ring().pick("ab", load.__getitem__) for _ in range(20)} == {"b"}


def test_shares_are_nearly_even() -> None:
    asked = Counter(owners(names(8)).values())
    assert min(asked.values()) > 80
    assert max(asked.values()) < 180


def test_a_bound_that_makes_no_sense_is_refused() -> None:
    with pytest.raises(Misconfigured):
        ring(bound=1.0)
