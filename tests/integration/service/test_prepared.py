"""Prepared statements are part of the session's transaction, however they get to the database."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from sqlalchemy import Column, Integer, MetaData, Table, bindparam, insert, select, text, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import create_async_engine

from seawall import Database
from seawall.messaging.prepared import Prepared, begun
from seawall.service.database import PoolSize

metadata = MetaData()
ROWS = Table(
    "rows", metadata, Column("id", Integer, primary_key=True), Column("n", Integer, nullable=False)
)
ADD = Prepared(insert(ROWS).values(n=7), ("id",))
FIND = Prepared(select(ROWS.c.n, ROWS.c.id).where(ROWS.c.id >= bindparam("first")))
RAISE = Prepared(update(ROWS).values(n=ROWS.c.n + 1).where(ROWS.c.id == bindparam("which")))


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    opened = Database("test", f"sqlite:///{tmp_path}/test.db", PoolSize(), metadata)
    await opened.open()
    yield opened
    await opened.close()


async def rows(database: Database) -> list[tuple[int, int]]:
    async with database.read() as session:
        return [tuple(row) for row in (await FIND.run(session, {"first": 0})).rows]


async def test_what_it_finds_and_changes_is_told(database: Database) -> None:
    async with database.transaction() as tx:
        await ADD.run(tx, {"id": 1})
        await ADD.run(tx, {"id": 2})
        assert (await RAISE.run(tx, {"which": 2})).changed == 1
        assert (await RAISE.run(tx, {"which": 3})).changed == 0
        assert list((await FIND.run(tx, {"first": 2})).rows) == [(8, 2)]
    assert await rows(database) == [(7, 1), (8, 2)]


async def test_a_transaction_that_fails_takes_it_back(database: Database) -> None:
    async def fail() -> None:
        async with database.transaction() as tx:
            await ADD.run(tx, {"id": 1})
            raise LookupError

    with pytest.raises(LookupError):
        await fail()
    assert await rows(database) == []


async def test_what_a_savepoint_wrote_goes_with_it(database: Database) -> None:
    async with database.transaction() as tx:
        await ADD.run(tx, {"id": 1})
        inner = await tx.begin_nested()
        await ADD.run(tx, {"id": 2})
        await inner.rollback()
        await ADD.run(tx, {"id": 3})
    assert await rows(database) == [(7, 1), (7, 3)]


async def test_after_a_commit_a_session_is_in_a_transaction_of_its_own_again(
    database: Database,
) -> None:
    async with database.transaction() as first:
        await ADD.run(first, {"id": 1})
        await first.commit()
        async with database.transaction() as second:
            await ADD.run(second, {"id": 2})
        await ADD.run(first, {"id": 3})
        await first.rollback()
    assert await rows(database) == [(7, 1), (7, 2)]


async def test_an_error_is_the_one_sqlalchemy_raises(database: Database) -> None:
    async with database.transaction() as tx:
        await ADD.run(tx, {"id": 1})
        with pytest.raises(IntegrityError, match="UNIQUE"):
            await ADD.run(tx, {"id": 1})
        await ADD.run(tx, {"id": 2})
    assert await rows(database) == [(7, 1), (7, 2)]


async def test_many_in_one_go(database: Database) -> None:
    async with database.engine.begin() as connection:
        await ADD.for_each(connection, [{"id": number} for number in (1, 2, 3)])
    assert await rows(database) == [(7, 1), (7, 2), (7, 3)]
    with pytest.raises(IntegrityError):
        async with database.engine.begin() as connection:
            await ADD.for_each(connection, [{"id": 4}, {"id": 1}])
    assert await rows(database) == [(7, 1), (7, 2), (7, 3)]


async def test_a_short_transaction_is_kept_or_taken_back(database: Database) -> None:
    async def add(number: int, *, fail: bool = False) -> None:
        async with begun(database.engine) as short:
            await ADD.on(short, {"id": number})
            if fail:
                raise LookupError

    await add(1)
    with pytest.raises(LookupError):
        await add(2, fail=True)
    with pytest.raises(IntegrityError):
        await add(1)
    await add(3)
    assert await rows(database) == [(7, 1), (7, 3)]


async def test_an_engine_without_a_short_way_runs_it_too() -> None:
    engine = create_async_engine("sqlite+aiosqlite://")
    async with engine.begin() as connection:
        await connection.execute(text("create table rows (id integer primary key, n integer)"))
        await ADD.for_each(connection, [{"id": 1}, {"id": 2}])
        assert (await RAISE.on(connection, {"which": 2})).changed == 1
        assert list((await FIND.on(connection, {"first": 1})).rows) == [(7, 1), (8, 2)]
    async with begun(engine) as connection:
        await ADD.on(connection, {"id": 3})
    await engine.dispose()
