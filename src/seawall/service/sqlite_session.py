"""Sessions on the writer of a SQLite file, whose SQLAlchemy begins when it is asked for something.

To begin, commit and close takes SQLAlchemy ten times as long as the writer, and many transactions
run nothing but prepared statements (`seawall.messaging.prepared`): inbox, outbox, sagas. So one is
begun on the writer alone; whoever uses the session as any other finds it in that transaction.
"""

from collections.abc import Callable
from typing import Any, TypeVar

from sqlalchemy.ext.asyncio import (
    AsyncConnection,
    AsyncEngine,
    AsyncSession,
    AsyncSessionTransaction,
)

from seawall.messaging import prepared
from seawall.service.sqlite import MOST, Connection

T = TypeVar("T")


class LateSession(AsyncSession):
    """A session in a transaction that the writer has begun, and SQLAlchemy not yet."""

    def __init__(self, connection: AsyncConnection, direct: Connection) -> None:
        super().__init__(connection, expire_on_commit=False)
        self.direct = direct
        prepared.go_directly(self.sync_session, direct)

    def in_transaction(self) -> bool:
        return self.direct.is_open or super().in_transaction()

    async def commit(self) -> None:
        sync = self.sync_session
        if sync.in_transaction() or sync.dispatch.before_commit:  # they may have statements to run
            self._begin_late()
            await super().commit()
            return
        try:
            await prepared.commit(sync, self.direct)
        except BaseException:
            sync.dispatch.after_rollback(sync)
            raise
        sync.dispatch.after_commit(sync)

    async def rollback(self) -> None:
        if not self.sync_session.in_transaction():
            self._begin_late()
        await super().rollback()
        await self._undo_rest()

    async def close(self) -> None:
        if self.in_transaction():
            await super().close()
            await self._undo_rest()
        else:  # there is nothing to wait for
            self.sync_session.close()

    async def reset(self) -> None:
        self._begin_late()
        await super().reset()

    async def invalidate(self) -> None:
        self._begin_late()
        await super().invalidate()

    def begin(self) -> AsyncSessionTransaction:
        self._begin_late()
        return super().begin()

    async def run_sync(self, fn: Callable[..., T], *arg: Any, **kw: Any) -> T:
        self._begin_late()
        return await super().run_sync(fn, *arg, **kw)

    async def _undo_rest(self) -> None:
        """Where SQLAlchemy had not begun, or begun and run nothing, the writer's is open still."""
        if self.direct.is_open:
            await prepared.rollback(self.sync_session, self.direct)

    def _begin_late(self) -> None:
        """Have SQLAlchemy be in the transaction: at once, for the writer has begun it."""
        if self.direct.is_open:
            self.sync_session.connection()


class Sessions:
    """Begins and ends them. SQLAlchemy's connections, all of which are the writer's one, are kept
    from one to the next: a pool takes as long as a statement to give one out and take it back."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine
        self._idle: list[AsyncConnection] = []
        self._most = MOST

    async def begin(self) -> LateSession:
        """Return when it is this one's turn to write."""
        connection = self._idle.pop() if self._idle else await self._engine.connect()
        try:
            direct = _driver(connection)
            await direct.begin()
        except BaseException:
            await self._give_back(connection)
            raise
        return LateSession(connection, direct)

    async def end(self, session: LateSession) -> None:
        """Close it, for good: another may have its connection next."""
        connection = session.bind
        assert isinstance(connection, AsyncConnection), "begun here"
        try:
            await session.close()
        finally:
            session.sync_session.bind = None
            await self._give_back(connection)

    async def _give_back(self, connection: AsyncConnection) -> None:
        if len(self._idle) < self._most and _is_as_new(connection):
            self._idle.append(connection)
        else:
            await connection.close()

    async def close(self) -> None:
        """Those that are still open keep nothing. Calling it twice is fine."""
        self._most = 0
        while self._idle:
            await self._idle.pop().close()


def _driver(connection: AsyncConnection) -> Connection:
    sync = connection.sync_connection
    assert sync is not None, "it was connected"
    driver = sync.connection.driver_connection
    assert isinstance(driver, Connection), "the engine's connections are the writer's"
    return driver


def _is_as_new(connection: AsyncConnection) -> bool:
    """Nobody has changed its options, declared it lost, or left something open on it."""
    sync = connection.sync_connection
    if sync is None or sync.closed or sync.invalidated or sync.in_transaction():
        return False
    return sync.get_execution_options() == sync.engine.get_execution_options()
