"""Statements on Seawall's own tables: made once, and run the shortest way there is.

SQLAlchemy looks up, binds and wraps at each run, which takes it longer than SQLite needs for the
statement. So where the driver says that it takes SQL and parameters as they are (`Direct`; the
writer of `seawall.service.sqlite` does), a statement is compiled once and handed to that, in the
same transaction. Everywhere else SQLAlchemy runs it.
"""

import asyncio
import sqlite3
from collections.abc import (
    AsyncIterator,
    Awaitable,
    Callable,
    Collection,
    Iterator,
    Mapping,
    Sequence,
)
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import Any, NamedTuple, Protocol
from weakref import WeakKeyDictionary

from sqlalchemy import Engine, event
from sqlalchemy.dialects.sqlite import pysqlite
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, AsyncSession
from sqlalchemy.orm import Session, SessionTransaction
from sqlalchemy.sql import Executable
from sqlalchemy.sql.compiler import SQLCompiler

# Where a session keeps the short way of its transaction.
_WAY = "seawall_direct"


class Direct(Protocol):
    """A connection to SQLite that takes SQL and parameters as they are."""

    async def directly(
        self, sql: str, parameters: Sequence[Any], *, many: bool = False
    ) -> tuple[Sequence[Any], int]:
        """The rows, and how many were changed. `many`: once for each of `parameters`.

        In the transaction that is open on this connection. Raises sqlite3's errors.
        """

    async def begin(self) -> None: ...

    async def commit(self) -> None:
        """Return when it is on disk."""

    async def rollback(self) -> None: ...


# How to get at such a connection without SQLAlchemy's, for engines that have them.
DIRECT: WeakKeyDictionary[Engine, Callable[[], Awaitable[Direct]]] = WeakKeyDictionary()


class Result(NamedTuple):
    """`rows` have their columns in the order of the statement."""

    rows: Sequence[Any]
    changed: int


class Prepared:
    """One statement, whose parameters are given by name: those of its binds, and `columns`, the
    ones that an insert or update sets. Lists (`IN`) are none, and defaults of columns are not
    applied. `postgresql` is what to say there, where that differs."""

    def __init__(
        self,
        statement: Executable,
        columns: Collection[str] = (),
        *,
        postgresql: Executable | None = None,
    ) -> None:
        self._statement = statement
        self._postgresql = statement if postgresql is None else postgresql
        compiled = statement.compile(  # type: ignore[attr-defined]
            dialect=pysqlite.dialect(), column_keys=list(columns) or None
        )
        assert isinstance(compiled, SQLCompiler), "a statement, not a definition"
        self._sql = str(compiled)
        given = compiled.params  # what the statement itself says
        self._places = [(name, given.get(name)) for name in compiled.positiontup or ()]

    async def run(self, session: AsyncSession, values: Mapping[str, Any]) -> Result:
        """Run it in the transaction of `session`."""
        way: Direct | None = session.info.get(_WAY)
        # SQLAlchemy sets a savepoint no sooner than it is asked for the connection in it.
        if way is not None and not session.in_nested_transaction():
            return await self._directly(way, values)
        connection = await session.connection()
        way = _way(connection)
        if way is None:
            return await self._by_sqlalchemy(connection, values)
        session.info[_WAY] = way
        return await self._directly(way, values)

    async def on(self, connection: "AsyncConnection | Direct", values: Mapping[str, Any]) -> Result:
        """Run it in the transaction of `connection`."""
        if isinstance(connection, AsyncConnection):
            way = _way(connection)
            if way is None:
                return await self._by_sqlalchemy(connection, values)
            connection = way
        return await self._directly(connection, values)

    async def for_each(
        self, connection: "AsyncConnection | Direct", values: Sequence[Mapping[str, Any]]
    ) -> None:
        """Run it with each of `values` in turn."""
        if isinstance(connection, AsyncConnection):
            way = _way(connection)
            if way is None:
                await connection.execute(self._said(connection), values)
                return
            connection = way
        with _as_sqlalchemy_says(self._sql):
            await connection.directly(self._sql, [self._bound(one) for one in values], many=True)

    async def _directly(self, way: Direct, values: Mapping[str, Any]) -> Result:
        with _as_sqlalchemy_says(self._sql):
            return Result(*await way.directly(self._sql, self._bound(values)))

    async def _by_sqlalchemy(
        self, connection: AsyncConnection, values: Mapping[str, Any]
    ) -> Result:
        result = await connection.execute(self._said(connection), values)
        rows = result.all() if result.returns_rows else ()
        return Result(rows, result.rowcount)

    def _said(self, connection: AsyncConnection) -> Executable:
        is_postgresql = connection.dialect.name == "postgresql"
        return self._postgresql if is_postgresql else self._statement

    def _bound(self, values: Mapping[str, Any]) -> list[Any]:
        return [values.get(name, given) for name, given in self._places]

    def __repr__(self) -> str:
        return f"<Prepared {self._sql}>"


@contextmanager
def _as_sqlalchemy_says(sql: str) -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        # Without the parameters: they are other people's data.
        raise DBAPIError.instance(sql, None, error, sqlite3.Error) from error


@asynccontextmanager
async def begun(engine: AsyncEngine) -> "AsyncIterator[AsyncConnection | Direct]":
    """A transaction for prepared statements: committed when the block ends, rolled back when it
    raises."""
    connect = DIRECT.get(engine.sync_engine)
    if connect is None:
        async with engine.begin() as connection:
            yield connection
        return
    direct = await connect()
    await direct.begin()
    try:
        yield direct
    except BaseException:
        with suppress(sqlite3.Error):  # it is undone all the same
            await asyncio.shield(direct.rollback())
        raise
    with _as_sqlalchemy_says("COMMIT"):
        await direct.commit()


def go_directly(session: Session, way: Direct) -> None:
    """Statements of the transaction that is open there are of `session`."""
    session.info[_WAY] = way


async def commit(session: Session, way: Direct) -> None:
    """Return when it is on disk. Raises as SQLAlchemy does."""
    session.info.pop(_WAY, None)
    with _as_sqlalchemy_says("COMMIT"):
        await way.commit()


async def rollback(session: Session, way: Direct) -> None:
    """Undo it. Raises as SQLAlchemy does."""
    session.info.pop(_WAY, None)
    with _as_sqlalchemy_says("ROLLBACK"):
        await way.rollback()


def _way(connection: AsyncConnection) -> Direct | None:
    sync = connection.sync_connection
    driver: Any = None if sync is None else sync.connection.driver_connection
    return driver if hasattr(driver, "directly") else None


@event.listens_for(Session, "after_transaction_end")
def _ended(session: Session, transaction: SessionTransaction) -> None:
    if transaction.parent is None:  # its connection is another's now
        session.info.pop(_WAY, None)
