"""The relay: publishes what is in the outbox, and deletes it.

A relay claims rows, publishes them and deletes them; any number of relays, in any number of
processes, may work on one table. One that dies between publishing and deleting makes a duplicate
with the same message id, which the receiver's inbox recognises.

No cursor over `seq`: its values become visible out of order, and a cursor would skip rows
that commit late. What is sent is deleted; what is there is unsent.
"""

import asyncio
import json
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from random import Random
from typing import Any, NamedTuple, Self
from weakref import WeakSet

from sqlalchemy import (
    Float,
    Integer,
    Select,
    Update,
    and_,
    bindparam,
    delete,
    func,
    select,
    tuple_,
    update,
)
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncEngine
from sqlalchemy.sql.dml import ReturningUpdate

from seawall.clock import SYSTEM, Clock
from seawall.concurrency.tasks import Tasks
from seawall.errors import NotSent, OutcomeUnknown, Refused, Unavailable
from seawall.facts import Observer, ignore
from seawall.messaging.announcements import listen
from seawall.messaging.base import Message, Receipt, Transport
from seawall.messaging.outbox import RELAYS, Entry
from seawall.messaging.prepared import Prepared, begun
from seawall.messaging.tables import outbox

# The first ceiling of the back-off while broker or database are away.
FIRST_BACKOFF = 0.1  # seconds

# Rows looked at for each that is claimed. Whether a row is the first of its key is asked for each
# one; asked for a whole backlog, a claim would take as long as that is.
WINDOW = 2

# What a claim reads of a row.
_READ = (
    *(outbox.c.seq, outbox.c.message_id, outbox.c.topic, outbox.c.key, outbox.c.headers),
    *(outbox.c.body, outbox.c.order_key, outbox.c.not_before),
)


class _Row(NamedTuple):
    seq: int
    message_id: str
    topic: str
    key: str | None
    headers: str
    body: bytes
    order_key: str | None
    not_before: float


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
    # Rows of the outbox above which no more are written: 300 a second for an hour without a
    # broker. They take about a gigabyte, and ten minutes' patience of whoever waits for the last.
    most: int = 1_000_000


@contextmanager
def _database_errors() -> Iterator[None]:
    try:
        yield
    except (DBAPIError, PoolTimeout, OSError) as error:
        raise Unavailable(f"the database of the outbox: {error}") from error


class Relay:
    """Publishes what is in the outbox of one database, while its block is open.

    Commits in this process hand it their rows at once; on PostgreSQL those of others announce
    theirs. It looks by itself every `sweep` seconds for rows that nobody announced, that are due
    now, or were left by a process that died.
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
        self._handed: list[Entry] = []
        self._look = True  # there may be rows that nobody handed over
        self._looked_at = 0.0  # wall clock
        self._next_look = 0.0  # wall clock; when some row is due, or it is time to sweep
        self._woken = asyncio.Event()
        self._stopping = asyncio.Event()
        self._tasks = Tasks()
        self._listening = Tasks()
        self.sent = 0
        self.full = False
        self._count_at = self._config.most // 10  # how many are sent when rows are counted again

    def wake(self) -> None:
        """There may be rows to claim."""
        self._look = True
        self._woken.set()

    def hand(self, claimed_by: str, entry: Entry) -> None:
        """A row was committed that is claimed by this relay, by the name it had then."""
        if claimed_by == self.name:
            self._handed.append(entry)
            self._woken.set()
        else:  # rows that must leave before it were let go
            self.wake()

    async def __aenter__(self) -> Self:
        RELAYS.setdefault(self._engine.sync_engine, WeakSet()).add(self)
        self._tasks.start(self._run(), name="outbox-relay")
        if self._engine.dialect.name == "postgresql":
            self._listening.start(
                listen(self._engine, self.wake, clock=self._clock, observer=self._observer),
                name="outbox-announcements",
            )
        return self

    async def __aexit__(self, *_: object) -> None:
        """Send what was committed, if the broker takes it now; then stop."""
        RELAYS[self._engine.sync_engine].discard(self)
        await self._listening.cancel()
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
                with suppress(NotSent):  # a database that is away takes no rows either
                    await self._count()
                if not stopping:
                    await self._pause(self._stopping, delay)

    async def _round(self) -> None:
        """Send what was handed over; then, if there may be more, what the table holds.

        In this order, since a row that follows one of its key can be claimed only when that
        one is deleted.
        """
        # Once a round: where a look takes longer than a sweep, the end must still be seen.
        self._look |= self._clock.wall() >= self._next_look
        while self._handed or self._look:
            if self._handed:
                size = self._config.batch
                handed, self._handed = self._handed[:size], self._handed[size:]
                with _database_errors():
                    await self._publish(handed)
                continue
            self._look = False
            with _database_errors():
                entries = await self._claim()
                while entries:
                    self._look = True
                    entries = await self._publish_and_claim(entries)
                    if self.sent >= self._count_at:
                        await self._count()
            if not self._look:
                self._next_look = await self._due()

    async def _count(self) -> None:
        """Whether there is room for more rows. Asked while nothing leaves and, since counting a
        million takes a tenth of a second, once in a tenth of `most` that have left."""
        most = self._config.most
        self._count_at = self.sent + most // 10
        some = select(outbox.c.seq).limit(most).subquery()
        with _database_errors():
            async with self._engine.connect() as connection:
                found = await connection.execute(select(func.count()).select_from(some))
        self.full = found.scalar_one() >= most

    async def _pause(self, end: asyncio.Event, within: float) -> None:
        """Wait for `end`, at most `within` seconds."""
        with suppress(TimeoutError):
            async with self._clock.timeout(within):
                await end.wait()

    async def _due(self) -> float:
        """When to look again: the next row is due then, or it is time to sweep."""
        sweep = self._clock.wall() + self._config.sweep
        # From the last look on, not from now: what became due in between was not seen by it.
        with _database_errors():
            async with self._engine.connect() as connection:
                ((first,),) = (await _NEXT.on(connection, {"seen": self._looked_at})).rows
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

    async def _publish_and_claim(self, entries: Sequence[Entry]) -> list[Entry]:
        """Publish a batch, and meanwhile claim the next one.

        Not if something was handed over, whose turn it is then: it leaves after all that was
        claimed before it, and may follow a row of that. Nor on SQLite, where writers wait for
        each other anyway.
        """
        if self._handed or self._engine.dialect.name != "postgresql":
            await self._publish(entries)
            return []
        claimed, failure = await asyncio.gather(
            self._claim(), self._publish(entries), return_exceptions=True
        )
        if failure is not None:
            if not isinstance(claimed, BaseException):
                async with self._engine.begin() as connection:
                    await connection.execute(self._let_go())
            raise failure
        if isinstance(claimed, BaseException):
            raise claimed
        return claimed

    def _let_go(self) -> Update:
        """Make all rows that are ours claimable again."""
        mine = outbox.c.claimed_by == self.name
        return update(outbox).where(mine).values(claimed_by="", claimed_until=0.0)

    async def _claim(self) -> list[Entry]:
        now = self._looked_at = self._clock.wall()
        batch = self._config.batch
        claim = {"now": now, "relay": self.name, "until": now + self._config.claim}
        async with self._engine.begin() as connection:
            near = {**claim, "batch": batch, "window": WINDOW * batch}
            rows = [_Row(*row) for row in (await _TAKE_NEAR.on(connection, near)).rows]
            if not rows:  # unless all that is near waits for its key
                found = await _TAKE_ANY.on(connection, {**claim, "batch": batch})
                rows = [_Row(*row) for row in found.rows]
            keys = {(row.topic, row.order_key) for row in rows if row.order_key is not None}
            room = batch - len(rows)
            if keys and room > 0:
                # Nobody else can claim these: their head is there, unsent, and ours.
                more = await connection.execute(
                    _take(_followers(keys, now, room, self.name)), claim
                )
                rows += [_Row(*row) for row in more]
        return [_entry(row) for row in sorted(rows, key=lambda row: row.seq)]

    async def _publish(self, entries: Sequence[Entry]) -> None:
        topics: dict[str, list[Entry]] = {}
        for entry in entries:
            topics.setdefault(entry.topic, []).append(entry)
        stored: list[int] = []
        refused: list[tuple[Entry, Refused]] = []
        failure: Exception | None = None
        try:
            for topic, members in topics.items():
                messages = [entry.message for entry in members]
                receipts = await self._transport.publish(topic, messages)
                failure = _sort_out(members, receipts, stored, refused) or failure
        finally:
            left = len(entries) - len(stored) - len(refused)
            await self._settle(stored, refused, let_go=left > 0)
        if failure is not None:
            self.sent += len(stored)
            raise failure
        self.sent += len(stored)
        if stored:
            oldest = self._clock.wall() - min(entry.due for entry in entries)
            self._observer(Relayed(len(stored), oldest))

    async def _settle(
        self,
        stored: Sequence[int],
        refused: Sequence[tuple[Entry, Refused]],
        *,
        let_go: bool,
    ) -> None:
        """Delete what was published; `let_go` of all else that is ours, for a further try."""
        if not refused and not let_go and self._engine.dialect.name == "sqlite":
            # By far the most usual end, and on SQLite the quickest words for it.
            async with begun(self._engine) as short:
                sent = [{"sent": seq, "relay": self.name} for seq in stored]
                await _FORGET.for_each(short, sent)
            return
        async with self._engine.begin() as connection:
            if stored:
                mine = outbox.c.claimed_by == self.name
                await connection.execute(delete(outbox).where(outbox.c.seq.in_(stored), mine))
            for entry, error in refused:
                await connection.execute(
                    update(outbox)
                    .where(outbox.c.seq == entry.seq)
                    .values(refused=str(error), claimed_by="", claimed_until=0.0)
                )
            if let_go:
                await connection.execute(self._let_go())
        for entry, error in refused:
            self._observer(RelayRefused(entry.topic, entry.message.id, str(error)))


def _sort_out(
    entries: Sequence[Entry],
    receipts: Sequence[Receipt],
    stored: list[int],
    refused: list[tuple[Entry, Refused]],
) -> Exception | None:
    """Add to `stored` and `refused` what is done with; return why others are to be tried again.

    What the broker stored though an earlier message of its key failed is among those: it is
    published once more after that one, so that nobody is left with the older of the two.
    """
    failure: Exception | None = None
    held_up: set[str] = set()
    for entry, receipt in zip(entries, receipts, strict=True):
        key = entry.message.key
        if isinstance(receipt.error, Refused):
            refused.append((entry, receipt.error))
        elif receipt.error is not None:
            failure = failure or receipt.error
            if key is not None:
                held_up.add(key)
        elif key is None or key not in held_up:
            stored.append(entry.seq)
    return failure


def _claimable(now: Any) -> Any:
    return and_(
        outbox.c.refused.is_(None), outbox.c.not_before <= now, outbox.c.claimed_until <= now
    )


def _heads(*, near: bool) -> Select[tuple[int]]:
    """Rows that may leave now: due, unclaimed, and the first unsent one of their key; of the
    `window` longest due ones, if only those that are `near`."""
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
    due = _claimable(bindparam("now", type_=Float))
    heads = select(outbox.c.seq).where(due, outbox.c.order_key.is_(None) | first)
    longest = (outbox.c.not_before, outbox.c.seq)  # as an index has them
    if near:
        window = bindparam("window", type_=Integer)
        longest_due = select(outbox.c.seq).where(due).order_by(*longest).limit(window)
        heads = heads.where(outbox.c.seq.in_(longest_due))
    return (
        heads.order_by(*longest)
        .limit(bindparam("batch", type_=Integer))
        .with_for_update(skip_locked=True)  # PostgreSQL; SQLite has one writer and no such clause
    )


def _take(which: Select[tuple[int]]) -> ReturningUpdate[Any]:
    return (
        update(outbox)
        .where(outbox.c.seq.in_(which.scalar_subquery()))
        .values(claimed_by=bindparam("relay"), claimed_until=bindparam("until"))
        .returning(*_READ)
    )


# What each look needs is made once: making it costs more than running it.
_TAKE_NEAR, _TAKE_ANY = Prepared(_take(_heads(near=True))), Prepared(_take(_heads(near=False)))
_NEXT = Prepared(
    select(func.min(outbox.c.not_before)).where(outbox.c.not_before > bindparam("seen"))
)
_FORGET = Prepared(
    delete(outbox).where(
        outbox.c.seq == bindparam("sent"), outbox.c.claimed_by == bindparam("relay")
    )
)


def _followers(
    keys: set[tuple[str, str]], now: float, limit: int, relay: str
) -> Select[tuple[int]]:
    """Further rows of keys whose head `relay` holds, up to the first that somebody else does."""
    earlier = outbox.alias()
    overtakes = (
        select(earlier.c.seq)
        .where(
            earlier.c.order_key == outbox.c.order_key,
            earlier.c.topic == outbox.c.topic,
            earlier.c.seq < outbox.c.seq,
            earlier.c.refused.is_(None),
            earlier.c.claimed_by != relay,
            earlier.c.claimed_until > now,
        )
        .exists()
    )
    return (
        select(outbox.c.seq)
        .where(_claimable(now), tuple_(outbox.c.topic, outbox.c.order_key).in_(keys), ~overtakes)
        .order_by(outbox.c.seq)
        .limit(limit)
    )


def _entry(row: "_Row") -> Entry:
    message = Message(row.message_id, bytes(row.body), json.loads(row.headers), row.key)
    return Entry(row.seq, row.topic, message, row.not_before)
