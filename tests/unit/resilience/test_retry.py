import math
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seawall.errors import (
    BreakerOpen,
    DeadlineExceeded,
    Full,
    Misconfigured,
    NoInstance,
    NotSent,
    OutcomeUnknown,
    RateLimited,
    Refused,
    SeawallError,
)
from seawall.resilience.budget import RetryBudget
from seawall.resilience.deadline import Deadline
from seawall.resilience.retry import Again, RetryConfig, Stop, Try, decide

PLENTY = {"ratio": 0.0, "floor": 1e6}
USUAL = RetryConfig()
NONE = {"ratio": 0.0, "floor": 0.0}


def verdict(
    error: SeawallError,
    *,
    number: int = 1,
    idempotent: bool = True,
    deadline: Deadline | None = None,
    elsewhere: bool = False,
    config: RetryConfig = USUAL,
    budget: RetryBudget | None = None,
    now: float = 0.0,
) -> Again | Stop:
    tried = Try(
        error=error, number=number, idempotent=idempotent, deadline=deadline, elsewhere=elsewhere
    )
    budget = budget or RetryBudget(**PLENTY)
    return decide(tried, config=config, budget=budget, rng=Random(1), now=now)


@pytest.mark.parametrize(
    ("error", "idempotent", "again"),
    [
        (NotSent("refused"), False, True),
        (NotSent("refused"), True, True),
        (NoInstance("none"), False, True),
        (BreakerOpen("open"), False, Stop.OPEN),
        (OutcomeUnknown("reset"), True, True),
        (OutcomeUnknown("reset"), False, Stop.NOT_IDEMPOTENT),
        (DeadlineExceeded("late"), False, Stop.NOT_IDEMPOTENT),
        (Refused("no"), True, Stop.FINAL),
        (Misconfigured("typo"), True, Stop.FINAL),
    ],
)
def test_the_error_says_whether_it_may_be_tried_again(
    error: SeawallError, idempotent: bool, again: bool | Stop
) -> None:
    found = verdict(error, idempotent=idempotent)
    assert isinstance(found, Again) if again is True else found is again


@pytest.mark.parametrize("kind", [NotSent, OutcomeUnknown])
def test_what_a_layer_below_has_retried_is_not_retried_again(kind: type[SeawallError]) -> None:
    error = kind("tried thrice")
    error.spent = True
    assert verdict(error) is Stop.SPENT


def test_tries_are_counted_with_the_first() -> None:
    config = RetryConfig(attempts=2)
    assert isinstance(verdict(NotSent("x"), number=1, config=config), Again)
    assert verdict(NotSent("x"), number=2, config=config) is Stop.ATTEMPTS


@given(st.integers(1, 1000), st.integers())
def test_a_wait_stays_below_its_ceiling(number: int, seed: int) -> None:
    config = RetryConfig(attempts=2000, base=0.1, cap=0.4)
    tried = Try(error=NotSent("x"), number=number, idempotent=False)
    budget = RetryBudget(**PLENTY)
    found = decide(tried, config=config, budget=budget, rng=Random(seed), now=0.0)
    assert isinstance(found, Again)
    assert 0 <= found.wait <= min(0.4, 0.1 * 2 ** min(number - 1, 10))


def test_a_retry_after_is_waited_out() -> None:
    assert verdict(RateLimited("429", retry_after=3.0)) == Again(3.0)


def test_a_retry_after_beyond_our_patience_is_for_the_caller() -> None:
    assert verdict(RateLimited("429", retry_after=6.0)) is Stop.PATIENCE
    config = RetryConfig(patience=10.0)
    assert verdict(RateLimited("429", retry_after=6.0), config=config) == Again(6.0)


@pytest.mark.parametrize("error", [BreakerOpen("x", retry_after=60), Full("x", retry_after=60)])
def test_another_instance_is_not_bound_by_this_ones_breaker(error: NotSent) -> None:
    found = verdict(error, elsewhere=True)
    assert isinstance(found, Again)
    assert found.wait < 1


def test_an_open_breaker_is_not_waited_for() -> None:
    assert verdict(BreakerOpen("open", retry_after=0.1)) is Stop.OPEN
    assert verdict(Full("full", retry_after=0.1)) == Again(0.1)


def test_another_instance_is_bound_by_the_limit_of_all() -> None:
    assert verdict(RateLimited("429", retry_after=3.0), elsewhere=True) == Again(3.0)


def test_no_wait_beyond_the_deadline() -> None:
    error = NotSent("busy", retry_after=2.0)
    assert verdict(error, deadline=Deadline(12.0), now=10.0) is Stop.DEADLINE
    assert verdict(error, deadline=Deadline(12.1), now=10.0) == Again(2.0)
    assert verdict(OutcomeUnknown("late"), deadline=Deadline(9.0), now=10.0) is Stop.DEADLINE


def test_nothing_without_a_budget() -> None:
    assert verdict(NotSent("x"), budget=RetryBudget(**NONE)) is Stop.BUDGET


def test_only_a_retry_that_will_happen_is_charged() -> None:
    budget = RetryBudget(ratio=0.0, floor=0.1, window=10.0)
    verdict(Refused("no"), budget=budget)
    verdict(OutcomeUnknown("?"), idempotent=False, budget=budget)
    verdict(NotSent("x"), number=3, budget=budget)
    verdict(NotSent("x", retry_after=60.0), budget=budget)
    verdict(NotSent("x"), deadline=Deadline(0.0), budget=budget)
    assert budget.left(0.0) == 1.0
    assert isinstance(verdict(NotSent("x"), budget=budget), Again)
    assert verdict(NotSent("x"), budget=budget) is Stop.BUDGET


@pytest.mark.parametrize(
    "wrong", [{"attempts": 0}, {"base": -1.0}, {"base": 2.0, "cap": 1.0}, {"cap": math.nan}]
)
def test_a_config_that_makes_no_sense_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(Misconfigured):
        RetryConfig(**wrong)
