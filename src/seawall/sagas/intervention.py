"""What a person may do to a saga that does not get on by itself (pure).

Each is a transition like those that answers cause, along the same tables, and is written into the
timeline with who did it and why. What does not fit is refused with the reason.
"""

from dataclasses import dataclass, replace
from typing import Any

from seawall.errors import Refused
from seawall.sagas.progress import (
    Move,
    Phase,
    Progress,
    Send,
    StepEvent,
    StepState,
    moved,
    no_way_back,
    put,
    repeat,
    settle,
    turn_back,
)
from seawall.sagas.saga import Saga


@dataclass(frozen=True, slots=True)
class Resume:
    """Send at once what is repeated anyway, without waiting for the pause to end."""

    by: str


@dataclass(frozen=True, slots=True)
class Skip:
    """Count the open command of a step as done: somebody saw to it by other means.

    `step` may be empty where only one is open.
    """

    by: str
    reason: str
    step: str = ""


@dataclass(frozen=True, slots=True)
class Fail:
    """Turn back, as if a step had been rejected.

    Where that cannot be (the pivot is done, or it turns back already) only `force` helps: then
    the saga ends as `failed` where it stands, and putting things right is the person's work.
    """

    by: str
    reason: str
    force: bool = False


Intervention = Resume | Skip | Fail


def intervene(saga: Saga[Any], progress: Progress, act: Intervention, now: float) -> Move:
    """Do `act` at `now` (wall clock, seconds); raises `Refused`, saying why it does not fit."""
    if progress.phase.is_final:
        raise Refused(f"it is {progress.phase} already")
    if isinstance(act, Resume):
        return _resume(saga, progress, now)
    if isinstance(act, Skip):
        return _skip(saga, progress, act, now)
    return _fail(saga, progress, act, now)


def _resume(saga: Saga[Any], progress: Progress, now: float) -> Move:
    sends: tuple[Send, ...] = ()
    forward = no_way_back(saga, progress)
    for number, step in enumerate(progress.steps):
        repeated = step.state is StepState.UNDOING or (forward and step.state is StepState.ASKED)
        if repeated and saga.steps[number].wait is None:
            progress, send = repeat(saga, progress, number, now)
            sends += (send,)
    if not sends:
        raise Refused("no command of it is repeated; it waits for an answer, or for its timeout")
    return settle(saga, progress, sends, now)


def _skip(saga: Saga[Any], progress: Progress, act: Skip, now: float) -> Move:
    number = _open_step(saga, progress, act.step)
    step = progress.steps[number]
    event = StepEvent.UNDO_SKIP if step.state is StepState.UNDOING else StepEvent.SKIP
    return settle(saga, put(progress, number, replace(moved(step, event), due=None)), (), now)


def _open_step(saga: Saga[Any], progress: Progress, name: str) -> int:
    names = {
        saga.steps[number].name: number
        for number, step in enumerate(progress.steps)
        if step.state in (StepState.ASKED, StepState.UNDOING)
    }
    if name in names:
        return names[name]
    if not name and len(names) == 1:
        return next(iter(names.values()))
    which = f"{name} is not open" if name else "several steps are open"
    raise Refused(f"{which}; name one of: {', '.join(names) or 'none'}")


def _fail(saga: Saga[Any], progress: Progress, act: Fail, now: float) -> Move:
    why = f"{act.by}: {act.reason}"
    pivot_done, turned = no_way_back(saga, progress), progress.reason is not None
    if not pivot_done and not turned:
        return turn_back(saga, progress, why, now)
    if not act.force:
        what = "it turns back already" if turned else "its pivot is done: there is no way back"
        raise Refused(f"{what}; skip the step, or give the saga up as it stands by force")
    for number, step in enumerate(progress.steps):
        if step.state in (StepState.ASKED, StepState.UNDOING):
            given_up = replace(moved(step, StepEvent.ABANDON), due=None)
            progress = put(progress, number, given_up)
    reason = f"{progress.reason}; {why}" if progress.reason else why
    return Move(replace(progress, phase=Phase.FAILED, reason=reason, deadline=None))
