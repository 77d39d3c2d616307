import itertools
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from seawall.errors import Misconfigured
from seawall.resilience.sliding import KeyedWindow

GAPS = st.lists(st.integers(0, 64).map(lambda part: part / 64), max_size=100)


def taken(limiter: KeyedWindow, now: float) -> int:
    """How many calls are admitted at once."""
    return sum(limiter.acquire("ann", now).allowed for _ in range(1000))


def test_a_verdict_carries_what_the_rate_limit_headers_say() -> None:
    limiter = KeyedWindow(2, 8.0)
    verdicts = [limiter.acquire("ann", now) for now in (80.0, 82.0, 84.0)]
    assert [(v.allowed, v.remaining, v.retry_after, v.reset) for v in verdicts] == [
        (True, 1, 0.0, 16.0),
        (True, 0, 0.0, 14.0),
        (False, 0, 4.0, 12.0),
    ]


@pytest.mark.parametrize(
    ("part", "admitted"), [(0.0, 1), (0.05, 1), (0.1, 2), (0.5, 6), (0.95, 10), (1.0, 10)]
)
def test_the_last_window_counts_for_the_part_still_covered(part: float, admitted: int) -> None:
    limiter = KeyedWindow(10, 60.0)
    assert taken(limiter, 120.0) == 10
    assert taken(limiter, 180.0 + 60.0 * part) == admitted


def test_a_key_that_was_quiet_for_two_windows_starts_anew() -> None:
    limiter = KeyedWindow(10, 60.0)
    taken(limiter, 0.0)
    assert taken(limiter, 120.0) == 10


def test_one_a_minute_is_one_a_minute() -> None:
    limiter = KeyedWindow(1, 60.0)
    assert [limiter.acquire("ann", 60.0 * minute).allowed for minute in range(5)] == [True] * 5


@given(
    limit=st.integers(1, 1000),
    window=st.sampled_from([0.1, 1.0, 60.0, 3600.0]),
    start=st.floats(0, 1e7),
    gaps=st.lists(st.floats(0, 0.7), max_size=10),
)
def test_who_waits_as_long_as_told_is_admitted(
    limit: int, window: float, start: float, gaps: list[float]
) -> None:
    limiter, now = KeyedWindow(limit, window), start
    for gap in gaps:
        now += gap * window
        while (verdict := limiter.acquire("ann", now)).allowed:
            pass
        assert 0 < verdict.retry_after <= verdict.reset <= 2 * window
        now += verdict.retry_after
        assert limiter.acquire("ann", now).allowed


@given(gaps=GAPS, limit=st.integers(1, 6))
def test_never_more_than_the_limit_in_a_window_of_the_grid_nor_twice_it_in_any(
    gaps: list[float], limit: int
) -> None:
    limiter = KeyedWindow(limit, 4.0)
    times = [now for now in itertools.accumulate(gaps) if limiter.acquire("ann", now).allowed]
    for first, last in itertools.combinations_with_replacement(range(len(times)), 2):
        admitted = last - first + 1
        if times[first] // 4 == times[last] // 4:
            assert admitted <= limit
        if times[last] - times[first] < 4:
            assert admitted <= 2 * limit


@given(st.integers(1, 100), st.floats(0, 1e6))
def test_remaining_counts_down_to_nothing(limit: int, now: float) -> None:
    limiter = KeyedWindow(limit, 10.0)
    seen = [limiter.acquire("ann", now).remaining for _ in range(limit)]
    assert seen == list(range(limit - 1, -1, -1))
    assert not limiter.acquire("ann", now).allowed


def test_a_clock_that_steps_back_gives_nothing() -> None:
    limiter = KeyedWindow(2, 10.0)
    assert taken(limiter, 105.0) == 2
    assert taken(limiter, 85.0) == 0


def test_keys_do_not_share() -> None:
    limiter = KeyedWindow(1, 1.0)
    assert [limiter.acquire(key, 0.0).allowed for key in ("ann", "ann", "bob")] == [
        True,
        False,
        True,
    ]
    assert repr(limiter) == "<KeyedWindow 1 in 1 s, 2 of 65536 keys>"


def test_quiet_keys_are_forgotten_as_new_ones_come() -> None:
    limiter = KeyedWindow(1, 1.0, max_keys=1000)
    for when in (0.0, 10.0):
        for number in range(500):
            limiter.acquire(f"at-{when}-{number}", when)
    assert len(limiter) == 500


def test_a_full_table_forgets_the_least_used_key_and_never_one_over_its_limit() -> None:
    limiter = KeyedWindow(3, 10.0, max_keys=2)
    for key, calls in (("ann", 3), ("bob", 1)):
        for _ in range(calls):
            limiter.acquire(key, 0.0)
    assert limiter.acquire("cem", 0.0).remaining == 2
    assert limiter.acquire("cem", 0.0).remaining == 1
    assert limiter.acquire("cem", 0.0).remaining == 0
    newcomers = [limiter.acquire(f"new-{number}", 0.0).allowed for number in range(5)]
    assert newcomers == [True, True, True, False, False]  # they share one count
    assert not limiter.acquire("ann", 0.0).allowed
    assert not limiter.acquire("cem", 0.0).allowed


@pytest.mark.parametrize(
    ("limit", "window", "max_keys"),
    [(0, 1.0, 1), (1, 0.0, 1), (1, math.inf, 1), (1, math.nan, 1), (1, 1.0, 0)],
)
def test_a_limit_that_makes_no_sense_is_refused(limit: int, window: float, max_keys: int) -> None:
    with pytest.raises(Misconfigured):
        KeyedWindow(limit, window, max_keys)


class AnyKeys(RuleBasedStateMachine):
    """Whatever keys come: the table is bounded, and a refusal says how long it lasts."""

    def __init__(self) -> None:
        super().__init__()
        self.limiter = KeyedWindow(3, 4.0, max_keys=4)
        self.now = 0.0
        self.over: dict[str, float] = {}

    @rule(quarters=st.integers(1, 30))
    def wait(self, quarters: int) -> None:
        self.now += quarters / 4

    @rule(key=st.sampled_from("abcdefgh"), times=st.integers(1, 5))
    def call(self, key: str, times: int) -> None:
        for _ in range(times):
            held = key in self.limiter._counts
            verdict = self.limiter.acquire(key, self.now)
            assert 0 <= verdict.remaining <= 2
            assert 0 <= verdict.retry_after <= verdict.reset <= 8
            assert (verdict.retry_after > 0) != verdict.allowed
            if self.over.get(key, -1.0) > self.now + 1e-5:
                assert not verdict.allowed
            if held and not verdict.allowed:
                self.over[key] = self.now + verdict.retry_after

    @invariant()
    def bounded(self) -> None:
        assert len(self.limiter) <= 4


TestAnyKeys = AnyKeys.TestCase
TestAnyKeys.settings = settings(max_examples=40)


def test_a_call_given_back_was_never_made() -> None:
    limit = KeyedWindow(2, 10.0, max_keys=1)
    for _ in range(10):
        assert limit.acquire("ann", 1.0).allowed
        limit.give_back("ann", 1.0)
    assert [limit.acquire("ann", 1.0).allowed for _ in range(3)] == [True, True, False]
    for _ in range(10):  # one of those for whom there is no room
        assert limit.acquire("bob", 1.0).allowed
        limit.give_back("bob", 1.0)
