"""Transactions of one process on a SQLite file: they share commits, and nothing else."""

import asyncio
import itertools
import logging
import sqlite3
import sys
from collections.abc import AsyncIterator, Coroutine
from pathlib import Path

import pytest
from sqlalchemy import func, insert, select, text
from sqlalchemy.exc import IntegrityError, SQLAlchemyError

from seawall import Database, OutcomeUnknown, SeawallError, Transaction
from seawall.clock import SYSTEM
from seawall.concurrency.tasks import Tasks
from seawall.service.database import PoolSize
from seawall.service.sqlite import Writer
from seawall.service.sqlite_statements import TRUSTED_AFTER
from tests.support.rows import DEFERRED, ROWS, metadata


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    opened = Database("test", f"sqlite:///{tmp_path}/test.db", PoolSize(), metadata)
    await opened.open()
    assert opened._writer is not None
    opened._writer.open_for = 1.0  # on a slow machine, too
    yield opened
    await opened.close()


async def ids(database: Database) -> set[int]:
    async with database.read() as session:
        return set(await session.scalars(select(ROWS.c.id)))


async def outcome(transaction: Coroutine[None, None, None]) -> Exception | None:
    try:
        await transaction
    except (ArithmeticError, SQLAlchemyError, SeawallError) as error:
        return error
    return None


async def together(
    database: Database, *others: Coroutine[None, None, None]
) -> list[Exception | None]:
    """What came of transactions that share a commit: a first one, which writes row 1, holds its
    turn until all others wait for theirs."""
    begun, release = asyncio.Event(), asyncio.Event()

    async def first() -> None:
        async with database.transaction() as tx:
            await add(tx, 1)
            begun.set()
            await release.wait()

    async with Tasks() as tasks:
        started = [tasks.start(outcome(first()))]
        await begun.wait()
        started += [tasks.start(outcome(other)) for other in others]
        for _ in range(3):
            await SYSTEM.sleep(0)
        release.set()
        return [await task for task in started]


async def add(tx: Transaction, number: int) -> None:
    await tx.execute(insert(ROWS).values(id=number))


async def write(database: Database, number: int) -> None:
    async with database.transaction() as tx:
        await add(tx, number)


async def write_and_fail(database: Database, number: int) -> None:
    async with database.transaction() as tx:
        await add(tx, number)
        raise ZeroDivisionError


async def commits(database: Database) -> int:
    """How often the file was committed to, as its readers see."""
    async with database.read() as session:
        return int((await session.execute(text("PRAGMA data_version"))).scalar_one())


async def test_those_that_wait_share_a_commit(database: Database) -> None:
    before = await commits(database)
    assert await together(database, *(write(database, n) for n in range(2, 9))) == [None] * 8
    assert await ids(database) == set(range(1, 9))
    assert await commits(database) - before == 1


async def test_one_that_fails_undoes_itself_only(database: Database) -> None:
    results = await together(
        database,
        write(database, 2),
        write_and_fail(database, 3),
        write(database, 1),
        write(database, 4),
    )
    assert [type(result) for result in results] == [
        type(None),
        type(None),
        ZeroDivisionError,
        IntegrityError,  # it is the first one's row, though that was not on disk yet
        type(None),
    ]
    assert await ids(database) == {1, 2, 4}


async def test_what_fails_at_commit_is_told_to_all_and_kept_of_none(database: Database) -> None:
    async def orphan() -> None:
        async with database.transaction() as tx:
            await tx.execute(insert(DEFERRED).values(id=1, row=99))

    results = await together(
        database, write(database, 2), orphan(), write_and_fail(database, 3), write(database, 4)
    )
    # Also to the one that failed by itself: that may have been for what it saw of the others.
    assert all(isinstance(result, IntegrityError) for result in results)
    assert await ids(database) == set()
    await write(database, 5)
    assert await ids(database) == {5}


async def test_one_that_sqlite_undoes_takes_nobody_by_surprise(database: Database) -> None:
    async def undone() -> None:
        async with database.transaction() as tx:
            await add(tx, 7)
            with pytest.raises(IntegrityError):
                await tx.execute(text("insert or rollback into rows values (7)"))
            await add(tx, 8)  # would be committed by itself

    results = await together(database, write(database, 2), undone(), write(database, 3))
    assert [type(result) for result in results[:3]] == [OutcomeUnknown] * 3
    assert results[3] is None  # had its turn after that group
    assert await ids(database) == {3}


async def test_cancelled_in_the_line_and_in_its_turn(database: Database) -> None:
    begun = asyncio.Event()

    async def hold() -> None:
        async with database.transaction() as tx:
            await add(tx, 100)
            begun.set()
            await asyncio.Event().wait()

    async with Tasks() as tasks:
        all_of_them = [tasks.start(hold())]
        await begun.wait()
        all_of_them += [tasks.start(write(database, n)) for n in range(5)]
        for _ in range(3):
            await SYSTEM.sleep(0)
        for which in (1, 4, 0):
            all_of_them[which].cancel()
        await asyncio.wait(all_of_them)
        cancelled = [task.cancelled() for task in all_of_them]
    assert cancelled == [True, True, False, False, True, False]
    assert await ids(database) == {1, 2, 4}


async def test_cancelled_at_whatever_point_it_holds_up_nobody(database: Database) -> None:
    async with Tasks() as tasks:
        for number in range(10, 60):
            task = tasks.start(write(database, number))
            for _ in range(number % 25):
                await SYSTEM.sleep(0)
            task.cancel()
            await asyncio.wait([task])
            if not task.cancelled():
                assert number in await ids(database)
    await write(database, 99)
    assert 99 in await ids(database)


KILLED = """
import asyncio, os, sys
from sqlalchemy import text
from seawall.service.database import Database, PoolSize
from seawall.service import sqlite

def die(file):
    os.kill(os.getpid(), 9)

async def main():
    database = Database("test", sys.argv[1], PoolSize())
    await database.open()
    sqlite._end = die

    async def write(number):
        async with database.transaction() as tx:
            await tx.execute(text(f"insert into rows values ({number})"))
        print("told", number, flush=True)

    await asyncio.gather(*(write(n) for n in range(10)))

asyncio.run(main())
"""


async def test_killed_before_commit_it_has_told_nobody(database: Database, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/test.db"
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", KILLED, url), stdout=asyncio.subprocess.PIPE
    )
    out, _ = await process.communicate()
    assert process.returncode == -9
    assert out == b""
    assert await ids(database) == set()


async def test_writers_of_two_processes_both_get_their_turn(tmp_path: Path) -> None:
    # Two writers of one file are two processes to SQLite.
    url = f"sqlite:///{tmp_path}/test.db"
    both = [Database("test", url, PoolSize(), metadata) for _ in range(2)]
    for database in both:
        await database.open()
    done, numbers = [0, 0], itertools.count()

    async def keep_writing(who: int) -> None:
        while min(done) < 40:
            await write(both[who], next(numbers))
            done[who] += 1

    async with asyncio.timeout(60):
        await asyncio.gather(*(keep_writing(0) for _ in range(16)), keep_writing(1))
    for database in both:
        await database.close()


async def test_a_statement_that_is_not_quick_leaves_the_loop_alone(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Unknown ones run in a thread; one that was quick and is not any more, once on the loop."""

    def connect() -> sqlite3.Connection:
        return sqlite3.connect(tmp_path / "x.db", isolation_level=None, check_same_thread=False)

    writer = Writer("the database of test", connect)
    connection = await writer.connect()
    loop = asyncio.get_running_loop()

    async def run(sql: str, size: int) -> bool:
        """Whether the loop went on while the statement ran."""
        turns = 0

        def turn() -> None:
            nonlocal turns
            turns += 1

        await connection.begin()
        loop.call_soon(turn)
        await connection.cursor().execute(sql, (size,))
        went_on = turns > 0
        await connection.rollback()
        return went_on

    count = (
        "with recursive n(x) as (select 1 union all select x + 1 from n where x < ?) "
        "select count(*) from n"
    )
    with caplog.at_level(logging.WARNING, "seawall"):
        assert await run(count, 10)  # never seen
        assert not await run(count, 10)
        assert not await run(count, 1_000_000)  # nobody could know
        assert "held the event loop" in caplog.text
        for _ in range(TRUSTED_AFTER):
            assert await run(count, 10)
        assert not await run(count, 10)
    await writer.close()


async def test_a_transaction_beside_a_commit_sees_it_whole(database: Database) -> None:
    """Readers see a group at once, or not at all."""
    sizes = set[int]()

    async def look() -> None:
        async with database.read() as session:
            found = await session.execute(select(func.count()).select_from(ROWS))
            sizes.add(found.scalar_one())

    async with Tasks() as tasks:
        writing = tasks.start(together(database, *(write(database, n) for n in range(2, 11))))
        while not writing.done():
            await look()
        await look()
    assert sizes <= {0, 10}
    assert 10 in sizes


async def test_what_is_written_in_a_view_waits_for_other_writers_in_a_thread(
    database: Database, tmp_path: Path
) -> None:
    """And is not kept."""

    async def write_in_a_view() -> None:
        async with database.read() as session:
            await session.execute(insert(ROWS).values(id=1))

    await write_in_a_view()  # which was quick
    other = sqlite3.connect(tmp_path / "test.db", isolation_level=None)
    other.execute("begin immediate")
    async with Tasks() as tasks:
        writing = tasks.start(write_in_a_view())
        for _ in range(50):  # the loop goes on, or nobody would ever let go of the file
            await SYSTEM.sleep(0)
        other.execute("rollback")
        await writing
    other.close()
    assert await ids(database) == set()
