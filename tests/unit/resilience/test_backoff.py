import itertools
from random import Random

from hypothesis import given
from hypothesis import strategies as st

from seawall.resilience.backoff import ceiling, full_jitter, jittered


def test_ceilings_double_up_to_the_cap() -> None:
    assert [ceiling(attempt, 0.1, 1.0) for attempt in range(1, 7)] == [
        0.1,
        0.2,
        0.4,
        0.8,
        1.0,
        1.0,
    ]
    assert ceiling(100_000, 0.1, 30.0) == 30.0


@given(st.integers(1, 10_000), st.floats(0, 10), st.floats(10, 1000), st.integers())
def test_a_wait_is_between_nothing_and_its_ceiling(
    attempt: int, base: float, cap: float, seed: int
) -> None:
    assert 0 <= jittered(attempt, base, cap, Random(seed)) <= ceiling(attempt, base, cap) <= cap


def test_waits_fill_the_interval_instead_of_doubling_in_step() -> None:
    firsts = [next(full_jitter(1.0, 8.0, Random(seed))) for seed in range(200)]
    assert min(firsts) < 0.1
    assert max(firsts) > 0.9


def test_waits_do_not_end_and_the_same_seed_gives_the_same() -> None:
    first, again = (list(itertools.islice(full_jitter(0.1, 5.0, Random(7)), 100)) for _ in range(2))
    assert first == again
    assert len(first) == 100
    assert max(first[10:]) > 2.0
