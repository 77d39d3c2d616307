import math

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from seawall.errors import Misconfigured
from seawall.resilience.budget import RetryBudget


def spend(budget: RetryBudget, now: float) -> int:
    spent = 0
    while budget.withdraw(now):
        spent += 1
    return spent


def test_without_calls_the_floor_is_there() -> None:
    assert spend(RetryBudget(ratio=0.2, floor=10.0, window=10.0), 0.0) == 100


def test_calls_add_their_share() -> None:
    budget = RetryBudget(ratio=0.2, floor=0.0)
    assert not budget.withdraw(0.0)
    for _ in range(50):
        budget.deposit(1.0)
    assert spend(budget, 1.0) == 10


def test_what_was_spent_comes_back_after_the_window() -> None:
    budget = RetryBudget(ratio=0.0, floor=1.0, window=10.0)
    assert spend(budget, 0.0) == 10
    assert spend(budget, 5.0) == 0
    assert spend(budget, 10.0) == 10


def test_calls_of_long_ago_pay_for_nothing() -> None:
    budget = RetryBudget(ratio=1.0, floor=0.0, window=10.0)
    for _ in range(10):
        budget.deposit(0.0)
    assert budget.left(5.0) == 10.0
    assert budget.left(10.0) == 0.0
    assert not budget.withdraw(10.0)


def test_says_what_it_holds() -> None:
    budget = RetryBudget()
    budget.deposit(0.0)
    budget.withdraw(0.0)
    assert repr(budget) == "<RetryBudget 1 retries for 1 calls>"
    assert budget.left(0.0) == pytest.approx(99.2)


@pytest.mark.parametrize(
    "wrong", [{"ratio": -0.1}, {"floor": -1.0}, {"window": 0.0}, {"ratio": math.nan}]
)
def test_a_budget_that_makes_no_sense_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(Misconfigured):
        RetryBudget(**wrong)


class AnyTraffic(RuleBasedStateMachine):
    """Whatever the traffic, retries stay within the budget of every window."""

    ratio, floor, window = 0.25, 0.5, 10.0

    def __init__(self) -> None:
        super().__init__()
        self.budget = RetryBudget(self.ratio, self.floor, self.window)
        self.now = 0.0
        self.calls: list[float] = []
        self.retries: list[float] = []

    @rule(quarters=st.integers(1, 60))
    def wait(self, quarters: int) -> None:
        self.now += quarters / 4

    @rule(number=st.integers(1, 30))
    def call(self, number: int) -> None:
        for _ in range(number):
            self.budget.deposit(self.now)
            self.calls.append(self.now)

    @rule(number=st.integers(1, 10))
    def retry(self, number: int) -> None:
        for _ in range(number):
            left = self.budget.left(self.now)
            granted = self.budget.withdraw(self.now)
            assert granted == (left >= 1)
            if granted:
                self.retries.append(self.now)
                calls = sum(at > self.now - self.window for at in self.calls)
                retries = sum(at > self.now - 0.9 * self.window for at in self.retries)
                assert retries <= self.ratio * calls + self.floor * self.window

    @invariant()
    def never_negative(self) -> None:
        assert self.budget.left(self.now) >= 0


TestAnyTraffic = AnyTraffic.TestCase
TestAnyTraffic.settings = settings(max_examples=40)
