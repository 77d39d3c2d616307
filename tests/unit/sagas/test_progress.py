"""The tables, each case by hand; then any sequence of events, told twice and out of order."""

from itertools import product
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from seawall.sagas.progress import (
    STEP_MOVES,
    Answered,
    CameDue,
    Event,
    Kind,
    Move,
    Phase,
    Progress,
    Send,
    Started,
    StepEvent,
    StepProgress,
    StepState,
    advance,
    begin,
)
from seawall.sagas.saga import Patience, Saga, Step


class Order(BaseModel):
    order_id: str


def step(name: str, **more: Any) -> Step[Order]:
    more.setdefault("compensation", f"{name}.undo")
    return Step(name=name, command=name, ask=lambda order: order, timeout=10, **more)


ORDER = Saga(
    "order",
    Order,
    [step("reserve"), step("charge", pivot=True), step("confirm", compensation=None)],
    patience=Patience(base=1, cap=60, stuck_after=3),
)
TRIP = Saga(
    "trip",
    Order,
    [step("car", group="both"), step("hotel", group="both"), step("mail", compensation=None)],
)


def play(saga: Saga[Order], *events: Event, now: float = 0.0) -> Move:
    move = Move(begin(saga))
    for event in events:
        move = advance(saga, move.progress, event, now)
    return move


def yes(step: str, kind: Kind = Kind.DO, attempt: int = 1) -> Answered:
    return Answered(step, kind, attempt, ok=True)


def no(step: str, kind: Kind = Kind.DO, attempt: int = 1) -> Answered:
    return Answered(step, kind, attempt, ok=False, reason="sold out")


def due(step: str, kind: Kind = Kind.DO, attempt: int = 1) -> CameDue:
    return CameDue(step, kind, attempt)


def states(move: Move) -> list[str]:
    return [step.state.value for step in move.progress.steps]


def test_it_starts_with_the_first_step_and_its_timer() -> None:
    move = play(ORDER, Started(), now=100)
    assert move.sends == (Send(0, Kind.DO, 1),)
    assert move.progress.steps[0] == StepProgress(StepState.ASKED, 1, 110)
    assert move.progress.phase is Phase.RUNNING


def test_starting_twice_changes_nothing() -> None:
    once = play(ORDER, Started())
    assert play(ORDER, Started(), Started()) == Move(once.progress, stale=True)


def test_it_completes_when_every_step_said_yes() -> None:
    move = play(ORDER, Started(), yes("reserve"), yes("charge"), yes("confirm"))
    assert move.progress.phase is Phase.COMPLETED
    assert move.sends == ()
    assert all(step.due is None for step in move.progress.steps)


def test_a_rejected_first_step_leaves_nothing_to_undo() -> None:
    move = play(ORDER, Started(), no("reserve"))
    assert move.progress.phase is Phase.COMPENSATED
    assert move.sends == ()
    assert move.progress.reason == "reserve was rejected: sold out"


def test_a_rejected_step_is_not_undone_but_those_before_it_are() -> None:
    move = play(ORDER, Started(), yes("reserve"), no("charge"))
    assert move.sends == (Send(0, Kind.UNDO, 1),)
    assert states(move) == ["undoing", "rejected", "waiting"]
    done = advance(ORDER, move.progress, yes("reserve", Kind.UNDO), 0)
    assert done.progress.phase is Phase.COMPENSATED


def test_a_step_without_answer_may_have_happened_and_is_undone_first() -> None:
    move = play(ORDER, Started(), yes("reserve"), due("charge"))
    assert move.sends == (Send(1, Kind.UNDO, 1),)
    move = advance(ORDER, move.progress, yes("charge", Kind.UNDO), 0)
    assert move.sends == (Send(0, Kind.UNDO, 1),)


def test_an_answer_that_comes_after_its_time_changes_nothing() -> None:
    events = (Started(), yes("reserve"), due("charge"))
    late = play(ORDER, *events, yes("charge"))
    assert late.stale
    assert late.progress == play(ORDER, *events).progress


def test_after_the_pivot_a_step_is_asked_for_until_it_succeeds() -> None:
    events = (Started(), yes("reserve"), yes("charge"))
    rejected = play(ORDER, *events, no("confirm"))
    assert rejected.sends == ()
    assert rejected.progress.steps[2] == StepProgress(StepState.ASKED, 1, due=1.0)
    again = advance(ORDER, rejected.progress, due("confirm"), 1.0)
    assert again.sends == (Send(2, Kind.DO, 2),)
    assert again.progress.phase is Phase.RUNNING
    assert advance(ORDER, again.progress, yes("confirm", attempt=2), 2.0).progress.phase is (
        Phase.COMPLETED
    )


def test_a_rejection_told_again_does_not_put_the_next_attempt_off() -> None:
    move = play(ORDER, Started(), yes("reserve"), yes("charge"), no("confirm"))
    later = advance(ORDER, move.progress, no("confirm"), 0.9)
    assert later.progress.steps[2].due == 1.0


def test_a_command_that_keeps_failing_makes_it_stuck_and_a_success_frees_it() -> None:
    undo = Kind.UNDO
    failing = [event for n in (1, 2) for event in (no("reserve", undo, n), due("reserve", undo, n))]
    move = play(ORDER, Started(), yes("reserve"), no("charge"), *failing)
    assert move.progress.phase is Phase.STUCK
    assert move.sends == (Send(0, undo, 3),)
    assert advance(ORDER, move.progress, due("reserve", undo, 3), 0).sends == (Send(0, undo, 4),)
    freed = advance(ORDER, move.progress, yes("reserve", undo, 1), 0)
    assert freed.progress.phase is Phase.COMPENSATED


def test_a_group_is_asked_for_together_and_waited_for_together() -> None:
    move = play(TRIP, Started())
    assert move.sends == (Send(0, Kind.DO, 1), Send(1, Kind.DO, 1))
    assert play(TRIP, Started(), yes("hotel")).sends == ()
    assert play(TRIP, Started(), yes("hotel"), yes("car")).sends == (Send(2, Kind.DO, 1),)


def test_a_group_turns_back_only_when_all_its_steps_are_known() -> None:
    move = play(TRIP, Started(), no("car"))
    assert move.sends == ()
    assert move.progress.phase is Phase.COMPENSATING
    assert play(TRIP, Started(), no("car"), yes("hotel")).sends == (Send(1, Kind.UNDO, 1),)
    assert play(TRIP, Started(), no("car"), no("hotel")).progress.phase is Phase.COMPENSATED


def test_an_unknown_step_changes_nothing() -> None:
    assert play(ORDER, Started(), yes("nothing")).stale


EVENTS = [Started(), *(make("reserve", kind) for make in (yes, no, due) for kind in Kind)]
LEGAL = {
    (StepState.WAITING, "started"),
    *((StepState.ASKED, what) for what in ("yes do", "no do", "due do")),
    *((StepState.UNDOING, what) for what in ("yes undo", "no undo", "due undo")),
}


def _called(event: Event) -> str:
    match event:
        case Started():
            return "started"
        case Answered(kind=kind, ok=ok):
            return f"{'yes' if ok else 'no'} {kind}"
        case CameDue(kind=kind):
            return f"due {kind}"


@pytest.mark.parametrize(("state", "event"), list(product(StepState, EVENTS)))
def test_every_state_and_event_either_moves_or_changes_nothing(
    state: StepState, event: Event
) -> None:
    alone = Saga("alone", Order, [step("reserve")])
    turned_back = state in (StepState.UNDOING, StepState.UNDONE, StepState.UNKNOWN)
    before = Progress(
        Phase.COMPENSATING if turned_back else Phase.RUNNING,
        (StepProgress(state, 0 if state is StepState.WAITING else 1, 10.0),),
        "rejected" if turned_back else None,
    )
    move = advance(alone, before, event, 5.0)
    assert move.stale is ((state, _called(event)) not in LEGAL)
    if move.stale:
        assert move == Move(before, stale=True)


def test_the_table_names_every_state_and_event() -> None:
    assert {state for state, _ in STEP_MOVES} | set(STEP_MOVES.values()) == set(StepState)
    assert {event for _, event in STEP_MOVES} == set(StepEvent)


@st.composite
def sagas(draw: st.DrawFn) -> Saga[Order]:
    size = draw(st.integers(1, 5))
    pivot = draw(st.none() | st.integers(0, size - 1))
    undone = draw(st.lists(st.booleans(), min_size=size, max_size=size))
    first = draw(st.integers(0, size))  # a group from here to the pivot or the end
    last = draw(st.integers(first, size))
    return Saga(
        "any",
        Order,
        [
            step(
                f"s{n}",
                pivot=n == pivot,
                compensation=f"u{n}" if undone[n] else None,
                group=_group(n, first, last, pivot),
            )
            for n in range(size)
        ],
        patience=Patience(stuck_after=3),
    )


def _group(n: int, first: int, last: int, pivot: int | None) -> str | None:
    if n == pivot or not first <= n < last:
        return None
    return "before" if pivot is None or n < pivot else "after"


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.data(), sagas())
def test_whatever_is_told_in_whatever_order(data: st.DataObject, saga: Saga[Order]) -> None:
    """Compensations go only to attempted steps, in reverse; it never is completed and undone."""
    move = advance(saga, begin(saga), Started(), 0.0)
    sent = list(move.sends)
    told: list[Event] = [Started()]
    phases = [move.progress.phase]
    steps = [each.name for each in saga.steps]
    for now in range(1, data.draw(st.integers(0, 60))):
        event: Event = data.draw(
            st.sampled_from(told)
            | st.builds(
                Answered,
                st.sampled_from(steps),
                st.sampled_from(Kind),
                st.integers(1, 3),
                st.booleans(),
            )
            | st.builds(CameDue, st.sampled_from(steps), st.sampled_from(Kind), st.integers(1, 3))
        )
        told.append(event)
        before = move.progress
        move = advance(saga, before, event, float(now))
        sent += move.sends
        phases.append(move.progress.phase)
        if before.phase.is_final:
            assert move.stale, "what has ended stays as it is"
    _check(saga, sent, phases, move.progress)


def _check(saga: Saga[Order], sent: list[Send], phases: list[Phase], progress: Progress) -> None:
    assert not {Phase.COMPLETED, Phase.COMPENSATED} <= set(phases)
    asked = [send.step for send in sent if send.kind is Kind.DO]
    undone = [send.step for send in sent if send.kind is Kind.UNDO and send.attempt == 1]
    assert set(undone) <= set(asked)
    assert all(saga.steps[number].compensation for number in undone)
    assert len(undone) == len(set(undone))
    stage_of = {number: at for at, stage in enumerate(saga.stages()) for number in stage}
    assert [stage_of[n] for n in undone] == sorted((stage_of[n] for n in undone), reverse=True)
    assert len({(send.step, send.kind, send.attempt) for send in sent}) == len(sent)
    open_states = (StepState.ASKED, StepState.UNDOING)
    for step in progress.steps:
        assert (step.due is not None) is (step.state in open_states)
    # It never hangs: while it is not over, something is awaited that has a timer.
    assert progress.phase.is_final or any(s.state in open_states for s in progress.steps)
    if progress.phase is Phase.COMPENSATED:
        assert not any(
            step.compensation and at.state in (StepState.DONE, StepState.UNKNOWN)
            for step, at in zip(saga.steps, progress.steps, strict=True)
        )
    if pivot := [n for n, step in enumerate(saga.steps) if step.pivot]:
        past = progress.steps[pivot[0]].state is StepState.DONE
        assert not (past and undone), "after the pivot nothing is undone"


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(sagas(), st.data())
def test_it_ends_whatever_the_participants_do_if_undoing_succeeds_at_last(
    saga: Saga[Order], data: st.DataObject
) -> None:
    move = advance(saga, begin(saga), Started(), 0.0)
    for now in range(1, 200):
        waiting = [
            (saga.steps[n].name, Kind.DO if at.state is StepState.ASKED else Kind.UNDO, at.attempts)
            for n, at in enumerate(move.progress.steps)
            if at.state in (StepState.ASKED, StepState.UNDOING)
        ]
        if not waiting:
            break
        name, kind, attempt = data.draw(st.sampled_from(waiting))
        answers = [yes(name, kind, attempt)]
        if attempt < 4:
            answers += [no(name, kind, attempt), due(name, kind, attempt)]  # type: ignore[list-item]
        move = advance(saga, move.progress, data.draw(st.sampled_from(answers)), float(now))
    assert move.progress.phase.is_final
