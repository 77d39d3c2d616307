"""The inbox on SQLite and PostgreSQL: a message's effect happens once."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, create_async_engine
from sqlalchemy.pool import NullPool

from seawall.messaging import outbox
from seawall.messaging.base import Message
from seawall.messaging.inbox import first_time, forget
from seawall.messaging.tables import inbox, metadata
from seawall.messaging.tables import outbox as outbox_table
from seawall.testing.clock import ManualClock


@pytest.fixture(params=["sqlite", "postgres"])
async def engine(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[AsyncEngine]:
    if request.param == "sqlite":
        engine = create_async_engine(f"sqlite+aiosqlite:///{tmp_path / 'inbox.db'}")
    else:
        server = request.getfixturevalue("postgres")
        engine = create_async_engine(server.url, poolclass=NullPool)
    async with engine.begin() as connection:
        await connection.run_sync(metadata.drop_all)
        await connection.run_sync(metadata.create_all)
    yield engine
    await engine.dispose()


async def test_only_the_first_time_is_first(engine: AsyncEngine) -> None:
    async with AsyncSession(engine) as session, session.begin():
        assert await first_time(session, "g", "m")
        assert not await first_time(session, "g", "m")
    async with AsyncSession(engine) as session, session.begin():
        assert not await first_time(session, "g", "m")


async def test_groups_and_messages_are_told_apart(engine: AsyncEngine) -> None:
    async with AsyncSession(engine) as session, session.begin():
        assert await first_time(session, "g", "m")
        assert await first_time(session, "h", "m")
        assert await first_time(session, "g", "n")


async def test_a_rolled_back_effect_may_happen_again(engine: AsyncEngine) -> None:
    async with AsyncSession(engine) as session:
        assert await first_time(session, "g", "m")
        await session.rollback()
    async with AsyncSession(engine) as session, session.begin():
        assert await first_time(session, "g", "m")


async def test_concurrent_deliveries_have_one_effect(engine: AsyncEngine) -> None:
    async def handle() -> bool:
        async with AsyncSession(engine) as session, session.begin():
            first = await first_time(session, "g", "m")
            if first:
                await outbox.write(session, "effects", Message("effect", b""))
            return first

    outcomes = await asyncio.gather(*(handle() for _ in range(8)))
    assert sorted(outcomes) == [False] * 7 + [True]
    async with engine.connect() as connection:
        count = select(func.count()).select_from(outbox_table)
        assert (await connection.execute(count)).scalar_one() == 1


async def test_old_messages_are_forgotten_in_chunks(engine: AsyncEngine) -> None:
    clock = ManualClock()
    async with engine.begin() as connection:
        old = [{"group_name": "g", "message_id": str(n), "at": clock.wall()} for n in range(2_500)]
        await connection.execute(inbox.insert(), old)
    clock.advance(100)
    async with AsyncSession(engine) as session, session.begin():
        assert await first_time(session, "g", "young", clock=clock)
    assert await forget(engine, older_than=99, clock=clock) == 2_500
    assert await forget(engine, older_than=99, clock=clock) == 0
    async with AsyncSession(engine) as session, session.begin():
        assert not await first_time(session, "g", "young", clock=clock)
        assert await first_time(session, "g", "0", clock=clock)
