from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seawall.errors import Misconfigured
from seawall.resilience.quantile import Quantile


@given(
    st.lists(st.floats(1e-4, 400.0), min_size=1, max_size=60),
    st.sampled_from([0.5, 0.9, 0.95]),
)
def test_is_at_most_a_tenth_above_the_true_one(times: list[float], which: float) -> None:
    quantile = Quantile(which)
    for seconds in times:
        quantile.add(seconds, 0.0)
    times.sort()
    true = next(one for rank, one in enumerate(times, 1) if rank >= which * len(times))
    value = quantile.value()
    assert value is not None
    assert true * 0.999 <= value <= true * 1.101


def test_says_nothing_before_there_is_enough() -> None:
    quantile = Quantile(0.95)
    assert quantile.value() is None
    for _ in range(99):
        quantile.add(0.01, 0.0)
    assert quantile.value(least=100) is None
    quantile.add(0.01, 0.0)
    assert quantile.value(least=100) == pytest.approx(0.01, rel=0.1)


def test_forgets_what_is_older_than_two_spans() -> None:
    quantile = Quantile(0.5, span=10.0)
    for number in range(100):
        quantile.add(1.0, number / 10)
    for number in range(10):
        quantile.add(0.01, 10.0 + number)
    assert quantile.value() == pytest.approx(1.0, rel=0.1)  # the last span still counts
    quantile.add(0.01, 20.0)
    assert quantile.value() == pytest.approx(0.01, rel=0.1)
    quantile.add(0.5, 100.0)
    assert quantile.value() == pytest.approx(0.5, rel=0.1)


def test_follows_within_a_few_samples() -> None:
    quantile = Quantile(0.95)
    rng = Random(1)
    for _ in range(10_000):
        quantile.add(rng.expovariate(100.0), 0.0)
        quantile.value()
    assert quantile.value() == pytest.approx(0.030, rel=0.15)  # ln 20 hundredths of a second


def test_the_fastest_and_the_slowest_fit() -> None:
    quantile = Quantile(0.99)
    quantile.add(0.0, 0.0)
    assert quantile.value() == pytest.approx(1.1e-4)
    quantile.add(1e9, 0.0)
    for _ in range(64):
        quantile.add(1e9, 0.0)
    assert quantile.value() == pytest.approx(507, rel=0.1)


@pytest.mark.parametrize(("which", "span"), [(0.0, 1.0), (1.0, 1.0), (0.5, 0.0)])
def test_what_makes_no_sense_is_refused(which: float, span: float) -> None:
    with pytest.raises(Misconfigured):
        Quantile(which, span)
