"""Draw every state machine of Seawall, from its transition table, into docs/states/.

    python scripts/draw_states.py            write the pages
    python scripts/draw_states.py --check    fail if a page is not what its table says

To have another machine drawn, add it to `DRAWINGS`.
"""

import argparse
import itertools
import sys
from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import TypeVar

from seawall.deploy import release
from seawall.resilience import breaker
from seawall.runtime import restart
from seawall.sagas import progress
from seawall.topology import InstanceState

FOLDER = Path(__file__).resolve().parent.parent / "docs" / "states"


@dataclass(frozen=True, slots=True)
class Arrow:
    was: Enum
    event: str
    now: Enum


@dataclass(frozen=True, slots=True)
class Drawing:
    """One machine. It begins in the first of its states."""

    name: str
    title: str
    source: str  # the module and name that the arrows are from
    about: str
    states: tuple[Enum, ...]
    arrows: tuple[Arrow, ...]


S = TypeVar("S", bound=Enum)
E = TypeVar("E", bound=Enum)


def _table_of(table: Mapping[tuple[S, E], S]) -> tuple[Arrow, ...]:
    return tuple(Arrow(was, str(event.value), now) for (was, event), now in table.items())


def _pairs(states: Iterable[Enum], allowed: Container[tuple[Enum, Enum]]) -> tuple[Arrow, ...]:
    """Arrows without a name, in the order of the states."""
    pairs = itertools.permutations(states, 2)
    return tuple(Arrow(was, "", now) for was, now in pairs if (was, now) in allowed)


DRAWINGS = (
    Drawing(
        name="breaker",
        title="Circuit breaker",
        source="seawall.resilience.breaker.TRANSITIONS",
        about="One for each destination. What trips it and what closes it is in `BreakerConfig`.",
        states=tuple(breaker.State),
        arrows=_table_of(breaker.TRANSITIONS),
    ),
    Drawing(
        name="instance",
        title="Instance of a service",
        source="seawall.topology.InstanceState",
        about="Where one running copy is in its life. It only ever moves down the list, and may "
        "skip: a process that is killed goes from anywhere to `gone`. A restart is a new "
        "incarnation, which begins anew.",
        states=tuple(InstanceState),
        arrows=_pairs(InstanceState, set(itertools.combinations(InstanceState, 2))),
    ),
    Drawing(
        name="release",
        title="Release to a cluster",
        source="seawall.deploy.release.TRANSITIONS",
        about="What `seawall release` does once everything fits and the image is built. To "
        "restore is to apply what was applied before.",
        states=tuple(release.Stage),
        arrows=_table_of(release.TRANSITIONS),
    ),
    Drawing(
        name="replica",
        title="Replica under the supervisor",
        source="seawall.runtime.restart.TRANSITIONS",
        about="The place of one replica, whose processes come and go.",
        states=tuple(restart.State),
        arrows=_table_of(restart.TRANSITIONS),
    ),
    Drawing(
        name="saga",
        title="Saga",
        source="seawall.sagas.progress.PHASE_MOVES",
        about="Where a saga as a whole is; it follows from its steps.",
        states=tuple(progress.Phase),
        arrows=_pairs(progress.Phase, progress.PHASE_MOVES),
    ),
    Drawing(
        name="saga-step",
        title="Step of a saga",
        source="seawall.sagas.progress.STEP_MOVES",
        about="One participant's part, and its compensation.",
        states=tuple(progress.StepState),
        arrows=_table_of(progress.STEP_MOVES),
    ),
)


def page(drawing: Drawing) -> str:
    """The machine as a page: a diagram, and the same as a table."""
    lines = [
        f"# {drawing.title}",
        "",
        drawing.about,
        "",
        f"Drawn by `scripts/draw_states.py` from `{drawing.source}`; edit that, not this.",
        "",
        "```mermaid",
        "stateDiagram-v2",
        *(f'    state "{_text(state)}" as {_id(state)}' for state in drawing.states),
        f"    [*] --> {_id(drawing.states[0])}",
        *(_mermaid(arrow) for arrow in drawing.arrows),
        "```",
        "",
        *_table(drawing),
        "",
    ]
    return "\n".join(lines)


def _mermaid(arrow: Arrow) -> str:
    label = f": {arrow.event}" if arrow.event else ""
    return f"    {_id(arrow.was)} --> {_id(arrow.now)}{label}"


def _table(drawing: Drawing) -> list[str]:
    """Rows are states; a column for each event, or for each state where arrows have no name."""
    named = any(arrow.event for arrow in drawing.arrows)

    def column(arrow: Arrow) -> str:
        return arrow.event if named else _text(arrow.now)

    cells = {
        (arrow.was, column(arrow)): _text(arrow.now) if named else "yes" for arrow in drawing.arrows
    }
    columns = list(dict.fromkeys(column(arrow) for arrow in drawing.arrows))
    return [
        f"| {'state' if named else 'from, to'} | {' | '.join(columns)} |",
        "|---" * (len(columns) + 1) + "|",
        *(
            f"| **{_text(state)}** | {' | '.join(cells.get((state, c), '-') for c in columns)} |"
            for state in drawing.states
        ),
    ]


def _id(state: Enum) -> str:
    return state.name.lower()


def _text(state: Enum) -> str:
    return str(state.value)


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description="Draw docs/states/ from the transition tables.")
    parser.add_argument("--check", action="store_true", help="write nothing; fail on a difference")
    check = parser.parse_args(arguments).check
    pages = {FOLDER / f"{drawing.name}.md": page(drawing) for drawing in DRAWINGS}
    old = [path for path, text in pages.items() if not path.exists() or path.read_text() != text]
    strays = [path for path in FOLDER.glob("*.md") if path not in pages]
    if check:
        for path in old + strays:
            sys.stderr.write(f"{path}: not what its table says; run scripts/draw_states.py\n")
        return 1 if old or strays else 0
    FOLDER.mkdir(parents=True, exist_ok=True)
    for path in old:
        path.write_text(pages[path])
        sys.stdout.write(f"drew {path}\n")
    for path in strays:
        path.unlink()
        sys.stdout.write(f"removed {path}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
