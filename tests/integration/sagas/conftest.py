from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import pytest

from seawall.messaging.tables import metadata
from seawall.service.database import Database, PoolSize


@pytest.fixture(params=["sqlite", "postgres"])
async def database_url(
    request: pytest.FixtureRequest, tmp_path: Path, unique: str
) -> AsyncIterator[str]:
    """A database of this test's own."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path}/orders.db"
        return
    server = request.getfixturevalue("postgres")
    own = unique.replace("-", "_")[-60:].strip("_")
    admin = await asyncpg.connect(server.url.replace("+asyncpg", ""))
    await admin.execute(f'create database "{own}"')
    await admin.close()
    yield server.url.rsplit("/", 1)[0] + f"/{own}"


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    opened = Database("orders", database_url, PoolSize(min_size=0, max_size=5))
    opened.add_tables(metadata)
    await opened.open()
    yield opened
    await opened.close()
