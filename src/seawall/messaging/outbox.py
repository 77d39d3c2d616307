"""The outbox: a message is published if, and only if, the transaction that wrote it commits.

`write` adds a row in the caller's transaction. A `Relay` claims rows, publishes them and
deletes them; any number of relays, in any number of processes, may work on one table. A relay
that dies between publishing and deleting makes a duplicate with the same message id, which
the receiver's inbox recognises.

No cursor over `seq`: its values become visible out of order, and a cursor would skip rows
that commit late. What is sent is deleted; what is there is unsent.

The fast path: where a relay runs in the writer's own process, the row is written as already
claimed by it, and handed to it in memory when the transaction commits. That saves the
transaction that claims, which on SQLite would be every second one.
"""

import asyncio
import json
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from random import Random
from typing import Any, Self
from weakref import WeakKeyDictionary, WeakSet

from sqlalchemy import (
    CursorResult,
    Engine,
    Row,
    Select,
    and_,
    bindparam,
    case,
    delete,
    event,
    exists,
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

# How long a row stays claimed by the relay it will be handed to. Publishing takes milliseconds;
# if the process dies first, others wait this long.
HANDED = 3.0  # seconds

# What a session wrote to the outbox; handed over when it commits.
_WRITTEN = "seawall_outbox_written"

# An unsent row of the same key that the relay does not hold must leave first.
_EARLIER = outbox.alias()
_WAITS = exists().where(
    _EARLIER.c.order_key == bindparam("its_key"),
    _EARLIER.c.topic == bindparam("its_topic"),
    _EARLIER.c.refused.is_(None),
    _EARLIER.c.claimed_by != bindparam("relay"),
)

# Made once: building a statement costs more than running it.
_WRITE = outbox.insert()
_HAND = (
    outbox.insert()
    .values(
        claimed_by=case((_WAITS, ""), else_=bindparam("relay")),
        claimed_until=case((_WAITS, 0.0), else_=bindparam("until")),
    )
    .returning(outbox.c.seq, outbox.c.claimed_by)
)
_ALONE = select(func.pg_advisory_xact_lock(func.hashtextextended(bindparam("what"), 0)))

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

    Messages of one key leave in the order in which they were written, except delayed ones. On
    PostgreSQL, which has many writers, that makes transactions that write messages of one key to
    one topic wait for each other. Two that write those of two keys, each the other's first, do so
    in vain; PostgreSQL ends one of them, and it can be tried again.
    """
    await session.run_sync(_write, topic, message, delay, clock.wall())


def _write(session: Session, topic: str, message: Message, delay: float, now: float) -> None:
    order_key = message.key if delay <= 0 else None
    connection = session.connection()
    if order_key is not None and connection.dialect.name == "postgresql":
        # What it wrote before others, they see before they write: the numbers of rows of a key
        # become visible in their order.
        connection.execute(_ALONE, {"what": f"{topic} {order_key}"})
    values = {
        "message_id": message.id,
        "topic": topic,
        "key": message.key,
        "order_key": order_key,
        "headers": json.dumps(dict(message.headers)),
        "body": message.body,
        "not_before": now + max(0.0, delay),
        "created": now,
    }
    written = _written(session)
    relay = None if delay > 0 else _relay_of(session)
    if relay is None:
        connection.execute(_WRITE, values)
        written.unclaimed = True
        return
    claim = {"relay": relay.name, "until": now + HANDED, "its_key": order_key, "its_topic": topic}
    row = connection.execute(_HAND, values | claim).one()
    if row.claimed_by == relay.name:
        written.handed.append((relay, relay.name, _Entry(row.seq, topic, message, now)))
    else:
        written.unclaimed = True


def _relay_of(session: Session) -> "Relay | None":
    """The relay of this process that may send the row without looking, if there is one.

    None inside a savepoint, whose rows may vanish though the transaction commits.
    """
    if session.in_nested_transaction():
        return None
    return next(iter(_RELAYS.get(session.get_bind().engine, ())), None)


@dataclass(frozen=True, slots=True)
class _Entry:
    """A claimed row."""

    seq: int
    topic: str
    message: Message
    due: float  # wall clock


@dataclass(slots=True)
class _Written:
    """What one transaction added to the outbox."""

    engine: Engine
    handed: list[tuple["Relay", str, _Entry]] = field(default_factory=list)  # and its name then
    unclaimed: bool = False


def _written(session: Session) -> _Written:
    written: _Written | None = session.info.get(_WRITTEN)
    if written is None:
        written = session.info[_WRITTEN] = _Written(session.get_bind().engine)
        if not event.contains(session, "after_commit", _committed):
            event.listen(session, "after_commit", _committed)
            event.listen(session, "after_rollback", _rolled_back)
    return written


def _committed(session: Session) -> None:
    if session.in_nested_transaction():
        return
    written: _Written | None = session.info.pop(_WRITTEN, None)
    if written is None:
        return
    for relay, claimed_by, entry in written.handed:
        relay.hand(claimed_by, entry)
    if written.unclaimed:
        for relay in _RELAYS.get(written.engine, ()):
            relay.wake()


def _rolled_back(session: Session) -> None:
    session.info.pop(_WRITTEN, None)


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

    Commits in this process hand it their rows at once; it looks by itself every `sweep` seconds
    for rows that are due now, or were left by a process that died.
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
        self.name = uuid.uuid4().hex
        # Committed rows that wait to be published; as many as transactions commit while one
        # batch is on its way.
        self._handed: list[_Entry] = []
        self._look = True  # there may be rows that nobody handed over
        self._looked_at = 0.0  # wall clock
        self._next_look = 0.0  # wall clock; when some row is due, or it is time to sweep
        self._woken = asyncio.Event()
        self._stopping = asyncio.Event()
        self._tasks = Tasks()
        self.sent = 0

    def wake(self) -> None:
        """There may be rows to claim."""
        self._look = True
        self._woken.set()

    def hand(self, claimed_by: str, entry: _Entry) -> None:
        """A row was committed that is claimed by this relay, by the name it had then."""
        if claimed_by == self.name:
            self._handed.append(entry)
            self._woken.set()
        else:  # rows that must leave before it were let go
            self.wake()

    async def __aenter__(self) -> Self:
        _RELAYS.setdefault(self._engine.sync_engine, WeakSet()).add(self)
        self._tasks.start(self._run(), name="outbox-relay")
        return self

    async def __aexit__(self, *_: object) -> None:
        """Send what was committed, if the broker takes it now; then stop."""
        _RELAYS[self._engine.sync_engine].discard(self)
        self._stopping.set()
        self.wake()
        await self._tasks.join()
        async with self._tasks:  # raises what the task died of, if it did
            pass

    def __repr__(self) -> str:
        return f"<Relay {self.name[:8]} {self.sent} sent>"

    async def _run(self) -> None:
        ceiling = FIRST_BACKOFF
        stopping = False
        while not stopping:
            stopping = self._stopping.is_set()  # then this is the last round
            self._woken.clear()
            try:
                await self._round()
                ceiling = FIRST_BACKOFF
                if not self._stopping.is_set():
                    await self._pause(self._woken, self._next_look - self._clock.wall())
            except (NotSent, OutcomeUnknown) as error:
                delay = self._rng.uniform(ceiling / 2, ceiling)
                ceiling = min(self._config.backoff, ceiling * 2)
                # What was handed over is in the table, and claimable again: letting go of a batch
                # lets go of all that is ours, or it will when its claim has run out.
                self._handed.clear()
                self._look = True
                # Transactions that are open now may have written rows on the strength of those.
                self.name = uuid.uuid4().hex
                self._observer(RelayStalled(str(error), delay))
                if not stopping:
                    await self._pause(self._stopping, delay)

    async def _round(self) -> None:
        """Send what was handed over; then, if there may be more, what the table holds.

        In this order, since a row that follows one of its key can be claimed only when that
        one is deleted.
        """
        while self._handed or self._look or self._clock.wall() >= self._next_look:
            if self._handed:
                size = self._config.batch
                handed, self._handed = self._handed[:size], self._handed[size:]
                with _database_errors():
                    await self._publish(handed)
                continue
            self._look = False
            if await self.relay_once():
                self._look = True
            else:
                self._next_look = await self._due()

    async def _pause(self, end: asyncio.Event, within: float) -> None:
        """Wait for `end`, at most `within` seconds."""
        rung = asyncio.Event()

        async def ring() -> None:
            await self._clock.sleep(within)
            rung.set()

        async with Tasks() as tasks:
            waits = (tasks.start(ring()), tasks.start(end.wait()))
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)

    async def _due(self) -> float:
        """When to look again: the next row is due then, or it is time to sweep."""
        sweep = self._looked_at + self._config.sweep
        # From the last look on, not from now: what became due in between was not seen by it.
        due = select(func.min(outbox.c.not_before)).where(outbox.c.not_before > self._looked_at)
        with _database_errors():
            async with self._engine.connect() as connection:
                first = (await connection.execute(due)).scalar()
        return sweep if first is None else min(sweep, first)

    async def relay_once(self) -> int:
        """Claim, publish and delete one batch; return how many rows were claimed.

        Raises `Unavailable` or `OutcomeUnknown`; the rows are claimable again then.
        """
        with _database_errors():
            entries = await self._claim()
            if entries:
                await self._publish(entries)
        return len(entries)

    async def _claim(self) -> list[_Entry]:
        now = self._looked_at = self._clock.wall()
        async with self._engine.begin() as connection:
            rows = await self._take(connection, _heads(now, self._config.batch), now)
            keys = {(row.topic, row.order_key) for row in rows if row.order_key is not None}
            room = self._config.batch - len(rows)
            if keys and room > 0:
                # Nobody else can claim these: their head is there, unsent, and ours.
                rows += await self._take(connection, _followers(keys, now, room), now)
        return [_entry(row) for row in sorted(rows, key=lambda row: row.seq)]

    async def _take(
        self, connection: AsyncConnection, which: Select[tuple[int]], now: float
    ) -> list[Row[Any]]:
        statement = (
            update(outbox)
            .where(outbox.c.seq.in_(which.scalar_subquery()))
            .values(claimed_by=self.name, claimed_until=now + self._config.claim)
            .returning(*outbox.c)
        )
        result: CursorResult[Any] = await connection.execute(statement)
        return list(result.all())

    async def _publish(self, entries: Sequence[_Entry]) -> None:
        topics: dict[str, list[_Entry]] = {}
        for entry in entries:
            topics.setdefault(entry.topic, []).append(entry)
        stored: list[int] = []
        refused: list[tuple[_Entry, Refused]] = []
        try:
            for topic, members in topics.items():
                messages = [entry.message for entry in members]
                receipts = await self._transport.publish(topic, messages)
                for entry, receipt in zip(members, receipts, strict=True):
                    if receipt.error is None:
                        stored.append(entry.seq)
                    elif isinstance(receipt.error, Refused):
                        refused.append((entry, receipt.error))
                    else:
                        raise receipt.error
        finally:
            await self._settle(stored, refused, all_sent=len(stored) == len(entries))
        self.sent += len(stored)
        if stored:
            oldest = self._clock.wall() - min(entry.due for entry in entries)
            self._observer(Relayed(len(stored), oldest))

    async def _settle(
        self,
        stored: Sequence[int],
        refused: Sequence[tuple[_Entry, Refused]],
        *,
        all_sent: bool,
    ) -> None:
        """Delete what was published; let go of the rest of this batch, for a further try."""
        mine = outbox.c.claimed_by == self.name
        async with self._engine.begin() as connection:
            if stored:
                await connection.execute(delete(outbox).where(outbox.c.seq.in_(stored), mine))
            for entry, error in refused:
                await connection.execute(
                    update(outbox).where(outbox.c.seq == entry.seq).values(refused=str(error))
                )
            if not all_sent:
                await connection.execute(
                    update(outbox).where(mine).values(claimed_by="", claimed_until=0.0)
                )
        for entry, error in refused:
            self._observer(RelayRefused(entry.topic, entry.message.id, str(error)))


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


def _entry(row: Row[Any]) -> _Entry:
    message = Message(row.message_id, bytes(row.body), json.loads(row.headers), row.key)
    return _Entry(row.seq, row.topic, message, row.not_before)
