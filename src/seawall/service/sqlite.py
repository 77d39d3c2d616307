"""The one writer of a SQLite file in this process: transactions share commits, and the loop.

A file has one writer at a time, and a commit waits for the disk. So the transactions of a process
take turns on one connection, in the order in which they came, and those that came while another
was under way share a commit: each in a savepoint of its own, and none told that it is kept before
all of it is on disk. One that fails undoes its savepoint, and the others are kept.

Statements run on the event loop: a writer that goes to a thread and back for each of its ten
statements keeps everybody else waiting for ten switches of threads. But only those that were seen
to be quick; any other, and the commit, runs in the writer's thread.

SQLAlchemy takes this for a connection of aiosqlite (`create_async_engine(async_creator=)`).
"""

import asyncio
import sqlite3
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol, TypeVar

from seawall.clock import SYSTEM, Clock
from seawall.concurrency.tasks import Tasks
from seawall.errors import Unavailable
from seawall.service.sqlite_statements import Statements

# How long a writer of another process may take. Longer than any transaction should, shorter than
# the usual timeout of a call.
LOCK_TIMEOUT = 1.5  # seconds

# How often a writer asks again while another process writes. SQLite's own waiting grows to 100 ms
# between two looks, in which the others' next transactions overtake it for seconds.
LOCK_POLL = 0.002  # seconds

# Since when another process was met writing, this one leaves the file alone for a LOCK_POLL
# between two commits. Without, it would take the lock again before anybody has looked.
CONTENDED = 1.0  # seconds

# A commit is shared by this many at most, that began this long after the first. The first waits
# for the last; the disk takes about a millisecond, so ten times that is worth no more.
MOST, OPEN_FOR = 64, 0.005  # transactions, seconds

_PRAGMAS = (
    f"busy_timeout = {int(LOCK_TIMEOUT * 1000)}",  # while a file is opened, or closed by others
    "synchronous = FULL",  # committed is on disk
    "foreign_keys = ON",
)

T = TypeVar("T")


def prepare(connection: Any) -> None:
    """Set up a new connection, reading or writing."""
    for pragma in _PRAGMAS:
        connection.execute(f"PRAGMA {pragma}").close()


@dataclass(slots=True)
class _Group:
    """Transactions that share a commit."""

    ended: "asyncio.Future[None]"  # fails with what COMMIT failed with
    open_until: float
    members: int = 0
    gone: bool = False  # SQLite has undone it, as when the disk is full

    def has_room(self, now: float) -> bool:
        return not self.gone and self.members < MOST and now < self.open_until


class Writer:
    """Writes one file; `connect` makes the connections that a pool of SQLAlchemy keeps.

    They are as many as there are transactions, and all of them are this one's turn to write.
    A transaction that waits for something else while it is open holds up all others, of this
    process and of others, also those that only wait for the commit they share with it.
    """

    def __init__(
        self, where: str, connect: Callable[[], sqlite3.Connection], *, clock: Clock = SYSTEM
    ) -> None:
        self.open_for = OPEN_FOR
        self._where = where
        self._connect = connect
        self._clock = clock
        self.functions: set[str] = set()  # names of those made on the file's connection
        self._statements = Statements(where, clock=clock)
        self._opening = asyncio.Lock()
        self._file: sqlite3.Connection | None = None
        self._line: deque[asyncio.Future[None]] = deque()
        self._taken = False  # somebody has the turn, or a commit is under way
        self._group: _Group | None = None
        self._contended_until = 0.0
        self._commits = Tasks()

    async def connect(self) -> "Connection":
        async with self._opening:
            if self._file is None:
                self._file = await self._opened()
        return Connection(self, self._file)

    async def _opened(self) -> sqlite3.Connection:
        until = self._clock.now() + LOCK_TIMEOUT
        while True:
            try:
                return await self._statements.in_thread(_open, self._connect)
            except sqlite3.OperationalError as error:
                if not _locked(error) or self._clock.now() > until:
                    raise
                await self._clock.sleep(LOCK_POLL)

    async def close(self) -> None:
        """Wait for the last commit, and close the file."""
        await self._commits.join()
        if self._file is not None:
            file, self._file = self._file, None
            self.functions.clear()
            await self._statements.in_thread(file.close)
        self._statements.close()

    async def begin(self, file: sqlite3.Connection) -> _Group:
        """Wait for this transaction's turn. Raises `Unavailable` if others keep the file locked."""
        await self._turn()
        try:
            if self._group is None:
                await self._lock(file)
                ended = asyncio.get_running_loop().create_future()
                self._group = _Group(ended, self._clock.now() + self.open_for)
            file.execute("SAVEPOINT seawall_turn")
        except BaseException:
            self._pass_on(file)
            raise
        return self._group

    def leave(self, file: sqlite3.Connection, group: _Group, *, keep: bool) -> None:
        """End a transaction's turn. It is kept, if it is, when `group.ended` is."""
        group.members += 1
        group.gone = not file.in_transaction
        try:
            if not group.gone:
                if not keep:
                    file.execute("ROLLBACK TO seawall_turn")
                file.execute("RELEASE seawall_turn")
        finally:
            self._pass_on(file)

    async def _turn(self) -> None:
        if not self._taken:
            self._taken = True
            return
        place = asyncio.get_running_loop().create_future()
        self._line.append(place)
        try:
            await place
        except asyncio.CancelledError:
            if not place.cancelled():  # it was our turn at that very moment
                assert self._file is not None
                self._pass_on(self._file)
            raise

    def _pass_on(self, file: sqlite3.Connection) -> None:
        """The next in the line has its turn, in this group if that has room; else commit."""
        group = self._group
        if group is None or group.has_room(self._clock.now()):
            while self._line:
                place = self._line.popleft()
                if not place.done():
                    place.set_result(None)
                    return
        if group is None:
            self._taken = False
        else:
            self._commits.start(self._commit(file, group), name="sqlite-commit")

    async def _commit(self, file: sqlite3.Connection, group: _Group) -> None:
        if self._line and group.has_room(self._clock.now()):  # came in the same turn of the loop
            self._pass_on(file)
            return
        try:
            await self._statements.in_thread(_end, file)
        except sqlite3.Error as error:
            group.ended.set_exception(error)
            group.ended.exception()  # a member that was cancelled does not ask
        else:
            group.ended.set_result(None)
        finally:
            self._group = None
            self._pass_on(file)

    async def _lock(self, file: sqlite3.Connection) -> None:
        if self._clock.now() < self._contended_until:
            await self._clock.sleep(LOCK_POLL)
        until = self._clock.now() + LOCK_TIMEOUT
        while True:
            try:
                file.execute("BEGIN IMMEDIATE")
            except sqlite3.Error as error:
                if not _locked(error) or self._clock.now() > until:
                    raise Unavailable(f"{self._where} cannot be written: {error}") from error
                self._contended_until = self._clock.now() + CONTENDED
                await self._clock.sleep(LOCK_POLL)
            else:
                return

    async def run(self, sql: str, statement: Callable[[], T]) -> T:
        """The result of a statement of the transaction whose turn it is."""
        return await self._statements.run(sql, statement)

    def __repr__(self) -> str:
        return f"<Writer {self._where} {len(self._line)} waiting>"


def _open(connect: Callable[[], sqlite3.Connection]) -> sqlite3.Connection:
    file = connect()
    try:
        prepare(file)
        # Kept in the file. While several processes change it, SQLite does not wait for its turn.
        file.execute("PRAGMA journal_mode = WAL").close()
        file.execute("PRAGMA busy_timeout = 0").close()  # from here on we wait: LOCK_POLL
    except sqlite3.Error:
        file.close()
        raise
    return file


def _locked(error: sqlite3.Error) -> bool:
    return "locked" in str(error)


def _end(file: sqlite3.Connection) -> None:
    try:
        file.execute("COMMIT")
    except sqlite3.Error:
        if file.in_transaction:
            file.execute("ROLLBACK")
        raise


class Connection:
    """What a transaction has of a `Writer`."""

    def __init__(self, writer: Writer, file: sqlite3.Connection) -> None:
        self._writer = writer
        self._connection = file  # the name by which SQLAlchemy sees that aiosqlite is open
        self._group: _Group | None = None

    @property
    def is_open(self) -> bool:
        """Whether a transaction has begun, and not ended."""
        return self._group is not None

    async def begin(self) -> None:
        self._group = await self._writer.begin(self._connection)

    async def commit(self) -> None:
        """Return when it is on disk."""
        await self._leave(keep=True)

    async def rollback(self) -> None:
        """Return when those it shares the commit with are on disk: it may have seen their work."""
        await self._leave(keep=False)

    async def close(self) -> None:
        await self.rollback()

    def stop(self) -> None:
        """Close without waiting."""
        group, self._group = self._group, None
        if group is not None:
            self._writer.leave(self._connection, group, keep=False)

    async def _leave(self, *, keep: bool) -> None:
        group, self._group = self._group, None
        if group is not None:
            self._writer.leave(self._connection, group, keep=keep)
            await asyncio.shield(group.ended)

    async def run(self, sql: str, statement: Callable[[], T]) -> T:
        if self._group is not None and not self._connection.in_transaction:
            # Else it would be committed by itself.
            raise sqlite3.OperationalError("SQLite has undone this transaction")
        return await self._writer.run(sql, statement)

    async def directly(
        self, sql: str, parameters: Sequence[Any], *, many: bool = False
    ) -> tuple[Sequence[Any], int]:
        """See `seawall.messaging.prepared.Direct`."""
        return await self.run(sql, partial(directly, self._connection, sql, parameters, many=many))

    async def create_function(self, name: str, *args: Any, **named: Any) -> None:
        # All of these are one connection, and SQLite replaces no function while a statement runs.
        if name not in self._writer.functions:
            self._connection.create_function(name, *args, **named)
            self._writer.functions.add(name)

    def cursor(self) -> "Cursor":
        return Cursor(self, self._connection.cursor())


def directly(
    file: sqlite3.Connection, sql: str, parameters: Sequence[Any], *, many: bool
) -> tuple[Sequence[Any], int]:
    """Run it there, and return its rows and how many were changed."""
    if many:
        return (), file.executemany(sql, parameters).rowcount
    cursor = file.execute(sql, parameters)
    return cursor.fetchall() if cursor.description else (), cursor.rowcount


class Runs(Protocol):
    """What runs the statements of a cursor."""

    async def run(self, sql: str, statement: Callable[[], T]) -> T: ...


class Cursor:
    """A cursor whose rows are fetched with the statement."""

    def __init__(self, connection: "Runs", cursor: sqlite3.Cursor) -> None:
        self._connection = connection
        self._cursor = cursor
        self._rows: Sequence[Any] = ()
        self.arraysize = 1

    async def __aenter__(self) -> "Cursor":
        return self

    @property
    def description(self) -> Any:
        return self._cursor.description

    @property
    def rowcount(self) -> int:
        return self._cursor.rowcount

    @property
    def lastrowid(self) -> int | None:
        return self._cursor.lastrowid

    async def execute(self, sql: str, parameters: Sequence[Any] = ()) -> None:
        def statement() -> Sequence[Any]:
            self._cursor.execute(sql, parameters)
            return self._cursor.fetchall() if self._cursor.description else ()

        self._rows = await self._connection.run(sql, statement)

    async def executemany(self, sql: str, parameters: Sequence[Sequence[Any]]) -> None:
        def statement() -> None:
            self._cursor.executemany(sql, parameters)

        await self._connection.run(sql, statement)

    async def fetchall(self) -> Sequence[Any]:
        return self._rows

    async def close(self) -> None:
        self._cursor.close()
