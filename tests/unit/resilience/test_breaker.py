import itertools
import math
from random import Random
from typing import Any

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

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
    Unavailable,
)
from seawall.resilience.breaker import (
    TRANSITIONS,
    Blame,
    Breaker,
    BreakerConfig,
    BreakerMoved,
    Event,
    Permit,
    State,
    after,
    blame,
)

PAIRS = list(itertools.product(State, Event))


def admitted(breaker: Breaker, now: float) -> Permit:
    permit = breaker.admit(now)
    assert permit is not None
    return permit


CLASSIC = BreakerConfig()


def tripped(config: BreakerConfig = CLASSIC, at: float = 0.0, **more: Any) -> Breaker:
    breaker = Breaker(config, "stock", **more)
    while breaker.state is State.CLOSED:
        breaker.failed(admitted(breaker, at), at)
    return breaker


# -- the table


@pytest.mark.parametrize(("state", "event"), PAIRS)
def test_every_pair_is_an_arrow_or_an_error(state: State, event: Event) -> None:
    if (state, event) in TRANSITIONS:
        assert after(state, event) is TRANSITIONS[state, event]
    else:
        with pytest.raises(ValueError, match=f"a breaker that is {state.value} cannot be"):
            after(state, event)


def test_every_state_can_be_reached_and_left() -> None:
    assert {state for state, _ in TRANSITIONS} == set(State) == set(TRANSITIONS.values())


# -- what a report does in each state, to a permit of this epoch and of an earlier one

REPORTS = ["succeeded", "failed", "cancelled"]


def in_state(state: State) -> tuple[Breaker, Permit, Permit | None]:
    """A breaker in `state` at 100 s, a permit of an earlier epoch, and one of this if there is."""
    config = BreakerConfig(consecutive_failures=1, probes=1, open_for=10.0)
    breaker = Breaker(config)
    old = admitted(breaker, 0.0)
    breaker.failed(admitted(breaker, 0.0), 0.0)
    if state is State.OPEN:
        return breaker, old, None
    probe = admitted(breaker, 90.0)
    if state is State.HALF_OPEN:
        return breaker, old, probe
    breaker.succeeded(probe, 95.0)
    return breaker, old, admitted(breaker, 99.0)


@pytest.mark.parametrize(("state", "report"), list(itertools.product(State, REPORTS)))
def test_a_report_from_an_earlier_epoch_changes_nothing(state: State, report: str) -> None:
    breaker, old, _ = in_state(state)
    before = breaker.snapshot(100.0)
    assert before.state is state
    assert getattr(breaker, report)(old, 100.0) is None
    assert breaker.snapshot(100.0) == before


MOVES = {
    (State.CLOSED, "succeeded"): State.CLOSED,
    (State.CLOSED, "failed"): State.OPEN,
    (State.CLOSED, "cancelled"): State.CLOSED,
    (State.HALF_OPEN, "succeeded"): State.CLOSED,
    (State.HALF_OPEN, "failed"): State.OPEN,
    (State.HALF_OPEN, "cancelled"): State.HALF_OPEN,
}


@pytest.mark.parametrize(("state", "report"), MOVES)
def test_a_report_of_this_epoch_moves_as_the_table_says(state: State, report: str) -> None:
    breaker, _, permit = in_state(state)
    fact = getattr(breaker, report)(permit, 100.0)
    assert breaker.state is MOVES[state, report]
    if breaker.state is state:
        assert fact is None
    else:
        assert (fact.was, fact.now, fact.at) == (state, breaker.state, 100.0)


# -- opening


def test_opens_at_the_fifth_failure_in_a_row() -> None:
    breaker = Breaker(name="stock")
    for _ in range(4):
        assert breaker.failed(admitted(breaker, 1.0), 1.0) is None
    fact = breaker.failed(admitted(breaker, 2.0), 2.0)
    assert fact == BreakerMoved("stock", State.CLOSED, State.OPEN, 2.0, "5 failures in a row")
    assert breaker.admit(2.0) is None


def test_a_success_ends_the_row() -> None:
    breaker = Breaker(BreakerConfig(failure_rate=None))
    for _ in range(10):
        for _ in range(4):
            breaker.failed(admitted(breaker, 1.0), 1.0)
        breaker.succeeded(admitted(breaker, 1.0), 1.0)
    assert breaker.state is State.CLOSED


def test_opens_at_half_the_calls_of_the_window_failing() -> None:
    breaker = Breaker(BreakerConfig(consecutive_failures=None))
    facts = []
    for number in range(20):
        permit = admitted(breaker, 1.0)
        report = breaker.failed if number % 2 else breaker.succeeded
        facts.append(report(permit, 1.0))
    assert facts[:-1] == [None] * 19
    assert facts[-1] is not None
    assert facts[-1].reason == "10 of 20 calls failed within 10 s"


def test_a_rate_of_few_calls_means_nothing() -> None:
    breaker = Breaker(BreakerConfig(consecutive_failures=None, min_calls=20))
    for _ in range(19):
        breaker.failed(admitted(breaker, 1.0), 1.0)
    assert breaker.state is State.CLOSED


def test_failures_that_left_the_window_do_not_count() -> None:
    breaker = Breaker(BreakerConfig(consecutive_failures=None, min_calls=4, window=10.0))
    for _ in range(3):
        breaker.failed(admitted(breaker, 0.0), 0.0)
    for _ in range(3):
        breaker.failed(admitted(breaker, 20.0), 20.0)
    assert breaker.state is State.CLOSED
    assert breaker.failed(admitted(breaker, 21.0), 21.0) is not None


def test_whichever_limit_is_reached_first_opens_it() -> None:
    breaker = Breaker(BreakerConfig(consecutive_failures=3, min_calls=20))
    for _ in range(10):
        breaker.succeeded(admitted(breaker, 1.0), 1.0)
    for _ in range(3):
        fact = breaker.failed(admitted(breaker, 1.0), 1.0)
    assert fact is not None
    assert fact.reason == "3 failures in a row"


def test_a_success_that_took_too_long_is_a_failure() -> None:
    breaker = Breaker(BreakerConfig(consecutive_failures=2, slow_after=1.0))
    assert breaker.succeeded(admitted(breaker, 0.0), 0.9) is None
    assert breaker.succeeded(admitted(breaker, 0.0), 1.0) is None
    fact = breaker.succeeded(admitted(breaker, 0.0), 1.5)
    assert fact is not None
    assert fact.now is State.OPEN


def test_a_cancelled_call_counts_neither_way() -> None:
    breaker = Breaker(BreakerConfig(consecutive_failures=2))
    breaker.failed(admitted(breaker, 0.0), 0.0)
    breaker.cancelled(admitted(breaker, 0.0), 0.0)
    assert breaker.snapshot(0.0).consecutive_failures == 1
    assert breaker.snapshot(0.0).good == 0


# -- open


def test_admits_nothing_for_sixty_seconds_and_says_for_how_long() -> None:
    breaker = tripped(at=0.0)
    assert breaker.admit(59.999) is None
    assert breaker.retry_after(45.0) == 15.0
    assert breaker.retry_after(61.0) == 0.0
    permit = breaker.admit(60.0)
    assert permit is not None
    assert permit.probe
    assert permit.moved == BreakerMoved("stock", State.OPEN, State.HALF_OPEN, 60.0, "open for 60 s")


def test_each_failed_probe_makes_it_wait_longer_up_to_a_bound() -> None:
    config = BreakerConfig(open_for=10.0, growth=2.0, open_for_max=35.0)
    breaker, now, waits = tripped(config), 0.0, []
    for _ in range(4):
        waits.append(breaker.retry_after(now))
        now += waits[-1]
        breaker.failed(admitted(breaker, now), now)
    assert waits == [10.0, 20.0, 35.0, 35.0]
    now += 35.0
    breaker.succeeded(admitted(breaker, now), now)
    for _ in range(5):
        breaker.failed(admitted(breaker, now), now)
    assert breaker.retry_after(now) == 10.0


def test_it_never_waits_less_than_open_for() -> None:
    breaker = tripped(BreakerConfig(open_for=1000.0, open_for_max=600.0))
    breaker.failed(admitted(breaker, 1000.0), 1000.0)
    assert breaker.retry_after(1000.0) == 1000.0


def test_jitter_only_adds() -> None:
    config = BreakerConfig(open_for=10.0, jitter=0.5)
    waits = {tripped(config, rng=Random(seed)).retry_after(0.0) for seed in range(50)}
    assert len(waits) == 50
    assert min(waits) >= 10.0
    assert max(waits) <= 15.0


# -- half-open


def test_lets_as_many_probes_through_as_configured() -> None:
    breaker = tripped(BreakerConfig(probes=2))
    assert [bool(breaker.admit(60.0)) for _ in range(4)] == [True, True, False, False]
    assert breaker.retry_after(60.0) == 1.0
    assert breaker.snapshot(60.0).probing == 2


def test_only_the_permit_that_began_half_open_carries_the_fact() -> None:
    breaker = tripped(BreakerConfig(probes=2))
    assert admitted(breaker, 60.0).moved is not None
    assert admitted(breaker, 60.0).moved is None


def test_a_cancelled_probe_gives_its_slot_back() -> None:
    breaker = tripped()
    probe = admitted(breaker, 60.0)
    assert breaker.admit(60.0) is None
    breaker.cancelled(probe, 61.0)
    assert breaker.retry_after(61.0) == 0.0
    assert breaker.admit(61.0) is not None


def test_a_probe_reported_twice_gives_back_one_slot() -> None:
    breaker = tripped(BreakerConfig(probes=2, successes=3))
    first, _ = admitted(breaker, 60.0), admitted(breaker, 60.0)
    breaker.succeeded(first, 61.0)
    breaker.cancelled(first, 61.0)
    breaker.succeeded(first, 61.0)
    assert breaker.snapshot(61.0).probing == 1
    assert breaker.failed(first, 61.0) is None
    assert breaker.state is State.HALF_OPEN


def test_closes_after_as_many_successes_as_configured() -> None:
    breaker = tripped(BreakerConfig(successes=3))
    for _ in range(2):
        assert breaker.succeeded(admitted(breaker, 60.0), 60.0) is None
    fact = breaker.succeeded(admitted(breaker, 60.0), 60.0)
    assert fact is not None
    assert (fact.now, fact.reason) == (State.CLOSED, "3 probes answered")


def test_successes_of_an_earlier_half_open_do_not_count() -> None:
    breaker = tripped(BreakerConfig(successes=2))
    breaker.succeeded(admitted(breaker, 60.0), 60.0)
    breaker.failed(admitted(breaker, 60.0), 60.0)
    assert breaker.succeeded(admitted(breaker, 120.0), 120.0) is None
    assert breaker.succeeded(admitted(breaker, 120.0), 120.0) is not None


def test_closed_again_it_remembers_no_failure() -> None:
    breaker = tripped(BreakerConfig(min_calls=5, window=100.0))
    fact = breaker.succeeded(admitted(breaker, 60.0), 60.0)
    assert fact is not None
    assert fact.reason == "1 probe answered"
    assert breaker.snapshot(60.0).bad == 0
    for _ in range(4):
        assert breaker.failed(admitted(breaker, 60.0), 60.0) is None


def test_a_slow_probe_fails() -> None:
    breaker = tripped(BreakerConfig(slow_after=2.0))
    fact = breaker.succeeded(admitted(breaker, 60.0), 62.0)
    assert fact is not None
    assert (fact.now, fact.reason) == (State.OPEN, "a probe failed")


def test_a_probe_that_never_reports_is_given_up() -> None:
    breaker = tripped(BreakerConfig(probe_lease=30.0))
    lost = admitted(breaker, 60.0)
    assert breaker.retry_after(89.5) == 0.5
    assert breaker.retry_after(95.0) == 0.0
    assert breaker.admit(89.9) is None
    probe = admitted(breaker, 90.0)
    assert breaker.succeeded(lost, 91.0) is None
    assert breaker.failed(lost, 91.0) is None
    assert breaker.state is State.HALF_OPEN
    assert breaker.succeeded(probe, 92.0) is not None


# -- the rest


def test_snapshot_and_repr_say_what_is() -> None:
    breaker = tripped(at=0.0)
    snapshot = breaker.snapshot(20.0)
    assert (snapshot.name, snapshot.state, snapshot.opened) == ("stock", State.OPEN, 1)
    assert snapshot.retry_after == 40.0
    assert snapshot.bad == 0
    assert repr(breaker) == "<Breaker stock open, <Window 0 good, 0 bad in 10 s>>"
    assert repr(breaker.admit(60.0)) == "<Permit epoch 2, a probe, at 60.000>"
    timed = Breaker(BreakerConfig(slow_after=5.0))
    assert repr(timed.admit(1.0)) == "<Permit epoch 0, at 1.000>"


@pytest.mark.parametrize(
    "wrong",
    [
        {"consecutive_failures": None, "failure_rate": None},
        {"consecutive_failures": 0},
        {"failure_rate": 0.0},
        {"failure_rate": 1.1},
        {"failure_rate": math.nan},
        {"min_calls": 0},
        {"window": 0.0},
        {"open_for": 0.0},
        {"open_for": math.nan},
        {"slow_after": 0.0},
        {"growth": 0.5},
        {"jitter": -0.1},
        {"probes": 0},
        {"successes": 0},
        {"probe_lease": 0.0},
    ],
)
def test_a_config_that_makes_no_sense_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(Misconfigured):
        BreakerConfig(**wrong)


def test_jitter_needs_a_source_of_chance() -> None:
    with pytest.raises(Misconfigured, match="needs an rng"):
        Breaker(BreakerConfig(jitter=0.1))


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (Refused("no"), Blame.GOOD),
        (OutcomeUnknown("?"), Blame.BAD),
        (DeadlineExceeded("late"), Blame.BAD),
        (NotSent("refused"), Blame.BAD),
        (Unavailable("gone"), Blame.BAD),
        (BreakerOpen("open"), Blame.NEITHER),
        (Full("full"), Blame.NEITHER),
        (RateLimited("429"), Blame.NEITHER),
        (NoInstance("none"), Blame.NEITHER),
        (Misconfigured("typo"), Blame.NEITHER),
        (ValueError("bug"), Blame.NEITHER),
    ],
)
def test_who_is_to_blame(error: Exception, expected: Blame) -> None:
    assert blame(error) is expected


class AnyCalls(RuleBasedStateMachine):
    """Whatever calls are made and however they end."""

    config = BreakerConfig(
        consecutive_failures=3, min_calls=6, open_for=10.0, probes=2, successes=3, probe_lease=8.0
    )

    def __init__(self) -> None:
        super().__init__()
        self.breaker = Breaker(self.config)
        self.now = 0.0
        self.opened_at = -math.inf
        self.state = State.CLOSED
        self.held: list[tuple[Permit, State]] = []
        self.probing: list[Permit] = []

    def note(self, fact: BreakerMoved | None) -> None:
        if fact is None:
            assert self.breaker.state is self.state
            return
        assert fact.was is self.state
        assert fact.now in {to for (state, _), to in TRANSITIONS.items() if state is fact.was}
        assert fact.now is self.breaker.state
        self.state = fact.now
        self.held = [(permit, State.OPEN) for permit, _ in self.held]  # all are late now
        self.probing = []
        if fact.now is State.OPEN:
            self.opened_at = self.now

    @rule(seconds=st.integers(1, 48).map(lambda quarters: quarters / 4))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @rule()
    def call(self) -> None:
        promised = self.breaker.retry_after(self.now)
        permit = self.breaker.admit(self.now)
        assert (permit is None) == (promised > 0)
        if permit is None:
            assert self.state is not State.CLOSED
            return
        assert self.state is not State.OPEN or self.now >= self.opened_at + self.config.open_for
        self.note(permit.moved)
        assert permit.probe == (self.state is State.HALF_OPEN)
        self.held.append((permit, self.state))
        if permit.probe:
            lease = self.config.probe_lease
            self.probing = [old for old in self.probing if old.at > self.now - lease]
            self.probing.append(permit)
            assert len(self.probing) <= self.config.probes

    @precondition(lambda self: self.held)
    @rule(data=st.data(), how=st.sampled_from(["succeeded", "failed", "failed", "cancelled"]))
    def report(self, data: st.DataObject, how: str) -> None:
        index = data.draw(st.integers(0, len(self.held) - 1))
        permit, given_in = self.held.pop(index)
        if permit in self.probing:
            self.probing.remove(permit)
        fact = getattr(self.breaker, how)(permit, self.now)
        assert fact is None or given_in is self.state, "a late report moved the breaker"
        self.note(fact)

    @invariant()
    def probes_are_bounded(self) -> None:
        snapshot = self.breaker.snapshot(self.now)
        assert 0 <= snapshot.probing <= self.config.probes
        assert snapshot.good >= 0
        assert snapshot.bad >= 0


TestAnyCalls = AnyCalls.TestCase
