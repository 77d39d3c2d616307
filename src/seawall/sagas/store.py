"""Where sagas are kept: three tables in the service's own database, beside its outbox and inbox.

Every function works in the caller's transaction, so a saga moves together with the effects, the
inbox row and the outbox rows of that transition, or not at all. SQLite and PostgreSQL.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncSession

from seawall.errors import NotSent
from seawall.messaging.tables import metadata
from seawall.sagas.progress import CameDue, Kind, Phase, Progress, StepProgress, StepState
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
    sa.Column("reason", sa.Text),
    sa.Column("started_at", sa.Float, nullable=False),
    sa.Column("moved_at", sa.Float, nullable=False),
    sa.Index("seawall_saga_phase", "name", "phase"),
)

STEPS = sa.Table(
    "seawall_saga_step",
    metadata,
    sa.Column("saga_id", sa.String(LONGEST_ID), primary_key=True),
    sa.Column("number", sa.Integer, primary_key=True),
    sa.Column("name", sa.String(40), nullable=False),
    sa.Column("state", sa.String(20), nullable=False),
    sa.Column("attempts", sa.Integer, nullable=False),
    sa.Column("due_at", sa.Float),
)
sa.Index(
    "seawall_saga_step_due",
    STEPS.c.due_at,
    sqlite_where=STEPS.c.due_at.is_not(None),
    postgresql_where=STEPS.c.due_at.is_not(None),
)

HISTORY = sa.Table(
    "seawall_saga_history",
    metadata,
    sa.Column("saga_id", sa.String(LONGEST_ID), primary_key=True),
    sa.Column("revision", sa.Integer, primary_key=True),
    sa.Column("number", sa.Integer, primary_key=True),  # within the revision
    sa.Column("at", sa.Float, nullable=False),
    sa.Column("what", sa.Text, nullable=False),
)


class Overtaken(NotSent):
    """Another replica moved this saga at the same moment: nothing was written; try again."""


@dataclass(frozen=True, slots=True)
class Stored:
    """A saga as it is in the database. `data` is JSON."""

    saga_id: str
    name: str
    version: int
    revision: int
    data: str
    progress: Progress
    started_at: float  # wall clock, seconds since 1970
    moved_at: float


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of a saga's timeline."""

    at: float  # wall clock, seconds since 1970
    what: str


async def create(
    session: AsyncSession, saga: Saga[Any], saga_id: str, data: str, progress: Progress, now: float
) -> bool:
    """Keep a saga that has not started; False, and nothing written, if there is one of that id."""
    values = {
        "saga_id": saga_id,
        "name": saga.name,
        "version": saga.version,
        "phase": progress.phase.value,
        "revision": 0,
        "data": data,
        "started_at": now,
        "moved_at": now,
    }
    dialect = session.get_bind().dialect.name
    insert = postgresql.insert if dialect == "postgresql" else sqlite.insert
    statement = insert(SAGAS).values(values).on_conflict_do_nothing().returning(SAGAS.c.saga_id)
    if (await session.execute(statement)).first() is None:
        return False
    rows = [
        {"saga_id": saga_id, "number": number, "name": step.name, **_step_values(at)}
        for number, (step, at) in enumerate(zip(saga.steps, progress.steps, strict=True))
    ]
    await session.execute(sa.insert(STEPS), rows)
    return True


async def load(session: AsyncSession, saga_id: str, *, lock: bool = False) -> Stored | None:
    """Read a saga; with `lock` nobody else moves it before this transaction ends."""
    query = sa.select(SAGAS).where(SAGAS.c.saga_id == saga_id)
    row = (await session.execute(query.with_for_update() if lock else query)).one_or_none()
    if row is None:
        return None
    steps = await session.execute(
        sa.select(STEPS).where(STEPS.c.saga_id == saga_id).order_by(STEPS.c.number)
    )
    reached = tuple(StepProgress(StepState(at.state), at.attempts, at.due_at) for at in steps)
    return Stored(
        saga_id=row.saga_id,
        name=row.name,
        version=row.version,
        revision=row.revision,
        data=row.data,
        progress=Progress(Phase(row.phase), reached, row.reason),
        started_at=row.started_at,
        moved_at=row.moved_at,
    )


async def save(
    session: AsyncSession, before: Stored, after: Progress, what: Sequence[str], now: float
) -> None:
    """Write where the saga is now and what happened; raises `Overtaken` if it moved meanwhile."""
    mine = (SAGAS.c.saga_id == before.saga_id) & (SAGAS.c.revision == before.revision)
    revision = before.revision + 1
    moved = await session.execute(
        sa.update(SAGAS)
        .where(mine)
        .values(revision=revision, phase=after.phase.value, reason=after.reason, moved_at=now)
        .returning(SAGAS.c.saga_id)
    )
    if moved.first() is None:
        raise Overtaken(f"saga {before.saga_id} was moved by another replica")
    for number, (old, new) in enumerate(zip(before.progress.steps, after.steps, strict=True)):
        if new != old:
            here = (STEPS.c.saga_id == before.saga_id) & (STEPS.c.number == number)
            await session.execute(sa.update(STEPS).where(here).values(_step_values(new)))
    if what:
        lines = [
            {"saga_id": before.saga_id, "revision": revision, "number": n, "at": now, "what": line}
            for n, line in enumerate(what)
        ]
        await session.execute(sa.insert(HISTORY), lines)


def _step_values(step: StepProgress) -> dict[str, Any]:
    return {"state": step.state.value, "attempts": step.attempts, "due_at": step.due}


async def due(
    session: AsyncSession, name: str, now: float, limit: int
) -> list[tuple[str, CameDue]]:
    """Sagas of that name with a command whose time is over, longest first."""
    rows = await session.execute(
        sa.select(STEPS.c.saga_id, STEPS.c.name, STEPS.c.state, STEPS.c.attempts)
        .join(SAGAS, SAGAS.c.saga_id == STEPS.c.saga_id)
        .where(STEPS.c.due_at <= now, SAGAS.c.name == name)
        .order_by(STEPS.c.due_at)
        .limit(limit)
    )
    return [
        (row.saga_id, CameDue(row.name, _kind(StepState(row.state)), row.attempts)) for row in rows
    ]


def _kind(state: StepState) -> Kind:
    return Kind.UNDO if state is StepState.UNDOING else Kind.DO


async def timeline(session: AsyncSession, saga_id: str) -> list[Entry]:
    """What happened to a saga, oldest first."""
    rows = await session.execute(
        sa.select(HISTORY.c.at, HISTORY.c.what)
        .where(HISTORY.c.saga_id == saga_id)
        .order_by(HISTORY.c.revision, HISTORY.c.number)
    )
    return [Entry(row.at, row.what) for row in rows]


async def count(session: AsyncSession, name: str) -> dict[Phase, int]:
    """How many sagas of that name there are in each phase."""
    rows = await session.execute(
        sa.select(SAGAS.c.phase, sa.func.count())
        .where(SAGAS.c.name == name)
        .group_by(SAGAS.c.phase)
    )
    return {Phase(phase): number for phase, number in rows}
