"""The inbox: a message's effect happens once, however often the message is delivered.

The row that remembers a message is written in the transaction of its effect: both are there,
or neither.
"""

from sqlalchemy import delete, select, tuple_
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession

from seawall.clock import SYSTEM, Clock
from seawall.messaging.prepared import Prepared
from seawall.messaging.tables import inbox

# How long a message is remembered. Longer than any message can still come back: retries end
# within hours, but a dead letter may be sent again days later.
RETENTION = 30 * 86_400.0  # seconds

# Rows deleted in one transaction: it holds SQLite's only write lock for a few milliseconds.
CHUNK = 1_000

_NOTE = Prepared(
    sqlite.insert(inbox).on_conflict_do_nothing().returning(inbox.c.message_id),
    tuple(inbox.c.keys()),
    postgresql=postgresql.insert(inbox).on_conflict_do_nothing().returning(inbox.c.message_id),
)


async def first_time(
    session: AsyncSession, group: str, message_id: str, *, clock: Clock = SYSTEM
) -> bool:
    """True if this group has not handled this message; from then on, in `session`, it has.

    Make it the first statement of the handler's transaction. Where another transaction handles
    the same message now, this waits for its end. If `session` rolls back, the message is new again.
    """
    values = {"group_name": group, "message_id": message_id, "at": clock.wall()}
    return bool((await _NOTE.run(session, values)).rows)


async def forget(
    engine: AsyncEngine, *, older_than: float = RETENTION, clock: Clock = SYSTEM
) -> int:
    """Delete what was handled more than `older_than` seconds ago; return how many there were.

    In chunks, each a transaction of its own, so that handlers are not held up.
    """
    identity = tuple_(inbox.c.group_name, inbox.c.message_id)
    old = (
        select(inbox.c.group_name, inbox.c.message_id)
        .where(inbox.c.at < clock.wall() - older_than)
        .limit(CHUNK)
    )
    forgotten = 0
    while True:
        async with engine.begin() as connection:
            deleted = (await connection.execute(delete(inbox).where(identity.in_(old)))).rowcount
        forgotten += deleted
        if deleted < CHUNK:
            return forgotten
