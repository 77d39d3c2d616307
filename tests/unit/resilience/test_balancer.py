from collections import Counter
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seawall.errors import NoInstance
from seawall.resilience.balancer import LeastRequest, WeightedLeastRequest


def idle(_: object) -> float:
    return 0.0


def test_nobody_to_ask_is_said() -> None:
    with pytest.raises(NoInstance):
        LeastRequest(Random(1)).pick([], idle)


def test_the_only_one_is_asked_however_loaded() -> None:
    assert LeastRequest(Random(1)).pick(["a"], lambda _: 1e9) == "a"


def test_of_two_the_less_loaded_is_asked_always() -> None:
    balancer = LeastRequest(Random(1))
    load = {"a": 3.0, "b": 2.0}.__getitem__
    assert {balancer.pick(["a", "b"], load) for _ in range(50)} == {"b"}


def test_the_most_loaded_of_many_is_never_asked() -> None:
    balancer = LeastRequest(Random(1))
    assert 9 not in {balancer.pick(range(10), float) for _ in range(2000)}


def test_idle_ones_are_asked_alike() -> None:
    balancer = LeastRequest(Random(1))
    asked = Counter(balancer.pick(range(8), idle) for _ in range(16_000))
    assert min(asked.values()) > 1800
    assert max(asked.values()) < 2200


def test_every_pair_is_drawn_alike() -> None:
    pairs: Counter[frozenset[int]] = Counter()
    drawn: list[int] = []

    def note(one: int) -> float:
        drawn.append(one)
        return 0.0

    balancer = LeastRequest(Random(1))
    for _ in range(10_000):
        drawn.clear()
        balancer.pick(range(5), note)
        pairs[frozenset(drawn)] += 1
    assert {len(pair) for pair in pairs} == {2}
    assert len(pairs) == 10
    assert min(pairs.values()) > 850


def test_balances_better_than_chance() -> None:
    # The fullest of 100 places after 1000 throws: about 20 by chance, 12 by the better of two.
    load = [0] * 100
    balancer = LeastRequest(Random(1))
    for _ in range(1000):
        load[balancer.pick(range(100), lambda one: load[one])] += 1
    assert max(load) <= 13


@given(
    st.lists(st.integers(0, 20), min_size=1, max_size=20, unique=True),
    st.sets(st.integers(0, 20)),
    st.integers(),
)
def test_avoids_whom_it_can(candidates: list[int], avoid: set[int], seed: int) -> None:
    picked = LeastRequest(Random(seed)).pick(candidates, float, avoid)
    assert picked in candidates
    assert picked not in avoid or avoid.issuperset(candidates)


@given(weights=st.lists(st.integers(1, 20), min_size=2, max_size=5))
def test_idle_instances_are_drawn_as_their_weights_say(weights: list[int]) -> None:
    one = WeightedLeastRequest[int](Random(1), lambda i: weights[i])
    ids = range(len(weights))
    times = 3000
    picked = Counter(one.pick(ids, lambda i: 1 / weights[i]) for _ in range(times))
    for index, weight in enumerate(weights):
        assert picked[index] / times == pytest.approx(weight / sum(weights), abs=0.05)


def test_of_two_the_one_with_less_to_do_for_its_weight_is_asked() -> None:
    weights, under_way = [3.0, 1.0], [3, 2]
    one = WeightedLeastRequest[int](Random(1), weights.__getitem__)
    picked = Counter(
        one.pick([0, 1], lambda i: (under_way[i] + 1) / weights[i]) for _ in range(1000)
    )
    # 1 only where it is drawn twice, a sixteenth of the time.
    assert 30 < picked[1] < 100
