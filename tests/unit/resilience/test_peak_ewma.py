import math
from collections import Counter
from random import Random

import pytest

from seawall.errors import Misconfigured
from seawall.resilience.peak_ewma import MAX_HISTORIES, PeakEwma


def idle(_: object) -> float:
    return 1.0


def test_a_slower_answer_is_believed_at_once_and_a_faster_one_slowly() -> None:
    one: PeakEwma[str] = PeakEwma(Random(1), decay=10.0)
    one.observe("a", 0.010, 100.0)
    one.observe("a", 0.500, 101.0)
    assert one.cost("a") == 0.500
    one.observe("a", 0.010, 103.0)
    kept = math.exp(-0.2)
    assert one.cost("a") == pytest.approx(0.500 * kept + 0.010 * (1 - kept))


def test_a_cost_fades_as_others_answer_and_so_a_slow_one_is_asked_again() -> None:
    one: PeakEwma[str] = PeakEwma(Random(1), decay=10.0)
    one.observe("a", 1.0, 100.0)
    one.observe("b", 0.1, 100.0)
    assert {one.pick("ab", idle) for _ in range(50)} == {"b"}
    one.observe("b", 0.1, 150.0)
    assert one.cost("a") == pytest.approx(math.exp(-5.0))
    assert one.pick("ab", idle) == "a"


def test_load_counts_as_well_as_latency() -> None:
    one: PeakEwma[str] = PeakEwma(Random(1))
    one.observe("a", 0.1, 1.0)
    one.observe("b", 0.2, 1.0)
    load = {"a": 3.0, "b": 1.0}
    assert one.pick("ab", load.__getitem__) == "b"
    load["b"] = 2.0
    assert one.pick("ab", load.__getitem__) == "a"


def test_a_newcomer_is_asked_once_and_then_when_it_has_answered() -> None:
    one: PeakEwma[str] = PeakEwma(Random(1), decay=10.0)
    one.observe("a", 0.1, 100.0)
    assert one.pick("ab", idle) == "b"
    assert {one.pick("ab", idle) for _ in range(20)} == {"a"}
    one.observe("b", 0.05, 100.1)
    assert one.pick("ab", idle) == "b"


def test_a_newcomer_that_never_answers_is_asked_again_after_a_while() -> None:
    one: PeakEwma[str] = PeakEwma(Random(1), decay=10.0)
    one.observe("a", 0.1, 100.0)
    assert one.pick("ab", idle) == "b"
    one.observe("a", 0.1, 109.9)
    assert one.pick("ab", idle) == "a"
    one.observe("a", 0.1, 110.1)
    assert one.pick("ab", idle) == "b"
    assert one.pick("ab", idle) == "a"


def test_histories_are_bounded_and_forgotten() -> None:
    one: PeakEwma[int] = PeakEwma(Random(1))
    for number in range(MAX_HISTORIES + 10):
        one.observe(number, 1.0, 1.0)
    assert repr(one) == f"<PeakEwma {MAX_HISTORIES} with a history>"
    assert one.cost(0) == 0.0
    one.forget(MAX_HISTORIES)
    one.forget(MAX_HISTORIES)
    assert one.cost(MAX_HISTORIES) == 0.0


def test_a_slow_instance_gets_less_of_the_traffic() -> None:
    one: PeakEwma[str] = PeakEwma(Random(1))
    seconds = {"a": 0.010, "b": 0.010, "c": 0.100}
    asked: Counter[str] = Counter()
    for number in range(3000):
        picked = one.pick("abc", idle)
        asked[picked] += 1
        one.observe(picked, seconds[picked], number / 1000)
    assert asked["c"] < 60
    assert abs(asked["a"] - asked["b"]) < 600


def test_a_decay_that_makes_no_sense_is_refused() -> None:
    with pytest.raises(Misconfigured):
        PeakEwma(Random(1), decay=0)
