"""Where sagas are kept: two tables in the service's own database, beside its outbox and inbox.

Every function works in the caller's transaction, so a saga moves together with the effects, the
inbox row and the outbox rows of that transition, or not at all. SQLite and PostgreSQL.

A saga is one row, its steps included: a transition reads it, writes it, and adds one row to its
history. Statements are made once and run on the session's connection, for this is what every
transition costs.
"""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import msgspec
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncSession

from seawall.errors import NotSent
from seawall.messaging.prepared import Prepared
from seawall.messaging.tables import metadata
from seawall.sagas.progress import (
    CameDue,
    Kind,
    Overdue,
    Phase,
    Progress,
    StepProgress,
    StepState,
)
from seawall.sagas.saga import Saga

# A saga's id is part of its commands' ids, which the inboxes of participants keep.
LONGEST_ID = 100  # characters

SAGAS = sa.Table(
    "seawall_saga",
    metadata,
    sa.Column("saga_id", sa.String(LONGEST_ID), primary_key=True),
    sa.Column("name", sa.String(40), nullable=False),
    sa.Column("version", sa.Integer, nullable=False),
    sa.Column("phase", sa.String(20), nullable=False),
    sa.Column("revision", sa.Integer, nullable=False),
    sa.Column("data", sa.Text, nullable=False),  # JSON
    sa.Column("steps", sa.Text, nullable=False),  # JSON: [name, state, attempts, due] of each
    sa.Column("reason", sa.Text),
    sa.Column("started_at", sa.Float, nullable=False),
    sa.Column("moved_at", sa.Float, nullable=False),
    sa.Column("deadline_at", sa.Float),  # when it turns back by itself
    sa.Column("due_at", sa.Float),  # when the first of its timers runs out, the deadline included
    sa.Index("seawall_saga_phase", "name", "phase"),
)
sa.Index(
    "seawall_saga_due",
    SAGAS.c.due_at,
    sqlite_where=SAGAS.c.due_at.is_not(None),
    postgresql_where=SAGAS.c.due_at.is_not(None),
)

HISTORY = sa.Table(
    "seawall_saga_history",
    metadata,
    sa.Column("saga_id", sa.String(LONGEST_ID), primary_key=True),
    sa.Column("revision", sa.Integer, primary_key=True),
    sa.Column("at", sa.Float, nullable=False),
    sa.Column("what", sa.Text, nullable=False),  # JSON: lines of text
)

_LOAD = sa.select(SAGAS).where(SAGAS.c.saga_id == sa.bindparam("wanted"))
_LOAD_ONE = Prepared(_LOAD)
_LOAD_LOCKED = Prepared(_LOAD.with_for_update())
_CREATE = Prepared(
    sqlite.insert(SAGAS).on_conflict_do_nothing().returning(SAGAS.c.saga_id),
    tuple(SAGAS.c.keys()),
    postgresql=postgresql.insert(SAGAS).on_conflict_do_nothing().returning(SAGAS.c.saga_id),
)
_REACHED = ("phase", "revision", "steps", "reason", "moved_at", "deadline_at", "due_at")
_SAVE = Prepared(
    sa.update(SAGAS).where(
        SAGAS.c.saga_id == sa.bindparam("mine"), SAGAS.c.revision == sa.bindparam("seen")
    ),
    _REACHED,
)
_REMEMBER = Prepared(sa.insert(HISTORY), tuple(HISTORY.c.keys()))
_DUE = Prepared(
    sa.select(SAGAS.c.saga_id, SAGAS.c.steps, SAGAS.c.deadline_at)
    .where(SAGAS.c.due_at <= sa.bindparam("now"), SAGAS.c.name == sa.bindparam("of"))
    .order_by(SAGAS.c.due_at)
    .limit(sa.bindparam("most"))
)


class Overtaken(NotSent):
    """Another replica moved this saga at the same moment: nothing was written; try again."""


class _Row(NamedTuple):
    """The columns of `SAGAS`, in their order."""

    saga_id: str
    name: str
    version: int
    phase: str
    revision: int
    data: str
    steps: str
    reason: str | None
    started_at: float
    moved_at: float
    deadline_at: float | None
    due_at: float | None


@dataclass(frozen=True, slots=True)
class Stored:
    """A saga as it is in the database. `data` is JSON, `names` are those of its steps."""

    saga_id: str
    name: str
    version: int
    revision: int
    data: str
    progress: Progress
    names: tuple[str, ...]
    started_at: float  # wall clock, seconds since 1970
    moved_at: float


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of a saga's timeline."""

    at: float  # wall clock, seconds since 1970
    what: str


async def create(
    session: AsyncSession,
    saga: Saga[Any],
    saga_id: str,
    data: str,
    progress: Progress,
    what: Sequence[str],
    now: float,
) -> bool:
    """Keep a new saga, as revision 1; False, and nothing written, if there is one of that id."""
    values = {
        "saga_id": saga_id,
        "name": saga.name,
        "version": saga.version,
        "data": data,
        "started_at": now,
        **_reached(saga, progress, 1, now),
    }
    if not (await _CREATE.run(session, values)).rows:
        return False
    await _REMEMBER.run(session, _lines(saga_id, 1, what, now))
    return True


async def load(session: AsyncSession, saga_id: str, *, lock: bool = False) -> Stored | None:
    """Read a saga; with `lock` nobody else moves it before this transaction ends."""
    found = await (_LOAD_LOCKED if lock else _LOAD_ONE).run(session, {"wanted": saga_id})
    if not found.rows:
        return None
    row = _Row(*found.rows[0])
    steps = _named(row.steps)
    return Stored(
        saga_id=row.saga_id,
        name=row.name,
        version=row.version,
        revision=row.revision,
        data=row.data,
        progress=Progress(Phase(row.phase), _steps(steps), row.reason, row.deadline_at),
        names=tuple(name for name, *_ in steps),
        started_at=row.started_at,
        moved_at=row.moved_at,
    )


async def save(
    session: AsyncSession,
    saga: Saga[Any],
    before: Stored,
    after: Progress,
    what: Sequence[str],
    now: float,
) -> None:
    """Write where the saga is now and what happened; raises `Overtaken` if it moved meanwhile."""
    revision = before.revision + 1
    values = _reached(saga, after, revision, now)
    mine = {"mine": before.saga_id, "seen": before.revision}
    if (await _SAVE.run(session, {**mine, **values})).changed != 1:
        raise Overtaken(f"saga {before.saga_id} was moved by another replica")
    if what:
        await _REMEMBER.run(session, _lines(before.saga_id, revision, what, now))


def _reached(saga: Saga[Any], progress: Progress, revision: int, now: float) -> dict[str, Any]:
    timers = (progress.deadline, *(at.due for at in progress.steps))
    steps = [
        (step.name, at.state, at.attempts, at.due)
        for step, at in zip(saga.steps, progress.steps, strict=True)
    ]
    return {
        "phase": progress.phase.value,
        "revision": revision,
        "steps": msgspec.json.encode(steps).decode(),
        "reason": progress.reason,
        "moved_at": now,
        "deadline_at": progress.deadline,
        "due_at": min((at for at in timers if at is not None), default=None),
    }


def _lines(saga_id: str, revision: int, what: Sequence[str], now: float) -> dict[str, Any]:
    text = msgspec.json.encode(what).decode()
    return {"saga_id": saga_id, "revision": revision, "at": now, "what": text}


_Step = tuple[str, StepState, int, float | None]
_STEPS = msgspec.json.Decoder(tuple[_Step, ...])


def _steps(steps: tuple[_Step, ...]) -> tuple[StepProgress, ...]:
    return tuple(StepProgress(state, attempts, due) for _, state, attempts, due in steps)


def _named(text: str) -> tuple[_Step, ...]:
    return _STEPS.decode(text)


async def due(
    session: AsyncSession, name: str, now: float, limit: int
) -> list[tuple[str, CameDue | Overdue]]:
    """Commands and sagas whose time is over, of up to `limit` sagas of that name, longest first."""
    rows = (await _DUE.run(session, {"now": now, "of": name, "most": limit})).rows
    found: list[tuple[str, CameDue | Overdue]] = []
    for saga_id, steps, deadline in rows:
        if deadline is not None and deadline <= now:
            found.append((saga_id, Overdue()))
            continue  # which ends the timers of what it asked for
        found += [
            (saga_id, CameDue(step, _kind(state), attempts))
            for step, state, attempts, at in _named(steps)
            if at is not None and at <= now
        ]
    return found


def _kind(state: StepState) -> Kind:
    return Kind.UNDO if state is StepState.UNDOING else Kind.DO


async def timeline(session: AsyncSession, saga_id: str) -> list[Entry]:
    """What happened to a saga, oldest first."""
    rows = await session.execute(
        sa.select(HISTORY.c.at, HISTORY.c.what)
        .where(HISTORY.c.saga_id == saga_id)
        .order_by(HISTORY.c.revision)
    )
    return [
        Entry(row.at, line)
        for row in rows
        for line in msgspec.json.decode(row.what, type=list[str])
    ]


async def count(session: AsyncSession, name: str) -> dict[Phase, int]:
    """How many sagas of that name there are in each phase."""
    rows = await session.execute(
        sa.select(SAGAS.c.phase, sa.func.count())
        .where(SAGAS.c.name == name)
        .group_by(SAGAS.c.phase)
    )
    return {Phase(phase): number for phase, number in rows}


@dataclass(frozen=True, slots=True)
class Listed:
    """A saga in a list. `waits_for` names the commands that are open, with their attempts."""

    saga_id: str
    name: str
    version: int
    phase: Phase
    waits_for: tuple[str, ...]
    reason: str | None
    started_at: float  # wall clock, seconds since 1970
    moved_at: float


async def find(
    session: AsyncSession, phases: Collection[Phase], names: Collection[str], limit: int
) -> list[Listed]:
    """Sagas in one of these phases and of one of these names: those that are stuck first, then
    those that moved longest ago."""
    stuck_first = sa.case((SAGAS.c.phase == Phase.STUCK.value, 0), else_=1)
    rows = await session.execute(
        sa.select(SAGAS)
        .where(SAGAS.c.name.in_(names), SAGAS.c.phase.in_([phase.value for phase in phases]))
        .order_by(stuck_first, SAGAS.c.moved_at)
        .limit(limit)
    )
    return [
        Listed(
            saga_id=row.saga_id,
            name=row.name,
            version=row.version,
            phase=Phase(row.phase),
            waits_for=tuple(_open(row.steps)),
            reason=row.reason,
            started_at=row.started_at,
            moved_at=row.moved_at,
        )
        for row in rows
    ]


def _open(text: str) -> Iterator[str]:
    for step, state, attempts, _ in _named(text):
        if state in (StepState.ASKED, StepState.UNDOING):
            what = f"{step} undone" if state is StepState.UNDOING else step
            yield what if attempts == 1 else f"{what}, attempt {attempts}"
