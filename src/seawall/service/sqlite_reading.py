"""Connections that read a SQLite file: each a view of it as it was when its transaction began.

They never wait for the writer, so what was seen to be quick runs on the event loop, as there
(`seawall.service.sqlite`). SQLAlchemy takes these, too, for connections of aiosqlite.
"""

import sqlite3
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, TypeVar

from seawall.service.sqlite import Cursor, directly, prepare
from seawall.service.sqlite_statements import Statements

T = TypeVar("T")


class Reader:
    """One of them. Only statements that read, and nothing else, may run on the loop: any other
    would wait there for whoever writes."""

    def __init__(self, file: sqlite3.Connection, statements: Statements) -> None:
        self._connection = file  # see `Connection`
        self._statements = statements

    @property
    def is_open(self) -> bool:
        """Whether a transaction has begun, and not ended."""
        return self._connection.in_transaction

    async def begin(self) -> None:
        self._connection.execute("BEGIN")  # reads nothing yet

    async def commit(self) -> None:
        await self._statements.in_thread(self._connection.commit)

    async def rollback(self) -> None:
        self._connection.rollback()  # lets go of the view; nothing was written

    async def close(self) -> None:
        self.stop()

    def stop(self) -> None:
        """The writer is open for longer, so this leaves nothing to be written."""
        self._connection.close()

    async def run(self, sql: str, statement: Callable[[], T]) -> T:
        if sql.startswith("SELECT"):
            return await self._statements.run(sql, statement)
        return await self._statements.in_thread(statement)

    async def directly(
        self, sql: str, parameters: Sequence[Any], *, many: bool = False
    ) -> tuple[Sequence[Any], int]:
        """See `seawall.messaging.prepared.Direct`."""
        return await self.run(sql, partial(directly, self._connection, sql, parameters, many=many))

    async def create_function(self, name: str, *args: Any, **named: Any) -> None:
        self._connection.create_function(name, *args, **named)

    def cursor(self) -> Cursor:
        return Cursor(self, self._connection.cursor())


class Readers:
    """Opens connections that read one file, of which `connect` makes the bare ones."""

    def __init__(self, where: str, connect: Callable[[], sqlite3.Connection], most: int) -> None:
        self._connect = connect
        self._statements = Statements(where, threads=most)

    async def connect(self) -> Reader:
        file = await self._statements.in_thread(self._prepared)
        return Reader(file, self._statements)

    def _prepared(self) -> sqlite3.Connection:
        file = self._connect()
        prepare(file)
        return file

    def close(self) -> None:
        self._statements.close()
