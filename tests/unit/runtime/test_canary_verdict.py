import pytest
from hypothesis import given
from hypothesis import strategies as st

from seawall.runtime.canary_verdict import (
    FAILURES,
    LEAST,
    NOTHING,
    Outcome,
    Verdict,
    judge,
    worse,
)

GOOD = Outcome(1000, 0, 10.0)

COUNTS = st.builds(
    lambda requests, share, mean: Outcome(requests, int(requests * share), requests * mean),
    st.integers(0, 5000),
    st.floats(0, 1),
    st.floats(0, 2),
)


@pytest.mark.parametrize(
    ("old", "new", "elapsed", "verdict"),
    [
        (GOOD, Outcome(100, 0, 1.0), 5.0, Verdict.WATCH),
        (GOOD, Outcome(100, 0, 1.0), 60.0, Verdict.PROMOTE),
        (GOOD, Outcome(100, 2, 1.0), 5.0, Verdict.WATCH),  # two may be chance
        (GOOD, Outcome(5, 3, 0.1), 1.0, Verdict.ROLL_BACK),  # few are enough to go back
        (Outcome(1000, 300, 10.0), Outcome(100, 30, 1.0), 60.0, Verdict.PROMOTE),  # both alike
        (GOOD, Outcome(LEAST, 0, 5.0), 5.0, Verdict.ROLL_BACK),  # 250 ms instead of 10
        (GOOD, Outcome(LEAST, 0, 1.2), 60.0, Verdict.PROMOTE),  # 60 ms: within the slack
        (GOOD, Outcome(LEAST - 1, 0, 9.0), 5.0, Verdict.WATCH),
        (GOOD, Outcome(LEAST - 1, 0, 0.1), 60.0, Verdict.ROLL_BACK),  # nobody came
        (NOTHING, Outcome(100, 0, 90.0), 60.0, Verdict.PROMOTE),  # nothing to compare with
    ],
)
def test_a_verdict(old: Outcome, new: Outcome, elapsed: float, verdict: Verdict) -> None:
    assert judge(old, new, elapsed, 60.0)[0] is verdict


def test_it_says_why() -> None:
    assert judge(GOOD, Outcome(9, 4, 0.1), 1.0, 60.0)[1] == (
        "4 of 9 requests failed, 0.0% of the old ones"
    )
    assert judge(GOOD, Outcome(40, 0, 20.0), 1.0, 60.0)[1] == (
        "500 ms a request, the old ones 10 ms"
    )
    assert "too few to tell" in judge(GOOD, NOTHING, 60.0, 60.0)[1]


@given(COUNTS, COUNTS)
def test_what_is_no_worse_is_never_rolled_back_for_it(old: Outcome, new: Outcome) -> None:
    no_worse = new.failing <= old.failing and new.mean <= old.mean
    if no_worse or (new.failed < FAILURES and new.requests < LEAST):
        assert not worse(old, new)


@given(COUNTS, st.integers(FAILURES, 500))
def test_more_failures_are_never_better(old: Outcome, more: int) -> None:
    new = Outcome(1000, 500, 1.0)
    if worse(old, new):
        assert worse(old, Outcome(1000, min(1000, 500 + more), 1.0))


def test_only_what_came_since_counts() -> None:
    assert Outcome(120, 5, 3.0).since(Outcome(100, 4, 2.0)) == Outcome(20, 1, 1.0)
    assert Outcome(3, 1, 0.5).since(Outcome(100, 4, 2.0)) == Outcome(3, 1, 0.5)  # begun anew
