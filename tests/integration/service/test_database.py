"""The database helper on SQLite and PostgreSQL: pool, transactions, and honest failures."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path

import httpx2
import pytest
from sqlalchemy import Column, Integer, MetaData, Table, func, insert, select, text
from sqlalchemy.exc import IntegrityError

from seawall import Database, Full, Misconfigured, Service, Unavailable
from seawall.service.database import PoolSize
from seawall.testing.platform import Platform
from tests.support import servers

metadata = MetaData()
ROWS = Table("service_rows", metadata, Column("id", Integer, primary_key=True))


@pytest.fixture(params=["sqlite", "postgres"])
async def database(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Database]:
    if request.param == "sqlite":
        url = f"sqlite:///{tmp_path}/test.db"
    else:
        url = request.getfixturevalue("postgres").url
    size = PoolSize(min_size=1, max_size=3, acquire_timeout=0.2)
    opened = Database("test", url, size, metadata)
    await opened.open()
    yield opened
    async with opened.transaction() as tx:
        await tx.execute(ROWS.delete())
    await opened.close()


async def _count(database: Database) -> int:
    async with database.read() as session:
        return (await session.execute(select(func.count()).select_from(ROWS))).scalar_one()


async def _write(database: Database) -> None:
    async with database.transaction() as tx:
        await tx.execute(insert(ROWS).values(id=1))


async def _fail_after_writing(database: Database) -> None:
    async with database.transaction() as tx:
        await tx.execute(insert(ROWS).values(id=2))
        raise ZeroDivisionError


async def _wait_after_writing(database: Database) -> None:
    async with asyncio.timeout(0.02), database.transaction() as tx:
        await tx.execute(insert(ROWS).values(id=9))
        await asyncio.Event().wait()


async def test_committed_when_the_block_ends_and_not_when_it_raises(database: Database) -> None:
    async with database.transaction() as tx:
        await tx.execute(insert(ROWS).values(id=1))
    with pytest.raises(ZeroDivisionError):
        await _fail_after_writing(database)
    async with database.read() as session:
        await session.execute(insert(ROWS).values(id=3))
    assert await _count(database) == 1


async def test_errors_of_statements_stay_what_they_are(database: Database) -> None:
    async with database.transaction() as tx:
        await tx.execute(insert(ROWS).values(id=1))
    with pytest.raises(IntegrityError):
        async with database.transaction() as tx:
            await tx.execute(insert(ROWS).values(id=1))


async def test_a_pool_that_is_used_up_says_so_in_time(database: Database) -> None:
    async with database.read(), database.read(), database.read():
        with pytest.raises(Full, match="no free connection"):
            async with database.read():
                pass
    async with database.read():
        pass


async def test_writers_take_turns(database: Database) -> None:
    async def add(number: int) -> None:
        async with database.transaction() as tx:
            count = (await tx.execute(select(func.count()).select_from(ROWS))).scalar_one()
            await tx.execute(insert(ROWS).values(id=1000 + number if count < 0 else number))

    async with asyncio.TaskGroup() as tasks:
        for number in range(3):
            tasks.create_task(add(number))
    assert await _count(database) == 3


async def test_cancelled_it_gives_the_connection_back(database: Database) -> None:
    for _ in range(5):
        with pytest.raises(TimeoutError):
            await _wait_after_writing(database)
    assert await _count(database) == 0


async def test_inner_transactions_join_a_shared_one(database: Database) -> None:
    async def fail() -> None:
        async with database.shared_transaction():
            await _write(database)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await fail()
    assert await _count(database) == 0


async def test_replicas_that_start_together_make_the_tables_once(
    tmp_path: Path, postgres: servers.Postgres, unique: str
) -> None:
    for url in (f"sqlite:///{tmp_path}/together.db", postgres.url):
        fresh = MetaData()
        Table(unique.replace("-", "_"), fresh, Column("id", Integer, primary_key=True))
        replicas = [Database("test", url, PoolSize(min_size=1), fresh) for _ in range(5)]
        await asyncio.gather(*(replica.open() for replica in replicas))
        for replica in replicas:
            await replica.close()


async def test_a_locked_file_is_503_and_heals(tmp_path: Path) -> None:
    path = tmp_path / "locked.db"
    service = Service("orders")
    database = service.database(metadata=metadata)

    @service.post("/rows/{number}")
    async def add(number: int) -> None:
        async with database.transaction() as tx:
            await tx.execute(insert(ROWS).values(id=number))

    @service.get("/rows")
    async def rows() -> int:
        return await _count(database)

    async with Platform(databases={"orders": f"sqlite:///{path}"}) as system:
        await system.start(service)
        async with httpx2.AsyncClient(base_url=system.url("orders"), timeout=30) as http:
            other = await asyncio.to_thread(sqlite3.connect, path, check_same_thread=False)
            await asyncio.to_thread(other.execute, "BEGIN IMMEDIATE")
            locked = await http.post("/rows/1")
            assert locked.status_code == 503
            assert int(locked.headers["retry-after"]) >= 1
            assert (await http.get("/rows")).json() == 0  # readers never wait for writers
            assert (await http.get("/readyz")).status_code == 200
            await asyncio.to_thread(other.close)
            assert (await http.post("/rows/1")).status_code == 200


async def test_a_server_that_goes_away_is_503_and_heals() -> None:
    server = await asyncio.to_thread(servers.postgres)
    service = Service("orders")
    database = service.database(metadata=metadata, min_size=1, max_size=2)

    @service.post("/rows/{number}")
    async def add(number: int) -> None:
        async with database.transaction() as tx:
            await tx.execute(insert(ROWS).values(id=number))

    try:
        async with Platform(databases={"orders": server.url}) as system:
            await system.start(service)
            async with httpx2.AsyncClient(base_url=system.url("orders"), timeout=10) as http:
                assert (await http.post("/rows/1")).status_code == 200
                await asyncio.to_thread(server.kill)
                for number in (2, 3):
                    gone = await http.post(f"/rows/{number}")
                    assert gone.status_code == 503
                    assert "database" in gone.json()["detail"]
                health = (await http.get("/health")).json()
                assert health["checks"]["database"]["status"] == "warn"
                assert (await http.get("/readyz")).status_code == 200
                await asyncio.to_thread(server.start)
                assert (await http.post("/rows/4")).status_code == 200
    finally:
        await asyncio.to_thread(server.stop)


async def test_a_database_that_cannot_be_is_named(tmp_path: Path) -> None:
    (tmp_path / "text.db").write_text("This is no database, and long enough to be looked at. " * 99)
    for url, error, says in (
        ("nonsense", Misconfigured, "cannot be read"),
        ("mssql+nothing://x/y", Misconfigured, "no driver"),
        (f"sqlite:///{tmp_path}/no/such/folder/x.db", Misconfigured, "unable to open.*/x.db"),
        (f"sqlite:///{tmp_path}/text.db", Misconfigured, "not a database.*text.db"),
        (f"postgresql://x@127.0.0.1:{servers.free_port()}/y", Unavailable, "cannot be reached"),
    ):
        with pytest.raises(error, match=says):
            await Database("test", url, PoolSize()).open()
    with pytest.raises(Misconfigured, match="not open"):
        async with Database("test", None, PoolSize()).read():
            pass


async def test_sqlite_is_set_up_to_keep_what_it_was_given(tmp_path: Path) -> None:
    database = Database("test", f"sqlite:///{tmp_path}/x.db", PoolSize())
    await database.open()
    async with database.read() as session:
        for pragma, value in (("journal_mode", "wal"), ("foreign_keys", 1), ("synchronous", 2)):
            assert (await session.execute(text(f"PRAGMA {pragma}"))).scalar() == value
    await database.close()
    await database.close()
