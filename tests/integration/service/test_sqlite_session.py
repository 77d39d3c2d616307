"""A transaction begins without SQLAlchemy, and is the same as any other for whoever uses that."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from weakref import WeakSet

import pytest
from sqlalchemy import Table, event, insert, select
from sqlalchemy.exc import IntegrityError, InvalidRequestError, UnboundExecutionError
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from seawall import Database, Transaction
from seawall.concurrency.tasks import Tasks
from seawall.messaging import outbox, tables
from seawall.messaging.base import Message
from seawall.messaging.outbox import RELAYS, Entry
from seawall.messaging.prepared import Prepared
from seawall.service.database import PoolSize
from tests.support.rows import DEFERRED, ROWS, metadata

ADD = Prepared(insert(ROWS), ("id",))
ADD_DEFERRED = Prepared(insert(DEFERRED), ("id", "row"))


class Base(DeclarativeBase):
    metadata = metadata


class Mapping(Base):
    __tablename__ = "mapped"
    id: Mapped[int] = mapped_column(primary_key=True)


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    opened = Database("test", f"sqlite:///{tmp_path}/test.db", PoolSize(), metadata)
    opened.add_tables(tables.metadata)
    await opened.open()
    yield opened
    await opened.close()


async def add(tx: Transaction, *numbers: int) -> None:
    for number in numbers:
        await ADD.run(tx, {"id": number})


async def ids(database: Database, table: Table = ROWS) -> set[int]:
    async with database.read() as session:
        return set(await session.scalars(select(table.c.id)))


async def test_what_is_prepared_and_what_is_not_is_kept_together(database: Database) -> None:
    async with database.transaction() as tx:
        await add(tx, 1)
        await tx.execute(insert(ROWS).values(id=2))
        await add(tx, 3)
        tx.add(Mapping(id=1))
    assert await ids(database) == {1, 2, 3}
    assert await ids(database, Base.metadata.tables["mapped"]) == {1}


async def test_what_is_added_to_a_session_that_ran_only_prepared_ones_is_kept(
    database: Database,
) -> None:
    async with database.transaction() as tx:
        await add(tx, 1)
        tx.add(Mapping(id=2))
        assert tx.in_transaction()
    assert await ids(database) == {1}
    assert await ids(database, Base.metadata.tables["mapped"]) == {2}


async def tries(database: Database, work: Callable[[Transaction], Awaitable[None]]) -> None:
    async with database.transaction() as tx:
        await work(tx)


async def test_what_fails_is_undone_together(database: Database) -> None:
    async def by_itself(tx: Transaction) -> None:
        await add(tx, 1)
        raise ZeroDivisionError

    async def in_sqlalchemy(tx: Transaction) -> None:
        await add(tx, 2)
        await tx.execute(insert(ROWS).values(id=2))

    with pytest.raises(ZeroDivisionError):
        await tries(database, by_itself)
    with pytest.raises(IntegrityError):
        await tries(database, in_sqlalchemy)
    assert await ids(database) == set()


async def rolled_back(tx: Transaction) -> None:
    await tx.rollback()


async def reset(tx: Transaction) -> None:
    await tx.reset()


async def closed(tx: Transaction) -> None:
    await tx.close()


async def given_up(tx: Transaction) -> None:
    await tx.invalidate()


async def rolled_back_inside(tx: Transaction) -> None:
    await tx.run_sync(Session.rollback)


async def expunged(tx: Transaction) -> None:
    """SQLAlchemy has begun, and has run nothing."""
    row = Mapping(id=1)
    tx.add(row)
    tx.expunge(row)
    await tx.rollback()


Undo = Callable[[Transaction], Awaitable[None]]
UNDONE = [rolled_back, reset, closed, given_up, rolled_back_inside, expunged]


@pytest.mark.parametrize("undo", UNDONE)
async def test_who_undoes_it_goes_on_in_a_new_one(database: Database, undo: Undo) -> None:
    async with database.transaction() as tx:
        await add(tx, 1)
        await undo(tx)
        await add(tx, 2)
    async with database.transaction() as tx:
        await add(tx, 3)
    assert await ids(database) == {2, 3}


async def test_who_commits_goes_on_in_a_new_one(database: Database) -> None:
    async def half(tx: Transaction) -> None:
        await add(tx, 1)
        await tx.commit()
        assert not tx.in_transaction()
        await add(tx, 2)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await tries(database, half)
    async with database.transaction() as tx:
        await add(tx, 3)
        await tx.run_sync(Session.commit)
    assert await ids(database) == {1, 3}


async def test_a_savepoint_undoes_what_is_prepared_too(database: Database) -> None:
    async with database.transaction() as tx:
        await add(tx, 1)
        async with tx.begin_nested() as savepoint:
            await add(tx, 2)
            await savepoint.rollback()
        await add(tx, 3)
    assert await ids(database) == {1, 3}


async def test_it_has_begun_already(database: Database) -> None:
    async with database.transaction() as tx:
        with pytest.raises(InvalidRequestError, match="already begun"):
            async with tx.begin():
                pass


async def test_who_listens_is_told_though_sqlalchemy_had_nothing_to_do(database: Database) -> None:
    told: list[str] = []
    async with database.transaction() as tx:
        event.listen(tx.sync_session, "after_commit", lambda _: told.append("after"))
        await add(tx, 1)
    async with database.transaction() as tx:

        def before(session: Session) -> None:
            session.execute(insert(ROWS).values(id=3))

        event.listen(tx.sync_session, "before_commit", before)
        await add(tx, 2)
    assert told == ["after"]
    assert await ids(database) == {1, 2, 3}


async def test_what_only_commit_finds_out_is_told_as_by_sqlalchemy(database: Database) -> None:
    told: list[str] = []

    async def orphan(tx: Transaction) -> None:
        event.listen(tx.sync_session, "after_commit", lambda _: told.append("kept"))
        event.listen(tx.sync_session, "after_rollback", lambda _: told.append("undone"))
        await ADD_DEFERRED.run(tx, {"id": 1, "row": 99})

    with pytest.raises(IntegrityError):
        await tries(database, orphan)
    assert told == ["undone"]
    assert await ids(database, DEFERRED) == set()


class Near:
    """A relay of this process."""

    name, full = "near", False

    def __init__(self) -> None:
        self.handed: list[str] = []

    def hand(self, claimed_by: str, entry: Entry) -> None:
        self.handed.append(entry.message.id)

    def wake(self) -> None:
        """There is nothing to claim."""


async def test_what_was_not_kept_is_handed_to_no_relay(database: Database) -> None:
    near = Near()
    RELAYS.setdefault(database.engine.sync_engine, WeakSet()).add(near)

    async def half(tx: Transaction) -> None:
        await outbox.write(tx, "t", Message("lost", b"{}", {}))
        await ADD_DEFERRED.run(tx, {"id": 1, "row": 99})
        with pytest.raises(IntegrityError):
            await tx.commit()
        await add(tx, 1)

    await tries(database, half)
    async with database.transaction() as tx:
        await outbox.write(tx, "t", Message("undone", b"{}", {}))
        await tx.rollback()
    async with database.transaction() as tx:
        await outbox.write(tx, "t", Message("kept", b"{}", {}))
        assert near.handed == []
    assert near.handed == ["kept"]
    assert await ids(database) == {1}


async def test_a_session_that_is_over_writes_into_nobody_elses(database: Database) -> None:
    async with database.transaction() as over:
        await add(over, 1)
    async with database.transaction() as tx:
        for statement in (add(over, 2), over.execute(insert(ROWS).values(id=3))):
            with pytest.raises(UnboundExecutionError):
                await statement
        await add(tx, 4)
    assert await ids(database) == {1, 4}


async def test_options_of_a_connection_are_those_of_one_transaction(database: Database) -> None:
    async with database.transaction() as tx:
        await tx.connection(execution_options={"compiled_cache": None})
    async with database.transaction() as tx:
        connection = await tx.connection()
        assert connection.sync_connection is not None
        assert "compiled_cache" not in connection.sync_connection.get_execution_options()


async def test_cancelled_in_line_it_has_taken_nothing(database: Database) -> None:
    begun, release = asyncio.Event(), asyncio.Event()

    async def hold() -> None:
        async with database.transaction() as tx:
            await add(tx, 1)
            begun.set()
            await release.wait()

    async def write(number: int) -> None:
        async with database.transaction() as tx:
            await add(tx, number)

    async with Tasks() as tasks:
        holding = tasks.start(hold())
        await begun.wait()
        waiting = [tasks.start(write(number)) for number in (2, 3)]
        await asyncio.wait(waiting, timeout=0)
        waiting[0].cancel()
        release.set()
        await asyncio.wait([holding, *waiting])
    assert await ids(database) == {1, 3}
