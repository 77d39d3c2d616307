"""What waits in a service's outbox: for its metrics, and for whoever asks whether it is well."""

import asyncio
from contextlib import suppress

from sqlalchemy.exc import SQLAlchemyError

from seawall.clock import SYSTEM, Clock
from seawall.errors import SeawallError, Unavailable
from seawall.messaging import outbox
from seawall.messaging.outbox import Backlog
from seawall.service.database import Database

# A row waits milliseconds; after this long a broker that restarts is back. Longer means that
# somebody has to look: the table grows by all that is written meanwhile.
STALE = 60.0  # seconds


async def check_flow(database: Database) -> None:
    """Raises `Unavailable` if messages have waited too long to be published."""
    async with database.read() as session:
        waiting = await outbox.backlog(session)
    if waiting.oldest_age > STALE:
        raise Unavailable(
            f"{waiting.unsent} messages wait to be published, the oldest for "
            f"{waiting.oldest_age:.0f} s"
        )


class Depth:
    """The backlog, at most `cached_for` seconds ago; None if the database did not tell."""

    def __init__(self, *, cached_for: float, within: float, clock: Clock = SYSTEM) -> None:
        self._cached_for = cached_for
        self._within = within
        self._clock = clock
        self._asked_at = float("-inf")
        self.last: Backlog | None = None

    async def refresh(self, database: Database) -> None:
        now = self._clock.now()
        if now - self._asked_at < self._cached_for:
            return  # also while somebody else is asking
        self._asked_at = now
        found = None  # nothing is better than a number from before the database went away
        with suppress(SeawallError, SQLAlchemyError, TimeoutError):
            async with asyncio.timeout(self._within), database.read() as session:
                found = await outbox.backlog(session)
        self.last = found
