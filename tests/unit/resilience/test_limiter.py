import itertools
import math
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from seawall.errors import Misconfigured
from seawall.resilience.limiter import Gcra, KeyedLimiter, TokenBucket

Limiter = TokenBucket | Gcra
KINDS: list[Callable[[float, float], Limiter]] = [TokenBucket, Gcra]
GAPS = st.lists(st.integers(0, 64).map(lambda part: part / 64), max_size=100)

both = pytest.mark.parametrize("kind", KINDS)


@both
def test_admits_its_burst_at_once_and_then_its_rate(kind: Callable[..., Limiter]) -> None:
    limiter = kind(rate=10, burst=2)
    assert [limiter.acquire(0.0) for _ in range(3)] == [0.0, 0.0, pytest.approx(0.1)]
    assert limiter.acquire(0.05) == pytest.approx(0.05)
    assert limiter.acquire(0.2) == 0.0


@both
def test_a_refusal_takes_nothing(kind: Callable[..., Limiter]) -> None:
    limiter = kind(rate=1, burst=1)
    assert limiter.acquire(0.0) == 0.0
    for _ in range(100):
        assert limiter.acquire(0.5) == pytest.approx(0.5)
    assert limiter.acquire(1.0) == 0.0


@both
def test_saves_up_no_more_than_its_burst(kind: Callable[..., Limiter]) -> None:
    limiter = kind(rate=10, burst=3)
    limiter.acquire(0.0)
    assert sum(limiter.acquire(1e6) == 0.0 for _ in range(10)) == 3


@both
def test_a_clock_that_stands_or_steps_back_gives_nothing(kind: Callable[..., Limiter]) -> None:
    limiter = kind(rate=1, burst=2)
    assert [limiter.acquire(10.0), limiter.acquire(10.0)] == [0.0, 0.0]
    assert limiter.acquire(9.0) > 0
    assert limiter.acquire(10.5) > 0
    assert limiter.acquire(11.0) == 0.0


def test_a_clock_that_steps_back_takes_no_token_away() -> None:
    bucket = TokenBucket(rate=1, burst=2)
    assert bucket.acquire(10.0) == 0.0
    assert bucket.acquire(5.0) == 0.0


@both
@given(
    rate=st.floats(0.01, 1e4),
    burst=st.integers(1, 50),
    start=st.floats(0, 1e7),
)
def test_who_waits_as_long_as_told_is_admitted(
    kind: Callable[..., Limiter], rate: float, burst: int, start: float
) -> None:
    limiter = kind(rate, burst)
    now = start
    for _ in range(burst):
        assert limiter.acquire(now) == 0.0
    for _ in range(5):
        now += limiter.acquire(now) or 0.0
        assert limiter.acquire(now) == 0.0


@both
@given(gaps=GAPS, rate=st.sampled_from([1, 4, 32]), burst=st.integers(1, 10))
def test_never_more_than_burst_and_rate_in_any_interval(
    kind: Callable[..., Limiter], gaps: list[float], rate: int, burst: int
) -> None:
    limiter = kind(rate, burst)
    times = [now for now in itertools.accumulate(gaps) if limiter.acquire(now) == 0.0]
    for first, last in itertools.combinations(range(len(times)), 2):
        admitted = last - first + 1
        assert admitted <= burst + rate * (times[last] - times[first]) + 0.02


@both
def test_coming_a_little_early_each_time_gains_nothing(kind: Callable[..., Limiter]) -> None:
    limiter = kind(rate=10_000, burst=1)
    calls = range(100_000)
    assert sum(limiter.acquire(call * 0.0000995) == 0.0 for call in calls) <= 99_501


@given(gaps=GAPS, rate=st.sampled_from([1, 4, 32]), burst=st.integers(1, 10))
def test_both_kinds_and_a_key_of_its_own_decide_the_same(
    gaps: list[float], rate: int, burst: int
) -> None:
    bucket, gcra, keyed = TokenBucket(rate, burst), Gcra(rate, burst), KeyedLimiter(rate, burst)
    for now in itertools.accumulate(gaps):
        wait = bucket.acquire(now)
        assert gcra.acquire(now) == pytest.approx(wait)
        verdict = keyed.acquire("key", now)
        assert verdict.retry_after == pytest.approx(wait)
        assert verdict.allowed == (wait == 0.0)


@pytest.mark.parametrize("kind", [TokenBucket, Gcra, KeyedLimiter])
@pytest.mark.parametrize(
    ("rate", "burst"), [(0, 1), (-1, 1), (1, 0.5), (math.nan, 1), (1, math.nan)]
)
def test_a_limit_that_makes_no_sense_is_refused(
    kind: Callable[..., object], rate: float, burst: float
) -> None:
    with pytest.raises(Misconfigured):
        kind(rate, burst)


def test_they_say_what_they_hold() -> None:
    bucket, gcra = TokenBucket(10, 2), Gcra(10, 2)
    bucket.acquire(1.0)
    gcra.acquire(1.0)
    assert repr(bucket) == "<TokenBucket 1.0 of 2, 10/s>"
    assert repr(gcra) == "<Gcra one in 0.1 s, full at 1.100>"
    assert repr(KeyedLimiter(10, 2, max_keys=7)) == "<KeyedLimiter 10/s, 0 of 7 keys>"


# -- keys


def test_a_verdict_carries_what_the_rate_limit_headers_say() -> None:
    limiter = KeyedLimiter(rate=2, burst=3)
    verdicts = [limiter.acquire("ann", 100.0) for _ in range(4)]
    assert [(v.allowed, v.remaining, v.retry_after, v.reset) for v in verdicts] == [
        (True, 2, 0.0, 0.5),
        (True, 1, 0.0, 1.0),
        (True, 0, 0.0, 1.5),
        (False, 0, 0.5, 1.5),
    ]
    assert repr(verdicts[0]) == "<Verdict allowed, 2 left, full in 0.500 s>"


@given(rate=st.floats(0.01, 1e4), burst=st.integers(1, 50), now=st.floats(0, 1e7))
def test_remaining_counts_down_to_nothing(rate: float, burst: int, now: float) -> None:
    limiter = KeyedLimiter(rate, burst)
    seen = [limiter.acquire("ann", now).remaining for _ in range(burst)]
    assert seen == list(range(burst - 1, -1, -1))
    assert not limiter.acquire("ann", now).allowed


def test_keys_do_not_share() -> None:
    limiter = KeyedLimiter(rate=1, burst=1)
    assert limiter.acquire("ann", 0.0).allowed
    assert not limiter.acquire("ann", 0.0).allowed
    assert limiter.acquire("bob", 0.0).allowed


def test_a_key_is_full_again_after_a_while() -> None:
    limiter = KeyedLimiter(rate=1, burst=2)
    limiter.acquire("ann", 0.0)
    assert limiter.acquire("ann", 100.0).remaining == 1


def test_idle_keys_are_forgotten_as_new_ones_come() -> None:
    limiter = KeyedLimiter(rate=1, burst=1, max_keys=1000)
    for number in range(500):
        limiter.acquire(f"morning-{number}", 0.0)
    for number in range(500):
        limiter.acquire(f"evening-{number}", 1000.0)
    assert len(limiter) == 500


def test_a_full_table_forgets_the_least_used_key() -> None:
    limiter = KeyedLimiter(rate=1, burst=10, max_keys=3)
    for key, calls in (("ann", 5), ("bob", 1), ("cem", 5)):
        for _ in range(calls):
            limiter.acquire(key, 0.0)
    assert limiter.acquire("dan", 0.0).remaining == 9
    assert len(limiter) == 3
    assert limiter.acquire("ann", 0.0).remaining == 4
    assert limiter.acquire("cem", 0.0).remaining == 4
    assert limiter.acquire("bob", 0.0).remaining == 9  # as if never seen


def test_a_key_over_its_limit_is_never_forgotten_and_newcomers_share() -> None:
    limiter = KeyedLimiter(rate=1, burst=2, max_keys=3)
    for key in ("ann", "bob", "cem"):
        while limiter.acquire(key, 0.0).allowed:
            pass
    newcomers = [limiter.acquire(f"new-{number}", 0.0) for number in range(3)]
    assert [verdict.allowed for verdict in newcomers] == [True, True, False]
    assert newcomers[0].remaining == 1
    assert newcomers[2].retry_after == 1.0
    assert not any(limiter.acquire(key, 0.0).allowed for key in ("ann", "bob", "cem"))
    assert limiter.acquire("new-9", 100.0).remaining == 1  # there is room again
    assert len(limiter) == 1


@given(gaps=GAPS, rate=st.sampled_from([1, 4, 32]), burst=st.integers(1, 10))
def test_a_call_given_back_was_never_made(gaps: list[float], rate: int, burst: int) -> None:
    asked, never = KeyedLimiter(rate, burst), KeyedLimiter(rate, burst)
    for now in itertools.accumulate(gaps):
        if asked.acquire("ann", now).allowed:
            asked.give_back("ann", now)
        verdict = asked.acquire("ann", now)
        assert verdict.allowed == never.acquire("ann", now).allowed


def test_newcomers_without_room_give_back_to_their_crowd() -> None:
    limiter = KeyedLimiter(rate=1, burst=1, max_keys=1)
    limiter.acquire("ann", 0.0)
    for number in range(10):
        assert limiter.acquire(f"new-{number}", 0.0).allowed
        limiter.give_back(f"new-{number}", 0.0)
    assert limiter.acquire("new", 0.0).allowed
    assert not limiter.acquire("newer", 0.0).allowed


def test_a_limit_may_change_and_what_was_used_changes_with_it() -> None:
    limiter = KeyedLimiter(rate=10, burst=10)
    for _ in range(5):
        limiter.acquire("ann", 0.0)
    limiter.retune(rate=2, burst=2)
    assert [limiter.acquire("ann", 0.0).allowed for _ in range(2)] == [True, False]
    with pytest.raises(Misconfigured):
        limiter.retune(rate=0, burst=1)


def test_a_key_may_be_counted_elsewhere_for_a_while() -> None:
    limiter = KeyedLimiter(rate=1, burst=10)
    limiter.acquire("ann", 0.0)
    limiter.forget("ann")
    limiter.forget("nobody")
    assert len(limiter) == 0
    limiter.owe("ann", 7.5, now=1.0)
    assert limiter.acquire("ann", 1.0).remaining == 1


def test_a_table_without_room_is_refused() -> None:
    with pytest.raises(Misconfigured):
        KeyedLimiter(1, 1, max_keys=0)


class AnyKeys(RuleBasedStateMachine):
    """Whatever keys come: the table is bounded, and who is over the limit stays over it."""

    def __init__(self) -> None:
        super().__init__()
        self.limiter = KeyedLimiter(rate=1, burst=3, max_keys=4)
        self.now = 0.0
        self.over: dict[str, float] = {}  # key, until when it is over its limit at least

    @rule(quarters=st.integers(1, 12))
    def wait(self, quarters: int) -> None:
        self.now += quarters / 4

    @rule(key=st.sampled_from("abcdefgh"), times=st.integers(1, 5))
    def call(self, key: str, times: int) -> None:
        for _ in range(times):
            held = key in self.limiter._full_at
            verdict = self.limiter.acquire(key, self.now)
            assert 0 <= verdict.remaining <= 2
            assert 0 <= verdict.reset <= 3
            assert (verdict.retry_after > 0) != verdict.allowed
            if self.over.get(key, -1.0) > self.now:
                assert not verdict.allowed
            if held and not verdict.allowed:
                self.over[key] = self.now + verdict.retry_after

    @invariant()
    def bounded(self) -> None:
        assert len(self.limiter) <= 4


TestAnyKeys = AnyKeys.TestCase
TestAnyKeys.settings = settings(max_examples=40)
