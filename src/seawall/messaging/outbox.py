"""The outbox: a message is published if, and only if, the transaction that wrote it commits.

`write` adds a row in the caller's transaction; a `seawall.messaging.relay.Relay` publishes it.

The fast path: where a relay runs in the writer's own process, the row is written as already
claimed by it, and handed to it in memory when the transaction commits. That saves the
transaction that claims, which on SQLite would be every second one. Any other row is announced
to the relays of other processes, where the database can do that.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Protocol
from weakref import WeakKeyDictionary, WeakSet

from sqlalchemy import (
    ColumnElement,
    Engine,
    Select,
    bindparam,
    case,
    event,
    exists,
    func,
    select,
)
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession
from sqlalchemy.orm import Session

from seawall.clock import SYSTEM, Clock
from seawall.errors import Full
from seawall.messaging.announcements import ANNOUNCE
from seawall.messaging.base import Message
from seawall.messaging.prepared import Prepared
from seawall.messaging.tables import outbox

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

_SAID = ("message_id", "topic", "key", "order_key", "headers", "body", "not_before", "created")
_WRITE = Prepared(outbox.insert().values(claimed_by="", claimed_until=0.0), _SAID)
_HAND = Prepared(
    outbox.insert()
    .values(
        claimed_by=case((_WAITS, ""), else_=bindparam("relay")),
        claimed_until=case((_WAITS, 0.0), else_=bindparam("until")),
    )
    .returning(outbox.c.seq, outbox.c.claimed_by),
    _SAID,
)
_ALONE = select(func.pg_advisory_xact_lock(func.hashtextextended(bindparam("what"), 0)))


@dataclass(frozen=True, slots=True)
class Entry:
    """A claimed row."""

    seq: int
    topic: str
    message: Message
    due: float  # wall clock


class NearRelay(Protocol):
    """A relay in this process."""

    name: str
    full: bool  # the outbox holds as much as it may

    def hand(self, claimed_by: str, entry: Entry) -> None:
        """A row was committed that is claimed by this relay, by the name it had then."""

    def wake(self) -> None:
        """There may be rows to claim."""


# The relays of this process, so that a commit wakes them without the writer knowing them.
RELAYS: WeakKeyDictionary[Engine, WeakSet[NearRelay]] = WeakKeyDictionary()


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

    Raises `Full`, and writes nothing, once the relay of this process has seen as many rows as it
    may leave (`RelayConfig.most`): the broker is away, or slower than this, for long.
    """
    now = clock.wall()
    order_key = message.key if delay <= 0 else None
    engine = session.sync_session.get_bind().engine
    relays = RELAYS.get(engine, ())
    if any(relay.full for relay in relays):
        raise Full("the outbox holds as many messages as it may: the broker is away or too slow")
    is_postgresql = engine.dialect.name == "postgresql"
    if order_key is not None and is_postgresql:
        # What it wrote before others, they see before they write: the numbers of rows of a key
        # become visible in their order.
        await (await session.connection()).execute(_ALONE, {"what": f"{topic} {order_key}"})
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
    written = _written(session.sync_session, engine)
    relay = None if delay > 0 else _relay_of(session.sync_session, relays)
    if relay is not None:
        name = relay.name
        claim = {"relay": name, "until": now + HANDED, "its_key": order_key, "its_topic": topic}
        ((seq, claimed_by),) = (await _HAND.run(session, values | claim)).rows
        if claimed_by == name:
            written.handed.append((relay, name, Entry(seq, topic, message, now)))
            return
    else:
        await _WRITE.run(session, values)
    written.unclaimed = True
    # Have relays look for the row when it is committed; those elsewhere only if it is due, for
    # their sweep is early enough for any other.
    if delay <= 0 and is_postgresql and not written.announced:
        written.announced = True
        await (await session.connection()).execute(ANNOUNCE)


def _relay_of(session: Session, relays: Iterable[NearRelay]) -> NearRelay | None:
    """The relay of this process that may send the row without looking, if there is one.

    None inside a savepoint, whose rows may vanish though the transaction commits.
    """
    return None if session.in_nested_transaction() else next(iter(relays), None)


@dataclass(slots=True)
class _Written:
    """What one transaction added to the outbox."""

    engine: Engine
    handed: list[tuple[NearRelay, str, Entry]] = field(default_factory=list)  # and its name then
    unclaimed: bool = False
    announced: bool = False  # to other processes; a transaction does so once


def _written(session: Session, engine: Engine) -> _Written:
    written: _Written | None = session.info.get(_WRITTEN)
    if written is None:
        written = session.info[_WRITTEN] = _Written(engine)
    return written


# Of all sessions: to listen to one costs as much as the statements that it is for.
@event.listens_for(Session, "after_commit")
def _committed(session: Session) -> None:
    if _WRITTEN not in session.info or session.in_nested_transaction():
        return
    written: _Written = session.info.pop(_WRITTEN)
    for relay, claimed_by, entry in written.handed:
        relay.hand(claimed_by, entry)
    if written.unclaimed:
        for relay in RELAYS.get(written.engine, ()):
            relay.wake()


@event.listens_for(Session, "after_rollback")
def _rolled_back(session: Session) -> None:
    session.info.pop(_WRITTEN, None)


# Rows that `backlog` counts before it says "as many": it is asked at every scrape, and
# counting a million rows takes a tenth of a second.
MOST_COUNTED = 100_000


def _count(which: ColumnElement[bool]) -> Select[int]:
    return select(func.count()).select_from(
        select(outbox.c.seq).where(which).limit(MOST_COUNTED).subquery()
    )


_UNSENT = _count(outbox.c.refused.is_(None))
_REFUSED = _count(outbox.c.refused.is_not(None))
_OLDEST = select(func.min(outbox.c.not_before)).where(outbox.c.refused.is_(None))


@dataclass(frozen=True, slots=True)
class Backlog:
    """What waits in an outbox."""

    unsent: int  # counted up to MOST_COUNTED
    refused: int  # rows the broker will never take; counted likewise
    oldest_age: float  # seconds since the oldest unsent row was due; 0 if there is none


async def backlog(connection: AsyncConnection | AsyncSession, *, clock: Clock = SYSTEM) -> Backlog:
    """How far the relays are behind."""
    now = clock.wall()
    first = (await connection.execute(_OLDEST)).scalar()
    unsent = (await connection.execute(_UNSENT)).scalar_one()
    refused = (await connection.execute(_REFUSED)).scalar_one()
    return Backlog(unsent, refused, max(0.0, now - (now if first is None else first)))
