"""How a saga moves: a pure function from what is and what happened to what is next.

The two tables are the specification. A step moves by `STEP_MOVES`; the saga's phase follows from
its steps and moves along `PHASE_MOVES`. What happened may be told twice, late or in another
order (messages are delivered at least once): whatever no longer fits changes nothing.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

from seawall.sagas.saga import Saga


class Phase(StrEnum):
    """Where the saga as a whole is."""

    RUNNING = "running"
    COMPENSATING = "compensating"
    STUCK = "stuck"  # a command that must not be given up keeps failing: somebody has to look
    COMPLETED = "completed"
    COMPENSATED = "compensated"
    FAILED = "failed"  # a person gave it up where it stood: nothing more is asked of anybody

    @property
    def is_final(self) -> bool:
        return self in (Phase.COMPLETED, Phase.COMPENSATED, Phase.FAILED)


class StepState(StrEnum):
    WAITING = "waiting"  # never asked for
    ASKED = "asked"
    DONE = "done"
    REJECTED = "rejected"  # the participant said no: nothing happened
    UNKNOWN = "unknown"  # no answer in time: it may have happened
    UNDOING = "undoing"
    UNDONE = "undone"


class StepEvent(StrEnum):
    ASK = "ask"
    ACCEPT = "accept"
    REJECT = "reject"
    EXPIRE = "expire"
    POSTPONE = "postpone"  # rejected, but it must succeed: ask again later
    REPEAT = "repeat"
    UNDO = "undo"
    UNDO_ACCEPT = "undo accept"
    UNDO_POSTPONE = "undo postpone"
    UNDO_REPEAT = "undo repeat"
    SKIP = "skip"  # a person says that it counts as done
    UNDO_SKIP = "undo skip"
    ABANDON = "abandon"  # the saga turns back, or is given up, before its answer came


STEP_MOVES: Mapping[tuple[StepState, StepEvent], StepState] = {
    (StepState.WAITING, StepEvent.ASK): StepState.ASKED,
    (StepState.ASKED, StepEvent.ACCEPT): StepState.DONE,
    (StepState.ASKED, StepEvent.REJECT): StepState.REJECTED,
    (StepState.ASKED, StepEvent.EXPIRE): StepState.UNKNOWN,
    (StepState.ASKED, StepEvent.POSTPONE): StepState.ASKED,
    (StepState.ASKED, StepEvent.REPEAT): StepState.ASKED,
    (StepState.DONE, StepEvent.UNDO): StepState.UNDOING,
    (StepState.UNKNOWN, StepEvent.UNDO): StepState.UNDOING,
    (StepState.UNDOING, StepEvent.UNDO_ACCEPT): StepState.UNDONE,
    (StepState.UNDOING, StepEvent.UNDO_POSTPONE): StepState.UNDOING,
    (StepState.UNDOING, StepEvent.UNDO_REPEAT): StepState.UNDOING,
    (StepState.ASKED, StepEvent.SKIP): StepState.DONE,
    (StepState.UNDOING, StepEvent.UNDO_SKIP): StepState.UNDONE,
    (StepState.ASKED, StepEvent.ABANDON): StepState.UNKNOWN,
    (StepState.UNDOING, StepEvent.ABANDON): StepState.UNKNOWN,
}

PHASE_MOVES: frozenset[tuple[Phase, Phase]] = frozenset(
    {
        (Phase.RUNNING, Phase.COMPLETED),
        (Phase.RUNNING, Phase.COMPENSATING),
        (Phase.RUNNING, Phase.COMPENSATED),  # the first step was rejected: nothing to undo
        (Phase.RUNNING, Phase.STUCK),
        (Phase.COMPENSATING, Phase.COMPENSATED),
        (Phase.COMPENSATING, Phase.STUCK),
        (Phase.STUCK, Phase.RUNNING),
        (Phase.STUCK, Phase.COMPENSATING),
        (Phase.STUCK, Phase.COMPLETED),
        (Phase.STUCK, Phase.COMPENSATED),
        (Phase.RUNNING, Phase.FAILED),
        (Phase.COMPENSATING, Phase.FAILED),
        (Phase.STUCK, Phase.FAILED),
    }
)


class Kind(StrEnum):
    """Which of a step's two commands."""

    DO = "do"
    UNDO = "undo"


@dataclass(frozen=True, slots=True)
class StepProgress:
    """Where one step is. `attempts` counts the commands sent of its current kind; at `due`
    (wall clock, seconds) something has to be done if no answer came."""

    state: StepState = StepState.WAITING
    attempts: int = 0
    due: float | None = None


@dataclass(frozen=True, slots=True)
class Progress:
    """Where a saga is. `reason` says why it turned back; None while it goes forward. At `deadline`
    (wall clock, seconds) it turns back by itself; None once that cannot be any more."""

    phase: Phase
    steps: tuple[StepProgress, ...]
    reason: str | None = None
    deadline: float | None = None


@dataclass(frozen=True, slots=True)
class Started:
    """The first event of every saga."""


@dataclass(frozen=True, slots=True)
class Answered:
    """A participant answered a command. `reason` says why, where it said no."""

    step: str
    kind: Kind
    attempt: int
    ok: bool
    reason: str = ""


@dataclass(frozen=True, slots=True)
class CameDue:
    """The time given to a command is over."""

    step: str
    kind: Kind
    attempt: int


@dataclass(frozen=True, slots=True)
class Overdue:
    """The time given to the whole saga is over."""


Event = Started | Answered | CameDue | Overdue


@dataclass(frozen=True, slots=True)
class Send:
    """Hand this command over to its queue."""

    step: int
    kind: Kind
    attempt: int


@dataclass(frozen=True, slots=True)
class Move:
    """What came of an event. A stale one leaves everything as it was and sends nothing."""

    progress: Progress
    sends: tuple[Send, ...] = ()
    stale: bool = False


def begin(saga: Saga[Any]) -> Progress:
    """A saga that has not started."""
    return Progress(Phase.RUNNING, tuple(StepProgress() for _ in saga.steps))


def advance(saga: Saga[Any], progress: Progress, event: Event, now: float) -> Move:
    """Let `event` happen at `now` (wall clock, seconds)."""
    if isinstance(event, Started):
        return _start(saga, progress, now)
    if isinstance(event, Overdue):
        if progress.deadline is None or now < progress.deadline:
            return Move(progress, stale=True)
        return turn_back(saga, progress, f"it was not done within {saga.deadline:g} s", now)
    number = saga.number(event.step)
    if number is None or (happened := _step_event(saga, progress, number, event)) is None:
        return Move(progress, stale=True)
    if happened in (StepEvent.REPEAT, StepEvent.UNDO_REPEAT):
        again, send = repeat(saga, progress, number, now)
        return settle(saga, again, (send,), now)
    before = progress.steps[number]
    after = moved(before, happened)
    if happened in (StepEvent.POSTPONE, StepEvent.UNDO_POSTPONE):
        # Never later than the timer that runs already, so that a rejection told
        # again and again cannot put the next attempt off.
        later = now + saga.patience.pause(before.attempts)
        after = replace(after, due=later if before.due is None else min(before.due, later))
    else:
        after = replace(after, due=None)
    reason = progress.reason or _why(event, after.state)
    return settle(saga, replace(put(progress, number, after), reason=reason), (), now)


def _start(saga: Saga[Any], progress: Progress, now: float) -> Move:
    if any(step.state is not StepState.WAITING for step in progress.steps):
        return Move(progress, stale=True)
    if saga.deadline is not None:
        progress = replace(progress, deadline=now + saga.deadline)
    return settle(saga, progress, (), now)


def repeat(saga: Saga[Any], progress: Progress, number: int, now: float) -> tuple[Progress, Send]:
    """Send the open command of a step again, as a further attempt."""
    before = progress.steps[number]
    undoing = before.state is StepState.UNDOING
    after = moved(before, StepEvent.UNDO_REPEAT if undoing else StepEvent.REPEAT)
    after = _sent(saga, number, replace(after, attempts=before.attempts + 1), now)
    kind = Kind.UNDO if undoing else Kind.DO
    return put(progress, number, after), Send(number, kind, after.attempts)


def turn_back(saga: Saga[Any], progress: Progress, reason: str, now: float) -> Move:
    """Undo what was done, and what is asked for, since it may have happened."""
    for number, step in enumerate(progress.steps):
        if step.state is StepState.ASKED:
            progress = put(progress, number, replace(moved(step, StepEvent.ABANDON), due=None))
    return settle(saga, replace(progress, reason=reason), (), now)


def _step_event(
    saga: Saga[Any], progress: Progress, number: int, event: Answered | CameDue
) -> StepEvent | None:
    """What `event` means to the step as it is now; None if it no longer means anything."""
    step = progress.steps[number]
    asked = {StepState.ASKED: Kind.DO, StepState.UNDOING: Kind.UNDO}.get(step.state)
    if asked is not event.kind:
        return None
    undoing = asked is Kind.UNDO
    pause = saga.steps[number].wait is not None  # its time is what was waited for
    if event.ok if isinstance(event, Answered) else pause:  # a yes to any attempt is a yes
        return StepEvent.UNDO_ACCEPT if undoing else StepEvent.ACCEPT
    if event.attempt != step.attempts:
        return None
    if undoing:
        return StepEvent.UNDO_REPEAT if isinstance(event, CameDue) else StepEvent.UNDO_POSTPONE
    if no_way_back(saga, progress):
        return StepEvent.REPEAT if isinstance(event, CameDue) else StepEvent.POSTPONE
    return StepEvent.EXPIRE if isinstance(event, CameDue) else StepEvent.REJECT


def no_way_back(saga: Saga[Any], progress: Progress) -> bool:
    """Is the pivot done?"""
    return any(
        step.pivot and at.state is StepState.DONE
        for step, at in zip(saga.steps, progress.steps, strict=True)
    )


def moved(step: StepProgress, event: StepEvent) -> StepProgress:
    """The step after `event`, which must be one that it has."""
    return StepProgress(STEP_MOVES[step.state, event], step.attempts, step.due)


def _sent(saga: Saga[Any], number: int, step: StepProgress, now: float) -> StepProgress:
    """The step with the timer of the command that is handed over now."""
    declared = saga.steps[number]
    wait = declared.timeout if declared.wait is None else declared.wait
    if step.attempts > 1:
        wait = max(wait, saga.patience.pause(step.attempts))
    return StepProgress(step.state, step.attempts, now + wait)


def put(progress: Progress, number: int, step: StepProgress) -> Progress:
    """The progress with that step in its place."""
    steps = (*progress.steps[:number], step, *progress.steps[number + 1 :])
    return Progress(progress.phase, steps, progress.reason, progress.deadline)


def _why(event: Answered | CameDue, state: StepState) -> str | None:
    if state is StepState.REJECTED and isinstance(event, Answered):
        return f"{event.step} was rejected: {event.reason or 'no reason given'}"
    if state is StepState.UNKNOWN:
        return f"{event.step} was not answered in time"
    return None


def settle(saga: Saga[Any], progress: Progress, sends: tuple[Send, ...], now: float) -> Move:
    """Ask for whatever can be asked for now, and say which phase that is."""
    if progress.reason is None:
        numbers, event = _next_forward(saga, progress.steps), StepEvent.ASK
    else:
        numbers, event = _next_back(saga, progress.steps), StepEvent.UNDO
    kind = Kind.DO if event is StepEvent.ASK else Kind.UNDO
    for number in numbers:
        asked = StepProgress(moved(progress.steps[number], event).state, attempts=1)
        progress = put(progress, number, _sent(saga, number, asked, now))
        if saga.steps[number].wait is None:
            sends += (Send(number, kind, 1),)
    phase = _phase(saga, progress)
    if phase is not progress.phase and (progress.phase, phase) not in PHASE_MOVES:
        raise AssertionError(f"no saga goes from {progress.phase} to {phase}")
    too_late = phase.is_final or progress.reason is not None or no_way_back(saga, progress)
    deadline = None if too_late else progress.deadline
    return Move(Progress(phase, progress.steps, progress.reason, deadline), sends)


def _next_forward(saga: Saga[Any], steps: Sequence[StepProgress]) -> list[int]:
    for stage in saga.stages():
        if any(steps[number].state is not StepState.DONE for number in stage):
            return [number for number in stage if steps[number].state is StepState.WAITING]
    return []


def _next_back(saga: Saga[Any], steps: Sequence[StepProgress]) -> list[int]:
    if any(step.state is StepState.ASKED for step in steps):
        return []  # siblings in a group: what they did is known once they answered
    for stage in reversed(saga.stages()):
        if any(steps[number].state is StepState.UNDOING for number in stage):
            return []
        if ready := [number for number in stage if _is_to_undo(saga, steps, number)]:
            return ready
    return []


def _is_to_undo(saga: Saga[Any], steps: Sequence[StepProgress], number: int) -> bool:
    attempted = steps[number].state in (StepState.DONE, StepState.UNKNOWN)
    return attempted and saga.steps[number].compensation is not None


def _phase(saga: Saga[Any], progress: Progress) -> Phase:
    open_steps = [s for s in progress.steps if s.state in (StepState.ASKED, StepState.UNDOING)]
    if any(step.attempts >= saga.patience.stuck_after for step in open_steps):
        return Phase.STUCK
    if progress.reason is not None:
        return Phase.COMPENSATING if open_steps else Phase.COMPENSATED
    done = all(step.state is StepState.DONE for step in progress.steps)
    return Phase.COMPLETED if done else Phase.RUNNING
