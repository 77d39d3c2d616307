"""Whether and when a failed message comes again."""

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seawall.errors import Misconfigured, NotSent, Refused, Unavailable
from seawall.messaging.outcomes import Reject, Retry, Undecodable
from seawall.messaging.policy import (
    EXHAUSTED,
    REJECTED,
    UNDECODABLE,
    Again,
    GiveUp,
    RetryPolicy,
)

RNG = Random(7)
BOOM = ValueError("boom")


def test_the_first_retries_are_immediate() -> None:
    policy = RetryPolicy(immediate=2)
    assert policy.decide(1, BOOM, RNG) == policy.decide(2, BOOM, RNG) == Again(0.0)


@given(st.integers(2, 200), st.integers(0, 2**32))
def test_later_ones_back_off_with_full_jitter_below_a_doubling_ceiling(
    attempt: int, seed: int
) -> None:
    policy = RetryPolicy(attempts=1_000, immediate=1, base=0.5, cap=60.0)
    decision = policy.decide(attempt, BOOM, Random(seed))
    assert isinstance(decision, Again)
    assert 0 <= decision.delay <= min(60.0, 0.5 * 2.0 ** (attempt - 2))


def test_the_ceiling_is_used() -> None:
    policy = RetryPolicy(attempts=100, immediate=0, base=1.0, cap=8.0)
    delays = [policy.decide(10, BOOM, Random(seed)) for seed in range(200)]
    assert max(d.delay for d in delays if isinstance(d, Again)) > 7.0
    assert min(d.delay for d in delays if isinstance(d, Again)) < 1.0


def test_attempts_are_bounded() -> None:
    policy = RetryPolicy(attempts=3)
    assert isinstance(policy.decide(2, BOOM, RNG), Again)
    assert policy.decide(3, BOOM, RNG) == GiveUp(EXHAUSTED)
    assert policy.decide(3, Retry(after=1), RNG) == GiveUp(EXHAUSTED)
    assert RetryPolicy(attempts=1).decide(1, BOOM, RNG) == GiveUp(EXHAUSTED)


@pytest.mark.parametrize(
    ("error", "delay"),
    [
        (Retry(after=7.5), 7.5),
        (Retry(after=0), 0.0),
        (Retry(after=-1), 0.0),
        (NotSent("busy", retry_after=3), 3),
        (Unavailable("away", retry_after=2), 2),
    ],
)
def test_a_delay_the_failure_names_is_kept(error: Exception, delay: float) -> None:
    assert RetryPolicy().decide(5, error, RNG) == Again(delay)


@pytest.mark.parametrize("error", [Retry(), NotSent("busy")])
def test_without_a_named_delay_the_policy_decides(error: Exception) -> None:
    assert RetryPolicy(immediate=1).decide(1, error, RNG) == Again(0.0)


class Fatal(Exception):
    pass


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (Reject("no"), REJECTED),
        (Refused("no"), REJECTED),
        (Undecodable("not JSON"), UNDECODABLE),
        (Fatal(), REJECTED),
    ],
)
def test_some_failures_are_final(error: Exception, reason: str) -> None:
    assert RetryPolicy(fatal=(Refused, Fatal)).decide(1, error, RNG) == GiveUp(reason)


@pytest.mark.parametrize(
    "wrong", [{"attempts": 0}, {"immediate": -1}, {"base": -1.0}, {"base": 2.0, "cap": 1.0}]
)
def test_nonsense_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(Misconfigured):
        RetryPolicy(**wrong)  # type: ignore[arg-type]


class Busy(Exception):
    retry_after = 12


class Confused(Exception):
    retry_after = "soon"


def test_any_error_may_say_when_to_come_again() -> None:
    policy = RetryPolicy(immediate=0, base=0.0, cap=0.0)
    assert policy.decide(1, Busy(), RNG) == Again(12.0)
    assert policy.decide(1, Confused(), RNG) == Again(0.0)
    error = Busy()
    error.retry_after = 10**12
    assert policy.decide(1, error, RNG) == Again(86_400.0)


def test_classes_of_errors_that_are_retried_and_that_are_not() -> None:
    policy = RetryPolicy(fatal=(KeyError,), only=(OSError, KeyError))
    assert policy.decide(1, KeyError("k"), RNG) == GiveUp(REJECTED)
    assert policy.decide(1, ValueError("v"), RNG) == GiveUp(REJECTED)
    assert isinstance(policy.decide(1, ConnectionError("c"), RNG), Again)
    assert isinstance(policy.decide(1, Retry(), RNG), Again)  # asked for, whatever the classes
