"""The outbox: a message is published if, and only if, the transaction that wrote it commits.

`write` adds a row in the caller's transaction. A `Relay` claims rows, publishes them and
deletes them; any number of relays, in any number of processes, may work on one table. A relay
that dies between publishing and deleting makes a duplicate with the same message id, which
the receiver's inbox recognises.

No cursor over `seq`: its values become visible out of order, and a cursor would skip rows
that commit late. What is sent is deleted; what is there is unsent.
"""

import asyncio
import json
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from random import Random
from typing import Any, Self
from weakref import WeakKeyDictionary, WeakSet

from sqlalchemy import (
    CursorResult,
    Engine,
    Row,
    Select,
    and_,
    delete,
    event,
    func,
    select,
    tuple_,
    update,
)
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, AsyncSession
from sqlalchemy.orm import Session

from seawall.clock import SYSTEM, Clock
from seawall.concurrency.tasks import Tasks
from seawall.errors import NotSent, OutcomeUnknown, Refused, Unavailable
from seawall.facts import Observer, ignore
from seawall.messaging.base import Message, Transport
from seawall.messaging.tables import outbox

# The first ceiling of the back-off while broker or database are away.
FIRST_BACKOFF = 0.1  # seconds

# Made once, and run on the session's connection: a message costs half as much as by the ORM.
_WRITE = outbox.insert()

# A session that wrote to the outbox; looked at when it commits.
_WROTE = "seawall_outbox_wrote"

# The relays of this process, so that a commit wakes them without the writer knowing them.
_RELAYS: WeakKeyDictionary[Engine, WeakSet["Relay"]] = WeakKeyDictionary()


async def write(
    session: AsyncSession,
    topic: str,
    message: Message,
    delay: float = 0.0,
    *,
    clock: Clock = SYSTEM,
) -> None:
    """Have `message` published to `topic`, `delay` seconds from now, if `session` commits.

    Messages of one key leave in the order in which they were written, except delayed ones.
    """
    now = clock.wall()
    connection = await session.connection()
    await connection.execute(
        _WRITE,
        {
            "message_id": message.id,
            "topic": topic,
            "key": message.key,
            "order_key": message.key if delay <= 0 else None,
            "headers": json.dumps(dict(message.headers)),
            "body": message.body,
            "not_before": now + max(0.0, delay),
            "created": now,
        },
    )
    sync = session.sync_session
    if not event.contains(sync, "after_commit", _committed):
        event.listen(sync, "after_commit", _committed)
    sync.info[_WROTE] = session.get_bind()


def _committed(session: Session) -> None:
    bind = session.info.get(_WROTE)
    if bind is None:
        return
    if not session.in_nested_transaction():
        del session.info[_WROTE]
    for relay in _RELAYS.get(bind, ()):
        relay.wake()


@dataclass(frozen=True, slots=True)
class Backlog:
    """What waits in an outbox."""

    unsent: int
    refused: int  # rows the broker will never take
    oldest_age: float  # seconds since the oldest unsent row was due; 0 if there is none


async def backlog(connection: AsyncConnection | AsyncSession, *, clock: Clock = SYSTEM) -> Backlog:
    """How far the relays are behind."""
    now = clock.wall()
    open_rows = outbox.c.refused.is_(None)
    row = (
        await connection.execute(
            select(
                func.count().filter(open_rows),
                func.count().filter(~open_rows),
                func.min(outbox.c.not_before).filter(open_rows),
            )
        )
    ).one()
    return Backlog(row[0], row[1], max(0.0, now - (row[2] if row[2] is not None else now)))


@dataclass(frozen=True, slots=True)
class Relayed:
    """Rows were published and deleted. `oldest` is how long the oldest of them had waited."""

    messages: int
    oldest: float  # seconds


@dataclass(frozen=True, slots=True)
class RelayStalled:
    """Broker or database could not be reached; the relay tries again after `delay` seconds."""

    error: str
    delay: float


@dataclass(frozen=True, slots=True)
class RelayRefused:
    """The broker will never take this message; its row stays, with the reason."""

    topic: str
    message_id: str
    error: str


@dataclass(frozen=True, kw_only=True, slots=True)
class RelayConfig:
    batch: int = 500  # rows claimed at once
    claim: float = 30.0  # seconds; longer than publishing a batch can take
    sweep: float = 1.0  # seconds between looks for rows that nobody announced
    backoff: float = 5.0  # seconds; the last ceiling while the broker is away


@contextmanager
def _database_errors() -> Iterator[None]:
    try:
        yield
    except (DBAPIError, PoolTimeout, OSError) as error:
        raise Unavailable(f"the database of the outbox: {error}") from error


class Relay:
    """Publishes what is in the outbox of one database, while its block is open.

    Woken at once by every commit in this process that wrote to the outbox; looks by itself every
    `sweep` seconds for rows that are due now, or were left by a process that died.
    """

    def __init__(
        self,
        engine: AsyncEngine,
        transport: Transport,
        *,
        config: RelayConfig | None = None,
        observer: Observer = ignore,
        clock: Clock = SYSTEM,
        rng: Random | None = None,
    ) -> None:
        self._engine = engine
        self._transport = transport
        self._config = config or RelayConfig()
        self._observer = observer
        self._clock = clock
        self._rng = rng or Random()
        self._me = uuid.uuid4().hex
        self._looked_at = 0.0
        self._woken = asyncio.Event()
        self._stopping = asyncio.Event()
        self._tasks = Tasks()
        self.sent = 0

    def wake(self) -> None:
        """There may be rows to send."""
        self._woken.set()

    async def __aenter__(self) -> Self:
        _RELAYS.setdefault(self._engine.sync_engine, WeakSet()).add(self)
        self._tasks.start(self._run(), name="outbox-relay")
        return self

    async def __aexit__(self, *_: object) -> None:
        """Send what was committed, if the broker takes it now; then stop."""
        _RELAYS[self._engine.sync_engine].discard(self)
        self._stopping.set()
        self._woken.set()
        await self._tasks.join()
        async with self._tasks:  # raises what the task died of, if it did
            pass

    def __repr__(self) -> str:
        return f"<Relay {self._me[:8]} {self.sent} sent>"

    async def _run(self) -> None:
        ceiling = FIRST_BACKOFF
        stopping = False
        while not stopping:
            stopping = self._stopping.is_set()  # then this is the last round
            self._woken.clear()
            try:
                while await self.relay_once():
                    ceiling = FIRST_BACKOFF
                if not self._stopping.is_set():
                    await self._pause(self._woken, await self._until_due())
            except (NotSent, OutcomeUnknown) as error:
                delay = self._rng.uniform(ceiling / 2, ceiling)
                ceiling = min(self._config.backoff, ceiling * 2)
                self._observer(RelayStalled(str(error), delay))
                if not stopping:
                    await self._pause(self._stopping, delay)

    async def _pause(self, end: asyncio.Event, within: float) -> None:
        """Wait for `end`, at most `within` seconds."""
        rung = asyncio.Event()

        async def ring() -> None:
            await self._clock.sleep(within)
            rung.set()

        async with Tasks() as tasks:
            waits = (tasks.start(ring()), tasks.start(end.wait()))
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)

    async def _until_due(self) -> float:
        """Seconds until the next row is due, `sweep` at most."""
        # From the last look on, not from now: what became due in between was not seen by it.
        due = select(func.min(outbox.c.not_before)).where(outbox.c.not_before > self._looked_at)
        with _database_errors():
            async with self._engine.connect() as connection:
                first = (await connection.execute(due)).scalar()
        sweep = self._config.sweep
        return sweep if first is None else min(sweep, max(0.0, first - self._clock.wall()))

    async def relay_once(self) -> int:
        """Claim, publish and delete one batch; return how many rows were claimed.

        Raises `Unavailable` or `OutcomeUnknown`; the rows are claimable again then.
        """
        with _database_errors():
            rows = await self._claim()
            if rows:
                await self._publish(rows)
        return len(rows)

    async def _claim(self) -> list[Row[Any]]:
        now = self._looked_at = self._clock.wall()
        async with self._engine.begin() as connection:
            rows = await self._take(connection, _heads(now, self._config.batch), now)
            keys = {(row.topic, row.order_key) for row in rows if row.order_key is not None}
            room = self._config.batch - len(rows)
            if keys and room > 0:
                # Nobody else can claim these: their head is there, unsent, and ours.
                rows += await self._take(connection, _followers(keys, now, room), now)
        return sorted(rows, key=lambda row: row.seq)

    async def _take(
        self, connection: AsyncConnection, which: Select[tuple[int]], now: float
    ) -> list[Row[Any]]:
        statement = (
            update(outbox)
            .where(outbox.c.seq.in_(which.scalar_subquery()))
            .values(claimed_by=self._me, claimed_until=now + self._config.claim)
            .returning(*outbox.c)
        )
        result: CursorResult[Any] = await connection.execute(statement)
        return list(result.all())

    async def _publish(self, rows: Sequence[Row[Any]]) -> None:
        topics: dict[str, list[Row[Any]]] = {}
        for row in rows:
            topics.setdefault(row.topic, []).append(row)
        stored: list[int] = []
        try:
            for topic, members in topics.items():
                messages = [_message(row) for row in members]
                receipts = await self._transport.publish(topic, messages)
                for row, receipt in zip(members, receipts, strict=True):
                    if receipt.error is None:
                        stored.append(row.seq)
                    elif isinstance(receipt.error, Refused):
                        await self._refuse(row, receipt.error)
                    else:
                        raise receipt.error
        finally:
            await self._finish(stored, all_sent=len(stored) == len(rows))
        self.sent += len(stored)
        if stored:
            oldest = self._clock.wall() - min(row.not_before for row in rows)
            self._observer(Relayed(len(stored), oldest))

    async def _finish(self, stored: Sequence[int], *, all_sent: bool) -> None:
        """Delete what was published; let go of the rest of this batch, for a further try."""
        mine = outbox.c.claimed_by == self._me
        async with self._engine.begin() as connection:
            if stored:
                await connection.execute(delete(outbox).where(outbox.c.seq.in_(stored), mine))
            if not all_sent:
                await connection.execute(
                    update(outbox).where(mine).values(claimed_by="", claimed_until=0.0)
                )

    async def _refuse(self, row: Row[Any], error: Exception) -> None:
        async with self._engine.begin() as connection:
            await connection.execute(
                update(outbox).where(outbox.c.seq == row.seq).values(refused=str(error))
            )
        self._observer(RelayRefused(row.topic, row.message_id, str(error)))


def _heads(now: float, limit: int) -> Select[tuple[int]]:
    """Rows that may leave now: due, unclaimed, and the first unsent one of their key."""
    earlier = outbox.alias()
    first = ~(
        select(earlier.c.seq)
        .where(
            earlier.c.order_key == outbox.c.order_key,
            earlier.c.topic == outbox.c.topic,
            earlier.c.seq < outbox.c.seq,
            earlier.c.refused.is_(None),
        )
        .exists()
    )
    return (
        select(outbox.c.seq)
        .where(_claimable(now), outbox.c.order_key.is_(None) | first)
        .order_by(outbox.c.seq)
        .limit(limit)
        .with_for_update(skip_locked=True)  # PostgreSQL; SQLite has one writer and no such clause
    )


def _followers(keys: set[tuple[str, str]], now: float, limit: int) -> Select[tuple[int]]:
    return (
        select(outbox.c.seq)
        .where(_claimable(now), tuple_(outbox.c.topic, outbox.c.order_key).in_(keys))
        .order_by(outbox.c.seq)
        .limit(limit)
    )


def _claimable(now: float) -> Any:
    return and_(
        outbox.c.refused.is_(None), outbox.c.not_before <= now, outbox.c.claimed_until <= now
    )


def _message(row: Row[Any]) -> Message:
    return Message(row.message_id, bytes(row.body), json.loads(row.headers), row.key)
