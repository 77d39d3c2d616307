"""What the timeline says of a transition, in words for a person (pure)."""

from typing import Any

from seawall.sagas.intervention import Fail, Intervention, Resume, Skip
from seawall.sagas.progress import (
    Answered,
    CameDue,
    Event,
    Kind,
    Move,
    Overdue,
    Phase,
    Progress,
    Started,
    StepState,
)
from seawall.sagas.saga import Saga

Cause = Event | Intervention


def lines(saga: Saga[Any], before: Progress, cause: Cause, move: Move) -> tuple[str, ...]:
    """The lines of the timeline for one transition. Attempts of a saga that is stuck leave none:
    they go on for ever, the timeline does not."""
    after = move.progress
    unmoved = [step.state for step in before.steps] == [step.state for step in after.steps]
    by_itself = not isinstance(cause, Resume | Skip | Fail)
    if by_itself and before.phase is after.phase is Phase.STUCK and unmoved:
        return ()
    said = [line] if (line := _happened(saga, before, cause, after)) else []
    for send in move.sends:
        again = f", attempt {send.attempt}" if send.attempt > 1 else ""
        verb = "asked for" if send.kind is Kind.DO else "being undone"
        said.append(f"{saga.steps[send.step].name} {verb}{again}")
    for step, was, now in zip(saga.steps, before.steps, after.steps, strict=True):
        if step.wait is not None and was.state is not now.state is StepState.ASKED:
            said.append(f"{step.name} waits {step.wait:g} s")
    if after.phase is not before.phase:
        said.append(str(after.phase))
    return tuple(said)


def _happened(saga: Saga[Any], before: Progress, cause: Cause, after: Progress) -> str:
    match cause:
        case Started():
            return "started"
        case Overdue():
            return after.reason or ""
        case Resume(by=by):
            return f"resumed by {by}"
        case Fail(by=by, reason=reason):
            verb = "given up" if after.phase is Phase.FAILED else "turned back"
            return f"{verb} by {by}: {reason}"
        case Skip(by=by, reason=reason):
            return f"{_skipped(saga, before, after)} skipped by {by}: {reason}"
        case Answered() | CameDue():
            return _answered(saga, cause, after)


def _skipped(saga: Saga[Any], before: Progress, after: Progress) -> str:
    """The step that was open; where it was being undone, that."""
    number = next(
        n
        for n, step in enumerate(before.steps)
        if step.state in (StepState.ASKED, StepState.UNDOING) and step != after.steps[n]
    )
    undoing = before.steps[number].state is StepState.UNDOING
    return f"undoing {saga.steps[number].name}" if undoing else saga.steps[number].name


_SAID = {
    (StepState.DONE, True): "done",
    (StepState.DONE, False): "over",  # a pause
    (StepState.REJECTED, True): "rejected",
    (StepState.UNKNOWN, False): "not answered in time",
    (StepState.UNDONE, True): "undone",
    (StepState.ASKED, True): "rejected, but must succeed",
    (StepState.UNDOING, True): "undoing was rejected, but must succeed",
}


def _answered(saga: Saga[Any], event: Answered | CameDue, after: Progress) -> str:
    number = saga.number(event.step)
    assert number is not None, "an event of an unknown step is stale"
    state = after.steps[number].state
    answered = isinstance(event, Answered)
    if state is StepState.UNDOING and event.kind is Kind.DO:  # it was moved on at once
        said = "done" if answered else "not answered in time"
    else:
        said = _SAID.get((state, answered), "")
    reason = f": {event.reason}" if isinstance(event, Answered) and event.reason else ""
    return f"{event.step} {said}{reason}" if said else ""
