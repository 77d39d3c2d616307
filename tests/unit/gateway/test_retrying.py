"""Which tries are followed by another, and after how long."""

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seawall.errors import Misconfigured
from seawall.gateway.retrying import (
    CONNECT,
    EVERY,
    RESET,
    TIMEOUT,
    Failed,
    Retry,
    Retrying,
    pause_asked,
)
from seawall.resilience.budget import RetryBudget
from seawall.resilience.retry import Again, Stop

NOW = 1000.0


def failed(reason: str, **known: object) -> Failed:
    """A first try of a GET, that took 10 ms of a second."""
    made = Failed(reason, number=1, method=b"GET", keyed=False, took=0.01, deadline=NOW + 1.0)
    for name, value in known.items():
        setattr(made, name, value)
    return made


def decided(retry: Retry, tried: Failed, budget: RetryBudget | None = None) -> Again | Stop:
    return Retrying(retry, 3).decide(tried, budget or RetryBudget(), Random(1), NOW)


USUAL = Retry()
ON_503 = Retry(on=("503",))


@pytest.mark.parametrize(
    ("retry", "tried", "follows"),
    [
        # What never answered says nothing about another instance, which is asked at once.
        (USUAL, failed(CONNECT, elsewhere=True), Again(0.0)),
        (USUAL, failed(RESET, elsewhere=True), Again(0.0)),
        (USUAL, failed(TIMEOUT, elsewhere=True), Again(0.0)),
        (USUAL, failed(CONNECT, elsewhere=True, method=b"POST"), Again(0.0)),
        (USUAL, failed(CONNECT), Stop.FINAL),
        (USUAL, failed(RESET, method=b"POST"), Stop.NOT_IDEMPOTENT),
        (USUAL, failed(TIMEOUT, method=b"PATCH"), Stop.NOT_IDEMPOTENT),
        (USUAL, failed("503"), Stop.FINAL),
        (Retry(on=("503",)), failed(RESET), Stop.FINAL),
        (USUAL, failed(RESET, number=3), Stop.ATTEMPTS),
        (Retry(attempts=1), failed(RESET), Stop.ATTEMPTS),
        (ON_503, failed("503", spent=True), Stop.SPENT),
        (ON_503, failed("503", pause=0.9, took=0.2), Stop.DEADLINE),
        (ON_503, failed("503", pause=1.1, deadline=NOW + 9), Stop.PATIENCE),
        # As long as the last try took is not left.
        (ON_503, failed("503", took=0.999), Stop.DEADLINE),
        (ON_503, failed("503", pause=0.5), Again(0.5)),
        (ON_503, failed("503", pause=0.5, elsewhere=True), Again(0.5)),
    ],
)
def test_what_follows(retry: Retry, tried: Failed, follows: Again | Stop) -> None:
    assert decided(retry, tried) == follows


@pytest.mark.parametrize("method", [b"GET", b"HEAD", b"OPTIONS", b"PUT", b"DELETE"])
def test_an_idempotency_key_makes_a_method_as_good_as(method: bytes) -> None:
    assert isinstance(decided(USUAL, failed(RESET, method=method)), Again)
    assert isinstance(decided(USUAL, failed(RESET, method=b"POST", keyed=True)), Again)


def test_methods_can_be_named() -> None:
    assert isinstance(decided(Retry(methods=EVERY), failed(RESET, method=b"POST")), Again)
    assert isinstance(decided(Retry(methods=("post",)), failed(RESET, method=b"POST")), Again)
    assert decided(Retry(methods=("post",)), failed(RESET)) is Stop.NOT_IDEMPOTENT


def test_a_retry_that_is_not_made_costs_no_budget() -> None:
    budget = RetryBudget(ratio=0.0, floor=0.1, window=10.0)
    for tried in (failed("503"), failed(RESET, method=b"POST"), failed(RESET, number=3)):
        assert isinstance(decided(USUAL, tried, budget), Stop)
    assert budget.left(NOW) == 1
    assert isinstance(decided(USUAL, failed(RESET), budget), Again)
    assert decided(USUAL, failed(RESET), budget) is Stop.BUDGET


@given(
    seed=st.integers(),
    number=st.integers(1, 9),
    took=st.floats(0, 2),
    left=st.floats(0, 5),
    pause=st.none() | st.floats(0, 5),
)
def test_no_retry_begins_too_late(
    seed: int, number: int, took: float, left: float, pause: float | None
) -> None:
    retry = Retry(attempts=10, on=("503",))
    tried = failed("503", number=number, took=took, deadline=NOW + left, pause=pause)
    follows = Retrying(retry, 3).decide(tried, RetryBudget(), Random(seed), NOW)
    if isinstance(follows, Again):
        assert (pause or 0.0) <= follows.wait <= max(retry.cap, pause or 0.0)
        assert follows.wait + took < left + 1e-6
        assert follows.wait <= max(retry.cap, retry.patience)
    else:
        assert follows in (Stop.DEADLINE, Stop.PATIENCE)


@pytest.mark.parametrize(
    ("value", "seconds"),
    [(b"0", 0.0), (b"12", 12.0), (b"", None), (b"-1", None), (b"1.5", None), (b"9" * 10, None)],
)
def test_a_pause_is_asked_for_in_seconds(value: bytes, seconds: float | None) -> None:
    assert pause_asked(value) == seconds


@pytest.mark.parametrize(
    "wrong",
    [{"on": ("404",)}, {"on": ("broken",)}, {"attempts": -1}, {"base": 2.0}, {"patience": -1.0}],
)
def test_a_policy_that_cannot_be_meant_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(Misconfigured):
        Retry(**wrong)  # type: ignore[arg-type]  # by name
