import itertools
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seawall.errors import Misconfigured
from seawall.runtime.restart import (
    TRANSITIONS,
    Event,
    IllegalStep,
    RestartConfig,
    Restarts,
    State,
    step,
)


@pytest.mark.parametrize(("state", "event"), list(itertools.product(State, Event)))
def test_every_step_is_in_the_table_or_refused(state: State, event: Event) -> None:
    if (state, event) in TRANSITIONS:
        assert step(state, event) is TRANSITIONS[state, event]
    else:
        with pytest.raises(IllegalStep):
            step(state, event)


def test_every_state_can_be_left_by_a_stop_or_has_ended() -> None:
    for state in State:
        if state not in (State.STOPPING, State.STOPPED):
            assert step(state, Event.STOP) in (State.STOPPING, State.STOPPED)


def test_what_worked_is_replaced_at_once() -> None:
    verdict = Restarts().died(ran_for=60.0, now=100.0, rng=Random(1))
    assert (verdict.delay, verdict.streak, verdict.looping) == (0.0, 1, False)


def test_what_fails_to_start_waits_longer_each_time_up_to_the_cap() -> None:
    restarts, rng = Restarts(), Random(1)
    delays = [restarts.died(0.2, now, rng).delay for now in range(20)]
    for number, delay in enumerate(delays):
        ceiling = min(15.0, 0.1 * 2**number)
        assert ceiling / 2 <= delay <= ceiling
    assert restarts.total == 20


def test_a_stable_run_clears_the_record() -> None:
    restarts, rng = Restarts(), Random(1)
    for now in range(10):
        restarts.died(0.2, now, rng)
    assert restarts.died(31.0, 100.0, rng).delay == 0.0
    assert restarts.died(6.0, 107.0, rng).delay > 0.0  # but not twice in a row


def test_a_person_s_restart_clears_the_record_but_not_the_count() -> None:
    restarts, rng = Restarts(), Random(1)
    for now in range(10):
        restarts.died(0.2, now, rng)
    restarts.forgive()
    verdict = restarts.died(6.0, 11.0, rng)
    assert (verdict.delay, verdict.looping, restarts.total) == (0.0, False, 11)


def test_too_many_deaths_in_a_period_are_called_a_loop() -> None:
    restarts, rng = Restarts(RestartConfig(intensity=3, period=10.0)), Random(1)
    assert [restarts.died(6.0, now, rng).looping for now in (0.0, 4.0, 8.0)] == [False, False, True]
    assert not restarts.died(6.0, 30.0, rng).looping


@given(st.lists(st.tuples(st.floats(0, 100), st.floats(0, 100)), max_size=200), st.randoms())
def test_whatever_happens_a_pause_is_bounded(
    deaths: list[tuple[float, float]], rng: Random
) -> None:
    restarts, now = Restarts(), 0.0
    for ran_for, waited in deaths:
        now += ran_for + waited
        verdict = restarts.died(ran_for, now, rng)
        assert 0.0 <= verdict.delay <= 15.0
        assert verdict.delay > 0.0 or ran_for >= 5.0
        assert len(restarts._deaths) <= 5


@pytest.mark.parametrize("wrong", [{"base": 0.0}, {"base": 20.0}, {"intensity": 0}])
def test_nonsense_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(Misconfigured):
        RestartConfig(**wrong)  # type: ignore[arg-type]
