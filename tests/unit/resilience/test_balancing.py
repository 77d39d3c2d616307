"""What every balancer promises, whatever it is called."""

import json
from collections import Counter
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seawall.errors import NoInstance
from seawall.resilience.balancer import Balancer, RoundRobin, Weighted
from seawall.resilience.balancing import Balancing, balancer

each = pytest.mark.parametrize("kind", list(Balancing))


def idle(_: object) -> float:
    return 1.0


def make(kind: Balancing, seed: int = 1) -> Balancer[int]:
    return balancer(kind, Random(seed), lambda _: 1.0, str)


@each
def test_nobody_to_ask_is_said(kind: Balancing) -> None:
    for key in ("", "ann"):
        with pytest.raises(NoInstance):
            make(kind).pick([], idle, key=key)


@each
def test_the_only_one_is_asked(kind: Balancing) -> None:
    for key in ("", "ann"):
        assert make(kind).pick([7], lambda _: 1e9, [7], key) == 7


@each
@given(
    rounds=st.lists(
        st.tuples(st.lists(st.integers(0, 9), min_size=1, unique=True), st.sets(st.integers(0, 9))),
        max_size=8,
    ),
    key=st.text(max_size=5),
)
def test_avoids_whom_it_can_whoever_comes_and_goes(
    kind: Balancing, rounds: list[tuple[list[int], set[int]]], key: str
) -> None:
    one = make(kind)
    for candidates, avoid in rounds:
        for _ in range(3):
            picked = one.pick(candidates, float, avoid, key)
            assert picked in candidates
            assert picked not in avoid or avoid.issuperset(candidates)


@each
def test_idle_ones_share_the_traffic_without_keys_and_with_many(kind: Balancing) -> None:
    one = make(kind)
    asked = Counter(one.pick(range(5), idle, (), f"user-{number}") for number in range(5000))
    assert min(asked.values()) > 700
    assert max(asked.values()) < 1350


def test_names_are_what_a_configuration_says() -> None:
    assert json.dumps(list(Balancing)) == (
        '["round-robin", "weighted", "least-request", "peak-ewma", "consistent-hash"]'
    )


# -- round robin


def test_round_robin_goes_round() -> None:
    one = RoundRobin(start=1)
    assert [one.pick("abc", idle) for _ in range(6)] == list("bcabca")


# -- weighted


def weighted(weights: dict[str, float]) -> Weighted[str]:
    return Weighted(weights.__getitem__)


def test_the_heavy_one_is_not_asked_all_at_once() -> None:
    # Not aaaaabc; nginx's smooth round robin (52327e0627f4) has aabacaa.
    one = weighted({"a": 5, "b": 1, "c": 1})
    assert "".join(one.pick("abc", idle) for _ in range(14)) == "aaabcaa" * 2


@given(st.lists(st.integers(1, 20), min_size=1, max_size=8), st.integers(0, 200))
def test_nobody_is_ever_more_than_a_turn_ahead(weights: list[int], picks: int) -> None:
    one: Weighted[int] = Weighted(weights.__getitem__)
    asked = Counter(one.pick(range(len(weights)), idle) for _ in range(picks))
    turns = [(asked[number] / weight, weight) for number, weight in enumerate(weights)]
    for a, a_weight in turns:
        for b, b_weight in turns:
            assert abs(a - b) <= 1 / a_weight + 1 / b_weight + 1e-9


def test_a_newcomer_and_one_that_was_away_get_their_share_and_no_more() -> None:
    one = weighted(dict.fromkeys("abc", 1.0))
    for _ in range(1000):
        one.pick("ab", idle)
    asked = Counter(one.pick("abc", idle) for _ in range(300))  # c is new
    assert max(asked.values()) - min(asked.values()) <= 1
    for _ in range(1000):
        one.pick("ac", idle)
    asked = Counter(one.pick("abc", idle) for _ in range(300))  # b was away
    assert max(asked.values()) - min(asked.values()) <= 2


def test_a_weight_may_change_at_any_time() -> None:
    weights = {"a": 1.0, "b": 0.0}
    one = weighted(weights)
    assert Counter(one.pick("ab", idle) for _ in range(40))["b"] == 0
    weights["b"] = 3.0
    asked = Counter(one.pick("ab", idle) for _ in range(400))
    assert 240 <= asked["b"] <= 300


def test_turns_of_those_long_gone_are_forgotten() -> None:
    one: Weighted[int] = Weighted(lambda _: 1.0)
    for number in range(1000):
        one.pick([number, number + 1], idle)
    assert len(one._turns) < 100
