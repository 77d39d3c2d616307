"""What a person does to a saga: each act in each situation, and then acts among all else."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from seawall.errors import Misconfigured, Refused
from seawall.sagas.intervention import Fail, Intervention, Resume, Skip, intervene
from seawall.sagas.progress import (
    Answered,
    CameDue,
    Event,
    Kind,
    Move,
    Overdue,
    Phase,
    Send,
    Started,
    StepState,
    advance,
    begin,
)
from seawall.sagas.saga import Patience, Saga, Step
from seawall.sagas.timeline import lines


class Order(BaseModel):
    order_id: str


def step(name: str, *, pivot: bool = False, group: str | None = None) -> Step[Order]:
    undo = f"{name}.undo"
    return Step(
        name=name, command=name, ask=lambda o: o, compensation=undo, pivot=pivot, group=group
    )


ORDER = Saga(
    "order",
    Order,
    [step("reserve"), step("charge", pivot=True), step("confirm")],
    patience=Patience(stuck_after=2),
    deadline=300.0,
)
TRIP = Saga("trip", Order, [step("car", group="both"), step("hotel", group="both")])
SLOW = Saga(
    "slow", Order, [step("reserve"), Step.pause("cool-off", 3600), step("charge", pivot=True)]
)

RESUME = Resume("ana")
SKIP = Skip("ana", "done by phone")
FAIL = Fail("ana", "the customer called")
FORCE = Fail("ana", "paid back by hand", force=True)


def yes(name: str, kind: Kind = Kind.DO) -> Answered:
    return Answered(name, kind, 1, ok=True)


def no(name: str, attempt: int = 1, kind: Kind = Kind.DO) -> Answered:
    return Answered(name, kind, attempt, ok=False, reason="no")


def play(saga: Saga[Order], *told: Event | Intervention, now: float = 0.0) -> Move:
    move = Move(begin(saga))
    for each in told:
        if isinstance(each, Resume | Skip | Fail):
            move = intervene(saga, move.progress, each, now)
        else:
            move = advance(saga, move.progress, each, now)
    return move


def states(move: Move) -> list[str]:
    return [at.state.value for at in move.progress.steps]


ASKED = (Started(), yes("reserve"))
PAID = (*ASKED, yes("charge"))
TURNED = (*ASKED, no("charge"))
STUCK = (*PAID, CameDue("confirm", Kind.DO, 1))


def test_resuming_repeats_at_once_what_is_repeated_anyway() -> None:
    assert play(ORDER, *PAID, RESUME).sends == (Send(2, Kind.DO, 2),)
    assert play(ORDER, *TURNED, RESUME).sends == (Send(0, Kind.UNDO, 2),)
    stuck = play(ORDER, *STUCK, RESUME)
    assert (stuck.sends, stuck.progress.phase) == ((Send(2, Kind.DO, 3),), Phase.STUCK)


def test_a_skipped_step_counts_as_done() -> None:
    move = play(ORDER, *STUCK, SKIP)
    assert (move.progress.phase, states(move)) == (Phase.COMPLETED, ["done"] * 3)
    move = play(ORDER, Started(), SKIP)
    assert move.sends == (Send(1, Kind.DO, 1),)
    assert advance(ORDER, move.progress, no("reserve"), 0).stale


def test_a_skipped_compensation_counts_as_undone() -> None:
    move = play(ORDER, *TURNED, SKIP)
    assert move.progress.phase is Phase.COMPENSATED
    assert states(move) == ["undone", "rejected", "waiting"]


def test_of_several_open_steps_the_one_to_skip_is_named() -> None:
    with pytest.raises(Refused, match="several steps are open; name one of: car, hotel"):
        play(TRIP, Started(), SKIP)
    with pytest.raises(Refused, match="mail is not open; name one of: car, hotel"):
        play(TRIP, Started(), Skip("ana", "why", "mail"))
    assert states(play(TRIP, Started(), Skip("ana", "why", "hotel"))) == ["asked", "done"]


def test_failing_before_the_pivot_undoes_what_is_done_and_what_may_be() -> None:
    move = play(ORDER, *ASKED, FAIL)
    assert move.sends == (Send(1, Kind.UNDO, 1),)
    assert move.progress.phase is Phase.COMPENSATING
    assert move.progress.reason == "ana: the customer called"
    assert advance(ORDER, move.progress, yes("charge"), 0).stale


@pytest.mark.parametrize("told", [PAID, STUCK, TURNED])
def test_where_it_cannot_turn_back_it_is_failed_by_force_only(told: tuple[Event, ...]) -> None:
    with pytest.raises(Refused, match="by force"):
        play(ORDER, *told, FAIL)
    move = play(ORDER, *told, FORCE)
    assert (move.progress.phase, move.sends) == (Phase.FAILED, ())
    assert all(at.due is None for at in move.progress.steps)
    assert (move.progress.reason or "").endswith("ana: paid back by hand")
    assert advance(ORDER, move.progress, yes("confirm"), 0).stale


@pytest.mark.parametrize("act", [RESUME, SKIP, FAIL, FORCE])
def test_what_is_over_is_left_alone(act: Intervention) -> None:
    for told in ((*PAID, yes("confirm")), (Started(), no("reserve")), (*PAID, FORCE)):
        with pytest.raises(Refused, match="already"):
            play(ORDER, *told, act)


def test_what_waits_for_its_first_answer_is_not_resumed() -> None:
    with pytest.raises(Refused, match="waits for an answer"):
        play(ORDER, *ASKED, RESUME)


def test_a_saga_that_is_not_done_in_time_turns_back() -> None:
    begun = play(ORDER, *ASKED)
    assert begun.progress.deadline == 300.0
    assert advance(ORDER, begun.progress, Overdue(), 299.9).stale
    late = advance(ORDER, begun.progress, Overdue(), 300.0)
    assert late.sends == (Send(1, Kind.UNDO, 1),)
    assert late.progress.reason == "it was not done within 300 s"
    assert late.progress.deadline is None


def test_after_the_pivot_there_is_no_deadline_any_more() -> None:
    paid = play(ORDER, *PAID)
    assert paid.progress.deadline is None
    assert advance(ORDER, paid.progress, Overdue(), 1e9).stale


def test_a_pause_asks_nobody_and_ends_by_itself() -> None:
    paused = play(SLOW, *ASKED, now=10.0)
    assert paused.sends == ()
    assert paused.progress.steps[1].due == 3610.0
    assert lines(SLOW, play(SLOW, Started()).progress, yes("reserve"), paused) == (
        "reserve done",
        "cool-off waits 3600 s",
    )
    over = CameDue("cool-off", Kind.DO, 1)
    ended = advance(SLOW, paused.progress, over, 3610.0)
    assert ended.sends == (Send(2, Kind.DO, 1),)
    assert lines(SLOW, paused.progress, over, ended)[0] == "cool-off over"
    assert play(SLOW, *ASKED, SKIP).sends == (Send(2, Kind.DO, 1),)
    with pytest.raises(Refused):
        play(SLOW, *ASKED, RESUME)


@pytest.mark.parametrize("seconds", [0.0, -1.0])
def test_times_are_above_nothing(seconds: float) -> None:
    with pytest.raises(Misconfigured):
        Step.pause("cool-off", seconds)
    with pytest.raises(Misconfigured):
        Saga("order", Order, [step("a")], deadline=seconds)


@pytest.mark.parametrize(
    ("told", "act", "said"),
    [
        (STUCK, RESUME, ("resumed by ana", "confirm asked for, attempt 3")),
        (STUCK, SKIP, ("confirm skipped by ana: done by phone", "completed")),
        (TURNED, SKIP, ("undoing reserve skipped by ana: done by phone", "compensated")),
        (
            ASKED,
            FAIL,
            ("turned back by ana: the customer called", "charge being undone", "compensating"),
        ),
        (PAID, FORCE, ("given up by ana: paid back by hand", "failed")),
    ],
)
def test_the_timeline_says_who_and_why(
    told: tuple[Event, ...], act: Intervention, said: tuple[str, ...]
) -> None:
    before = play(ORDER, *told).progress
    assert lines(ORDER, before, act, intervene(ORDER, before, act, 0.0)) == said


ACTS = st.sampled_from([RESUME, FAIL, FORCE, *(Skip("a", "b", s.name) for s in ORDER.steps)])
ANSWERS = st.builds(
    Answered,
    st.sampled_from([each.name for each in ORDER.steps]),
    st.sampled_from(Kind),
    st.integers(1, 3),
    st.booleans(),
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(ACTS | ANSWERS | st.just(Overdue()), max_size=12))
def test_acts_among_answers_keep_what_is_promised(told: list[Event | Intervention]) -> None:
    """What is over stays; nothing is undone after the pivot; what is open has a timer."""
    move = advance(ORDER, begin(ORDER), Started(), 0.0)
    for now, each in enumerate(told, start=299):
        before = move.progress
        try:
            if isinstance(each, Resume | Skip | Fail):
                move = intervene(ORDER, before, each, float(now))
            else:
                move = advance(ORDER, before, each, float(now))
        except Refused:
            continue
        after = move.progress
        assert not before.phase.is_final or after == before
        if after.steps[1].state is StepState.DONE:
            assert all(send.kind is Kind.DO for send in move.sends)
        for at in after.steps:
            assert (at.due is not None) is (at.state in (StepState.ASKED, StepState.UNDOING))
        assert after.phase.is_final or any(at.due is not None for at in after.steps)
