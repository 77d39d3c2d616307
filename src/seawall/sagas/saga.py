"""What a saga is: steps in order, each a command to another service and the command that undoes it.

Only the declaration and what one saga has reached; how it moves is `seawall.sagas.progress`, where
it is kept `seawall.sagas.store`, and what carries it out `seawall.sagas.engine`.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any, Generic, TypeVar, get_type_hints

from pydantic import BaseModel

from seawall.errors import Misconfigured

Data = TypeVar("Data", bound=BaseModel)

# Names become part of message ids and of topics, so they hold nothing that separates those.
_NAME = re.compile(r"[a-z][a-z0-9_-]{0,39}")


@dataclass(frozen=True, kw_only=True)
class Step(Generic[Data]):
    """One command, and how it is taken back.

    `ask` makes the body of the command from the saga's data, `undo` that of the compensation
    (`ask` again where it is not given). A participant recognises repeated commands by what they
    name (the order), for a compensation may come more than once, and before the command it
    undoes: it must then make sure that the late command has no effect.

    Without an answer within `timeout` seconds the step counts as perhaps done: it is
    compensated like one that is done. A step without compensation has nothing to undo.

    Once the `pivot` is done there is no way back: later steps are asked for until they succeed.
    Neighbouring steps with the same `group` are asked for together, and waited for together.
    """

    name: str
    command: str
    ask: Callable[[Data], BaseModel]
    compensation: str | None = None
    undo: Callable[[Data], BaseModel] | None = None
    # Seconds from handing the command over to its answer. The default outlasts two crashes on
    # the way: 30 s until an outbox row is claimed anew, 30 s until a message is delivered again.
    timeout: float = 120.0
    pivot: bool = False
    group: str | None = None
    wait: float | None = None  # seconds; set by `pause`

    @staticmethod
    def pause(name: str, seconds: float) -> "Step[Any]":
        """A step that asks nobody: it is done when `seconds` have passed, whatever was restarted
        meanwhile."""
        return Step(name=name, command="", ask=_itself, wait=seconds)

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise Misconfigured(
                f"{self.name!r} cannot name a step",
                fix="a lower-case letter, then letters, digits, '-' and '_', 40 at most",
            )
        if self.timeout <= 0:
            raise Misconfigured(f"step {self.name}: timeout is above 0 s, not {self.timeout}")
        if self.wait is not None and (self.wait <= 0 or self.command or self.pivot):
            raise Misconfigured(
                f"step {self.name}: a pause is above 0 s long and nothing else",
                fix="Step.pause('cool-off', seconds=3600)",
            )


def _itself(data: Data) -> Data:
    return data


@dataclass(frozen=True, kw_only=True)
class Patience:
    """How often a command is sent that must not be given up.

    Compensations, and steps after the pivot, are repeated for ever: the pause doubles from
    `base` to `cap`. From `stuck_after` attempts on the saga is `stuck`, which tells a person to
    look; the attempts go on, and one that succeeds frees it. There is no jitter: the repeats
    wait in a durable queue that a participant empties at its own pace.
    """

    base: float = 1.0  # seconds
    cap: float = 60.0  # seconds
    stuck_after: int = 8  # attempts: about two minutes, longer than a restart or a deployment

    def pause(self, attempts: int) -> float:
        """Seconds to wait after so many attempts."""
        return min(self.cap, self.base * 2.0 ** min(attempts - 1, 30))


@dataclass(frozen=True)
class Saga(Generic[Data]):
    """Steps that are all completed, or undone in reverse.

    A saga that has begun goes on under the `version` it began with: when steps change, raise the
    version and attach the old declaration beside the new one until no saga of it is open.
    """

    name: str
    data: type[Data]
    steps: Sequence[Step[Data]]
    version: int = 1
    patience: Patience = field(default_factory=Patience)
    # Seconds from its start. When they are over before the pivot is done, it turns back.
    deadline: float | None = None

    def __post_init__(self) -> None:
        if self.deadline is not None and self.deadline <= 0:
            raise Misconfigured(f"saga {self.name}: deadline is above 0 s, not {self.deadline}")
        if not _NAME.fullmatch(self.name):
            raise Misconfigured(f"{self.name!r} cannot name a saga", fix="for example 'order'")
        names = [step.name for step in self.steps]
        if not names:
            raise Misconfigured(f"saga {self.name} has no step")
        if twice := {name for name in names if names.count(name) > 1}:
            raise Misconfigured(f"saga {self.name} has steps of one name: {sorted(twice)}")
        if sum(step.pivot for step in self.steps) > 1:
            raise Misconfigured(f"saga {self.name} has more than one pivot")
        groups = [group for group, _ in groupby(self.steps, lambda step: step.group) if group]
        if twice := {group for group in groups if groups.count(group) > 1}:
            raise Misconfigured(f"saga {self.name}: steps of a group stand together: {twice}")
        if any(step.pivot and step.group for step in self.steps):
            raise Misconfigured(
                f"saga {self.name}: the pivot stands alone", fix="take it out of its group"
            )

    def stages(self) -> list[list[int]]:
        """The steps' numbers in the order they are asked for; a group is one stage."""
        stages: list[list[int]] = []
        for number, step in enumerate(self.steps):
            if stages and step.group and self.steps[stages[-1][0]].group == step.group:
                stages[-1].append(number)
            else:
                stages.append([number])
        return stages

    def number(self, name: str) -> int | None:
        """Where the step of that name stands; None if there is none."""
        return next((n for n, step in enumerate(self.steps) if step.name == name), None)


def commands(saga: Saga[Data]) -> dict[str, type[BaseModel] | None]:
    """The topics of a saga's commands and compensations, and what is sent there.

    That is what `ask` and `undo` are annotated to return; None where they are not.
    """
    found: dict[str, type[BaseModel] | None] = {}
    for step in saga.steps:
        found.setdefault(step.command, _returned(step.ask))
        if step.compensation is not None:
            found.setdefault(step.compensation, _returned(step.undo or step.ask))
    return found


def _returned(function: Callable[[Data], BaseModel]) -> type[BaseModel] | None:
    try:
        kind = get_type_hints(function).get("return")
    except (NameError, TypeError):  # names that only a type checker sees; no plain function
        return None
    return kind if isinstance(kind, type) and issubclass(kind, BaseModel) else None
