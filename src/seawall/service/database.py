"""A service's own database: SQLAlchemy's asyncio engine with a bounded pool and honest errors.

SQLite unless a URL says otherwise. There, a transaction takes the write lock when it begins
(BEGIN IMMEDIATE): one that reads first and writes later could otherwise not be retried by
SQLite, and fails with "database is locked" at a random statement. All of a process take turns on
one connection (`seawall.service.sqlite`); reading has connections of its own.
"""

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import partial
from typing import Any

from fastapi import Depends
from sqlalchemy import Connection, MetaData, event, exc, text
from sqlalchemy.engine import URL, make_url
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, AsyncSession, create_async_engine
from sqlalchemy.pool import AsyncAdaptedQueuePool
from sqlalchemy.util import await_only

from seawall.errors import Full, Misconfigured, OutcomeUnknown, Unavailable
from seawall.messaging import prepared
from seawall.service import context, sqlite
from seawall.service.sqlite import LOCK_TIMEOUT, Writer
from seawall.service.sqlite_reading import Readers
from seawall.service.sqlite_session import Sessions

Transaction = AsyncSession

# Servers, proxies and NATs drop connections that are very old or idle; renewed before that.
_RECYCLE = 1800.0  # seconds

_JOINED: ContextVar[dict[int, AsyncSession] | None] = ContextVar("seawall_tx", default=None)


@dataclass(frozen=True, kw_only=True, slots=True)
class PoolSize:
    """How many connections; raises `Misconfigured`."""

    min_size: int = 2  # opened at start
    max_size: int = 10  # all replicas together must stay below the server's limit
    acquire_timeout: float = 1.0  # seconds to wait for a free one, then 503

    def __post_init__(self) -> None:
        if not 0 <= self.min_size <= self.max_size or self.max_size < 1:
            raise Misconfigured(f"0 <= min_size <= max_size, not {self.min_size}, {self.max_size}")
        if self.acquire_timeout <= 0:
            raise Misconfigured(f"acquire_timeout is above 0 s, not {self.acquire_timeout}")


# What SQLite says of a file that waiting does not mend.
_UNUSABLE = ("unable to open database file", "readonly database", "file is not a database")


class Database:
    """Opened when the service starts, closed when it stops."""

    def __init__(
        self, name: str, url: str | None, size: PoolSize, metadata: MetaData | None = None
    ) -> None:
        self._name = name
        self._url = url
        self._size = size
        self._metadata = [metadata] if metadata is not None else []
        self._engine: AsyncEngine | None = None
        self._reading: AsyncEngine | None = None
        self._writer: Writer | None = None
        self._readers: Readers | None = None
        self._sessions: Sessions | None = None  # those that write, on SQLite

    @property
    def size(self) -> PoolSize:
        """How it was declared."""
        return self._size

    def add_tables(self, metadata: MetaData) -> None:
        """Further tables to create at start; for what keeps its state beside the user's."""
        if metadata not in self._metadata:
            self._metadata.append(metadata)

    async def open(self, url: str | None = None) -> None:
        """Connect and create missing tables. `url`, if given, wins over the declared one.

        Raises `Misconfigured` for a URL that cannot be and for a SQLite file that cannot be
        written, `Unavailable` if nobody answers there.
        """
        chosen = _normal(url or self._url or f"sqlite+aiosqlite:///./{self._name}.db")
        # In a thread: it imports the driver, which reads files.
        self._engine = self._reading = await asyncio.to_thread(_engine, chosen, self._size)
        if chosen.get_backend_name() == "sqlite":
            connect = partial(_connect, self._engine)
            self._writer = Writer(self._where, connect)
            self._engine = _writing(chosen, self._writer)
            self._sessions = Sessions(self._engine)
            prepared.DIRECT[self._engine.sync_engine] = self._writer.connect
            if _in_memory(chosen):  # the data is in that connection
                self._reading = self._engine
            else:
                self._readers = Readers(self._where, connect, self._size.max_size)
                self._reading = _reading(chosen, self._size, self._readers)
        try:
            with _translated(self._where):
                await self._create_tables()
                await self._warm_up()
        except (Unavailable, exc.DatabaseError) as error:
            why = next((why for why in _UNUSABLE if why in str(error)), None)
            if self._writer is None or why is None:
                raise
            raise Misconfigured(
                f"{self._where}: {why}: {chosen.database}",
                fix="a file in a folder that this user may write to, by SEAWALL_DATABASE__URL",
            ) from error

    async def close(self) -> None:
        """Calling it twice is fine."""
        if self._sessions is not None:
            sessions, self._sessions = self._sessions, None
            await sessions.close()
        engines, self._engine, self._reading = (self._engine, self._reading), None, None
        for engine in engines:
            if engine is not None:
                await engine.dispose()
        if self._readers is not None:
            readers, self._readers = self._readers, None
            readers.close()
        if self._writer is not None:
            writer, self._writer = self._writer, None
            await writer.close()

    @property
    def engine(self) -> AsyncEngine:
        """SQLAlchemy's engine, for what has no place here. Raises `Misconfigured` before start.

        On SQLite it is the one that writes: whatever begins on it waits for its turn.
        """
        if self._engine is None:
            raise Misconfigured(
                f"the database of {self._name} is not open", fix="it opens when the service starts"
            )
        return self._engine

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Transaction]:
        """A unit of work: committed when the block ends, rolled back when it raises.

        Inside a message handler that takes `tx`, and inside an idempotent route, it joins the
        transaction already open, so that all of it commits together.

        Raises `Full` if no connection is free in time, `Unavailable` if the database is locked
        or gone (nothing was written), and `OutcomeUnknown` if it went while committing.
        """
        joined = (_JOINED.get() or {}).get(id(self))
        if joined is not None:
            yield joined
            return
        async with self._writing() as session, self._undone(session):
            yield session
            with _translated(self._where, committing=True):
                await session.commit()

    @asynccontextmanager
    async def _undone(self, session: AsyncSession) -> AsyncIterator[None]:
        """Undo what fails. On SQLite that may fail itself, when what it has seen is not kept."""
        try:
            yield
        except BaseException:
            if self._writer is not None:
                with _translated(self._where, committing=True):
                    await asyncio.shield(session.rollback())
            raise

    @asynccontextmanager
    async def shared_transaction(self) -> AsyncIterator[Transaction]:
        """A transaction that every `transaction()` within the block joins."""
        async with self.transaction() as session:
            before = _JOINED.get() or {}
            token = _JOINED.set({**before, id(self): session})
            try:
                yield session
            finally:
                _JOINED.reset(token)

    @asynccontextmanager
    async def read(self) -> AsyncIterator[Transaction]:
        """A consistent view for reading, which never waits for writers. What is written in it is
        rolled back."""
        async with self._session(self._reading or self.engine) as session:
            yield session

    @property
    def tx(self) -> Any:
        """FastAPI dependency: `tx: Annotated[Transaction, database.tx]`.

        Committed when the function has returned and before its answer is sent, so that nobody
        is told of what was not kept. (A plain `Depends` would commit after the answer.)
        """
        return Depends(self._for_request, scope="function")

    async def _for_request(self) -> AsyncIterator[Transaction]:
        async with self.transaction() as session:
            yield session

    async def check(self) -> None:
        """Raises if the database does not answer."""
        async with self.read() as session:
            with _translated(self._where):
                await session.execute(text("select 1"))

    @property
    def _where(self) -> str:
        return f"the database of {self._name}"

    @asynccontextmanager
    async def _writing(self) -> AsyncIterator[AsyncSession]:
        sessions = self._sessions
        if sessions is None:
            async with self._session(self.engine) as session:
                yield session
            return
        with _translated(self._where):
            async with asyncio.timeout(self._patience() + LOCK_TIMEOUT):
                late = await sessions.begin()
        try:
            with _translated(self._where):
                yield late
        finally:
            if late.in_transaction():
                await asyncio.shield(sessions.end(late))
            else:  # there is nothing to undo, so it does not wait, and cannot be cancelled
                await sessions.end(late)

    @asynccontextmanager
    async def _session(self, engine: AsyncEngine) -> AsyncIterator[AsyncSession]:
        session = AsyncSession(engine, expire_on_commit=False)
        try:
            with _translated(self._where):
                async with asyncio.timeout(self._patience() + LOCK_TIMEOUT):
                    # Taken now, so that a pool that is used up or a database that is gone is
                    # known before any work is done.
                    await session.connection()
            with _translated(self._where):
                yield session
        finally:
            if session.in_transaction():
                await asyncio.shield(session.close())
            else:  # there is nothing to undo, so it does not wait, and cannot be cancelled
                await session.close()

    def _patience(self) -> float:
        remaining = context.current().remaining()
        patience = self._size.acquire_timeout
        return patience if remaining is None else min(patience, remaining)

    async def _create_tables(self) -> None:
        async with self.engine.begin() as connection:
            await self._alone(connection)
            for metadata in self._metadata:
                await connection.run_sync(metadata.create_all)

    async def _alone(self, connection: AsyncConnection) -> None:
        """Replicas start together; without this two of them create the same table."""
        if connection.dialect.name == "postgresql":
            lock = int.from_bytes(b"seawall", "big") >> 1
            await connection.execute(text("select pg_advisory_xact_lock(:lock)"), {"lock": lock})

    async def _warm_up(self) -> None:
        engine = self._reading or self.engine
        opened = [await engine.connect() for _ in range(self._size.min_size)]
        for connection in opened:
            await connection.close()

    def __repr__(self) -> str:
        where = "closed" if self._engine is None else self._engine.url.render_as_string()
        return f"<Database {self._name} {where}>"


def _normal(url: str) -> URL:
    try:
        parsed = make_url(url)
    except exc.ArgumentError as error:
        raise Misconfigured(
            "the database's URL cannot be read",
            fix="sqlite:///file.db or postgresql://user@host/db",
        ) from error
    drivers = {"sqlite": "sqlite+aiosqlite", "postgres": "postgresql+asyncpg"}
    drivers["postgresql"] = "postgresql+asyncpg"
    return parsed.set(drivername=drivers.get(parsed.drivername, parsed.drivername))


def _pool(size: PoolSize) -> dict[str, Any]:
    return {
        "poolclass": AsyncAdaptedQueuePool,
        "pool_size": size.max_size,  # kept open: opening costs 5 times a query
        "max_overflow": 0,
        "pool_timeout": size.acquire_timeout,
        "pool_recycle": _RECYCLE,
        "pool_use_lifo": True,
    }


def _engine(url: URL, size: PoolSize) -> AsyncEngine:
    pool = _pool(size)
    if url.get_backend_name() == "postgresql":
        pool |= {"pool_pre_ping": True, "connect_args": {"timeout": 5.0}}
    try:
        return create_async_engine(url, **pool)
    except (exc.ArgumentError, exc.NoSuchModuleError, ModuleNotFoundError) as error:
        raise Misconfigured(
            f"no driver for the database URL {url.drivername}: {error}",
            fix="pip install 'seawall[postgres]' for PostgreSQL",
        ) from error


def _in_memory(url: URL) -> bool:
    return url.database in (None, "", ":memory:")


def _connect(engine: AsyncEngine) -> sqlite3.Connection:
    """A connection as `engine` makes them, without the thread around it."""
    (path,), named = engine.dialect.create_connect_args(engine.url)
    connection: sqlite3.Connection = sqlite3.connect(
        path, **{**named, "isolation_level": None, "check_same_thread": False}
    )
    return connection


def _writing(url: URL, writer: Writer) -> AsyncEngine:
    engine = create_async_engine(
        url,
        async_creator=writer.connect,
        poolclass=AsyncAdaptedQueuePool,
        pool_size=sqlite.MOST,  # these cost nothing: all of them are the writer's one connection
        max_overflow=-1,
    )
    _begin_ourselves(engine)
    return engine


def _reading(url: URL, size: PoolSize, readers: Readers) -> AsyncEngine:
    engine = create_async_engine(url, async_creator=readers.connect, **_pool(size))
    _begin_ourselves(engine)
    return engine


def _begin_ourselves(engine: AsyncEngine) -> None:
    """Python's sqlite3 begins a transaction at the first INSERT only, which is too late; and some
    have begun before SQLAlchemy does (`seawall.service.sqlite_session`)."""

    @event.listens_for(engine.sync_engine, "begin")
    def begin(connection: Connection) -> None:
        ours = connection.connection.driver_connection
        assert ours is not None, "it was just taken out of the pool"
        if not ours.is_open:
            await_only(ours.begin())


@contextmanager
def _translated(where: str, *, committing: bool = False) -> Iterator[None]:
    """Errors of the connection become ours; errors of the statement stay SQLAlchemy's."""
    try:
        yield
    except exc.TimeoutError as error:
        raise Full(f"{where}: no free connection in time") from error
    except TimeoutError as error:
        raise Unavailable(f"{where} does not answer in time") from error
    except (exc.OperationalError, exc.InterfaceError) as error:
        raise _gone(where, str(error.orig), committing) from error
    except exc.DBAPIError as error:
        if not error.connection_invalidated:
            raise
        raise _gone(where, str(error.orig), committing) from error
    except OSError as error:
        raise _gone(where, str(error), committing) from error


def _gone(where: str, why: str, committing: bool) -> Exception:
    if "locked" in why:
        return Unavailable(f"{where} is locked: {why}")
    if "disk is full" in why:  # SQLite has undone it, also at the commit
        return Unavailable(f"{where} has no room: {why}")
    if committing:
        return OutcomeUnknown(f"{where} went away while committing: {why}")
    return Unavailable(f"{where} cannot be reached: {why}")
