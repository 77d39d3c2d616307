"""What a service keeps in its database, on PostgreSQL: kept answers, inbox, outbox, answers."""

import asyncio
from collections.abc import AsyncIterator
from typing import Annotated

import asyncpg
import httpx2
import pytest
from pydantic import BaseModel
from sqlalchemy import Column, Integer, MetaData, String, Table, insert, select

from seawall import (
    Database,
    Delivery,
    Event,
    Reject,
    Retry,
    RetryPolicy,
    Service,
    Transaction,
    Unavailable,
)
from seawall.testing.platform import Platform
from tests.support import servers
from tests.support.waiting import eventually

metadata = MetaData()
ROWS = Table("rows", metadata, Column("id", Integer, primary_key=True), Column("what", String(50)))


class Placed(Event, topic="order.placed"):
    number: int


class Order(BaseModel):
    number: int


class System:
    """The platform, a service with a database of its own, and an HTTP client of it."""

    def __init__(self, platform: Platform, url: str) -> None:
        self.platform = platform
        self.url = url
        self.service = Service("orders")
        self.database: Database = self.service.database(metadata=metadata, max_size=5)
        self.http = httpx2.AsyncClient(timeout=30)

    async def start(self) -> None:
        await self.platform.start(self.service)
        self.http.base_url = self.platform.url("orders")

    async def effects(self) -> list[str]:
        async with self.database.read() as session:
            rows = await session.execute(select(ROWS.c.what).order_by(ROWS.c.what))
            return list(rows.scalars())


@pytest.fixture
async def on_postgres(postgres: servers.Postgres, unique: str) -> AsyncIterator[System]:
    plain = postgres.url.replace("+asyncpg", "")
    admin = await asyncpg.connect(plain)
    await admin.execute(f'CREATE DATABASE "{unique}"')
    url = postgres.url.rpartition("/")[0] + f"/{unique}"
    async with Platform(databases={"orders": url}) as platform:
        system = System(platform, url)
        async with system.http:
            yield system
    await admin.execute(f'DROP DATABASE "{unique}"')
    await admin.close()


def _once(system: System) -> asyncio.Event:
    """`POST /orders`, which waits for the event returned before it ends."""
    release = asyncio.Event()
    release.set()

    @system.service.post("/orders", status_code=201, idempotent=True)
    async def place(order: Order, tx: Annotated[Transaction, system.database.tx]) -> Order:
        await tx.execute(insert(ROWS).values(what=f"order {order.number}"))
        await release.wait()
        if order.number == 500:
            raise RuntimeError("after the effect")
        if order.number == 503:
            raise Unavailable("somebody else is away")
        return order

    return release


async def test_duplicates_at_the_same_time_have_one_effect_and_one_answer(
    on_postgres: System,
) -> None:
    release = _once(on_postgres)
    await on_postgres.start()
    release.clear()
    key = {"idempotency-key": "k"}
    async with asyncio.TaskGroup() as tasks:
        posts = [
            tasks.create_task(on_postgres.http.post("/orders", json={"number": 1}, headers=key))
            for _ in range(3)
        ]
        await eventually(lambda: on_postgres.service.in_flight == 3)
        release.set()
    answers = [post.result() for post in posts]
    assert [answer.status_code for answer in answers] == [201] * 3
    assert [answer.json() for answer in answers] == [{"number": 1}] * 3
    assert sum("idempotency-replayed" in answer.headers for answer in answers) == 2
    assert await on_postgres.effects() == ["order 1"]


@pytest.mark.parametrize("number", [500, 503])
async def test_a_5xx_is_not_kept(on_postgres: System, number: int) -> None:
    _once(on_postgres)
    await on_postgres.start()
    for _ in range(2):
        answer = await on_postgres.http.post(
            "/orders", json={"number": number}, headers={"idempotency-key": "k"}
        )
        assert answer.status_code == number
        assert "idempotency-replayed" not in answer.headers
    assert await on_postgres.effects() == []


async def test_the_same_key_with_another_body_is_refused(on_postgres: System) -> None:
    _once(on_postgres)
    await on_postgres.start()
    key = {"idempotency-key": "k"}
    for number, status in ((1, 201), (2, 422), (1, 201)):
        answer = await on_postgres.http.post("/orders", json={"number": number}, headers=key)
        assert answer.status_code == status
    assert await on_postgres.effects() == ["order 1"]


async def test_a_duplicate_waits_for_one_that_fails_and_then_runs(on_postgres: System) -> None:
    entered: list[int] = []
    release = asyncio.Event()

    @on_postgres.service.post("/orders", idempotent=True)
    async def place(tx: Annotated[Transaction, on_postgres.database.tx]) -> int:
        entered.append(len(entered))
        await tx.execute(insert(ROWS).values(what="order"))
        if len(entered) == 1:
            await release.wait()
            raise RuntimeError("the first one fails")
        return len(entered)

    await on_postgres.start()
    key = {"idempotency-key": "k"}
    async with asyncio.TaskGroup() as tasks:
        first = tasks.create_task(on_postgres.http.post("/orders", headers=key))
        await eventually(lambda: len(entered) == 1)
        second = tasks.create_task(on_postgres.http.post("/orders", headers=key))
        await eventually(lambda: on_postgres.service.in_flight == 2)
        release.set()
    assert (first.result().status_code, second.result().status_code) == (500, 200)
    assert await on_postgres.effects() == ["order"]


async def test_a_handler_has_its_effect_and_publishes_once(on_postgres: System) -> None:
    service, attempts = on_postgres.service, []

    @service.on(Placed, retry=RetryPolicy(immediate=3, base=0.0))
    async def placed(event: Placed, tx: Transaction, message: Delivery) -> None:
        attempts.append(message.attempt)
        await tx.execute(insert(ROWS).values(what=f"placed {event.number}"))
        await service.publish("order.confirmed", {"number": event.number}, tx=tx)
        if message.attempt == 1:
            raise RuntimeError("after effect and outbox")
        if message.attempt == 2:
            raise Retry(after=0.0)

    await on_postgres.start()
    await on_postgres.platform.publish(Placed(number=1))
    await eventually(lambda: len(attempts) == 3)
    await on_postgres.platform.settle()
    (message,) = await on_postgres.platform.published(Placed)
    await on_postgres.platform.transport.publish("order.placed", [message.message])  # once more
    await on_postgres.platform.settle()
    assert attempts == [1, 2, 3]
    assert await on_postgres.effects() == ["placed 1"]
    confirmed = await on_postgres.platform.published("order.confirmed")
    assert [one.data for one in confirmed] == [{"number": 1}]


async def test_jobs_are_answered_in_the_transactions_of_their_handlers(
    on_postgres: System,
) -> None:
    @on_postgres.service.worker("charge", concurrency=5)
    async def charge(job: Order, tx: Transaction) -> dict[str, int]:
        await tx.execute(insert(ROWS).values(what=f"charged {job.number}"))
        if job.number % 2:
            raise Reject("odd")
        return {"charged": job.number}

    await on_postgres.start()
    sent = [
        await on_postgres.platform.send("charge", Order(number=n), reply_to="charged")
        for n in range(20)
    ]
    await on_postgres.platform.settle()
    answers = {
        answer.message.headers["ce-correlationid"]: (
            answer.message.headers["ce-outcome"],
            answer.data,
        )
        for answer in await on_postgres.platform.published("charged")
    }
    assert answers == {
        message_id: ("rejected", {"reason": "odd"}) if n % 2 else ("ok", {"charged": n})
        for n, message_id in enumerate(sent)
    }
    assert await on_postgres.effects() == sorted(f"charged {n}" for n in range(0, 20, 2))
    assert await on_postgres.platform.dead_letters() == []
