"""`Idempotency-Key` on SQLite and PostgreSQL: bound, waited for, forgotten, and kill -9."""

import asyncio
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Annotated

import asyncpg
import httpx2
import pytest
from pydantic import BaseModel
from sqlalchemy import Column, Integer, MetaData, Table, func, insert, select, update

from seawall import Idempotency, Service, Transaction
from seawall.errors import Misconfigured
from seawall.service import routes
from seawall.testing.platform import Platform
from tests.support.waiting import eventually

metadata = MetaData()
ROWS = Table("rows", metadata, Column("id", Integer, primary_key=True), Column("n", Integer))

KEY = {"idempotency-key": "k"}


class Item(BaseModel):
    n: int


class Stage:
    """A service on one database, a client of it, and the event its slow route waits for."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.service = Service("orders")
        self.database = self.service.database(metadata=metadata)
        self.http = httpx2.AsyncClient(timeout=30)
        self.entered = 0
        self.release = asyncio.Event()
        database = self.database

        @self.service.post("/brief", idempotent=Idempotency(kept_for=0.001))
        async def brief(item: Item, tx: Annotated[Transaction, database.tx]) -> int:
            await tx.execute(insert(ROWS).values(n=item.n))
            return item.n

        @self.service.post("/small", idempotent=Idempotency(max_body=10))
        async def small(item: Item, tx: Annotated[Transaction, database.tx]) -> str:
            await tx.execute(insert(ROWS).values(n=item.n))
            return "x" * item.n

        @self.service.post("/slow", idempotent=Idempotency(wait=0.1))
        async def slow(item: Item, tx: Annotated[Transaction, database.tx]) -> int:
            self.entered += 1
            await tx.execute(insert(ROWS).values(n=item.n))
            await self.release.wait()
            return item.n

    async def effects(self) -> int:
        async with self.database.read() as session:
            return int(await session.scalar(select(func.count()).select_from(ROWS)) or 0)


@pytest.fixture(params=["sqlite", "postgres"])
async def stage(
    request: pytest.FixtureRequest, tmp_path: Path, unique: str
) -> AsyncIterator[Stage]:
    url = f"sqlite+aiosqlite:///{tmp_path}/orders.db"
    if request.param == "postgres":
        server = request.getfixturevalue("postgres")
        own = unique.replace("-", "_")[-60:].strip("_")
        admin = await asyncpg.connect(server.url.replace("+asyncpg", ""))
        await admin.execute(f'create database "{own}"')
        await admin.close()
        url = server.url.rsplit("/", 1)[0] + f"/{own}"
    stage = Stage(url)
    async with Platform(databases={"orders": url}) as platform, stage.http:
        await platform.start(stage.service)
        stage.http.base_url = platform.url("orders")
        yield stage


async def test_a_key_is_new_again_when_its_answer_is_not_kept_any_more(stage: Stage) -> None:
    for n in (1, 2):
        answer = await stage.http.post("/brief", json={"n": n}, headers=KEY)
        assert (answer.status_code, answer.json()) == (200, n)
        assert "idempotency-replayed" not in answer.headers
    assert await stage.effects() == 2


async def test_what_is_not_kept_any_more_is_deleted_and_the_rest_stays(stage: Stage) -> None:
    for n in range(3):
        await stage.http.post("/brief", json={"n": n}, headers={"idempotency-key": f"k{n}"})
    async with stage.database.transaction() as tx:
        await tx.execute(update(routes.KEPT).where(routes.KEPT.c.key == "k2").values(until=1e12))
    await routes.forget(stage.database)
    async with stage.database.read() as session:
        assert list(await session.scalars(select(routes.KEPT.c.key))) == ["k2"]


async def test_an_answer_that_is_too_long_to_keep_undoes_its_effects(stage: Stage) -> None:
    assert (await stage.http.post("/small", json={"n": 8}, headers=KEY)).status_code == 200
    other = {"idempotency-key": "l"}
    assert (await stage.http.post("/small", json={"n": 9}, headers=other)).status_code == 500
    assert await stage.effects() == 1
    assert (await stage.http.post("/small", json={"n": 9})).status_code == 200


async def test_a_repetition_does_not_wait_for_ever(stage: Stage) -> None:
    async with asyncio.TaskGroup() as tasks:
        first = tasks.create_task(stage.http.post("/slow", json={"n": 1}, headers=KEY))
        await eventually(lambda: stage.entered == 1)
        again = await stage.http.post("/slow", json={"n": 1}, headers=KEY)
        on_sqlite = stage.url.startswith("sqlite")
        assert again.status_code == (503 if on_sqlite else 409)
        assert again.headers["retry-after"] == "1"
        stage.release.set()
    assert first.result().status_code == 200
    last = await stage.http.post("/slow", json={"n": 1}, headers=KEY)
    assert (last.status_code, last.headers["idempotency-replayed"]) == (200, "true")
    assert (stage.entered, await stage.effects()) == (1, 1)


DYING = """
import asyncio, sys
from seawall.service import routes
from seawall.service.database import Database, PoolSize
from tests.integration.service.test_idempotency import ROWS, insert

async def main(url, digest):
    database = Database("orders", url, PoolSize())
    await database.open()
    async with database.transaction() as tx:
        place = {"caller": "", "route": "POST /brief", "key": "k"}
        assert await routes._claim(tx, place, digest, 3600.0)
        await tx.execute(insert(ROWS).values(n=1))
        print("claimed", flush=True)
        await asyncio.Event().wait()

asyncio.run(main(*sys.argv[1:]))
"""


async def test_kill_9_in_the_middle_leaves_the_key_usable(stage: Stage) -> None:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", DYING, stage.url, "digest"), stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    assert await process.stdout.readline() == b"claimed\n"
    process.kill()
    await process.wait()
    answer = await stage.http.post("/brief", json={"n": 1}, headers=KEY)
    assert answer.status_code == 200
    assert "idempotency-replayed" not in answer.headers
    assert await stage.effects() == 1


@pytest.mark.parametrize("wrong", [{"kept_for": 0.0}, {"wait": -1.0}, {"max_body": 0}])
def test_bounds_are_above_nothing(wrong: dict[str, float]) -> None:
    with pytest.raises(Misconfigured):
        Idempotency(**wrong)  # type: ignore[arg-type]  # one of them is an int
