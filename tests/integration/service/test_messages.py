"""Events, queues, outbox, inbox and answers, through running services."""

import httpx2
import pytest
from pydantic import BaseModel
from sqlalchemy import Column, Integer, MetaData, String, Table, insert, select

from seawall import Delivery, Event, Reject, Retry, RetryPolicy, Service, Transaction
from seawall.errors import Misconfigured
from seawall.messaging.transports.memory import MemoryTransport
from seawall.telemetry import tracing
from seawall.testing.platform import Platform
from tests.support.waiting import eventually

metadata = MetaData()
ROWS = Table("rows", metadata, Column("id", Integer, primary_key=True), Column("what", String(50)))


class Placed(Event, topic="order.placed"):
    number: int


class Job(BaseModel):
    number: int


async def test_an_event_reaches_each_group_once(system: Platform) -> None:
    one, two, seen = Service("one"), Service("two"), []

    @one.on(Placed)
    async def first(event: Placed) -> None:
        seen.append(("one", event.number))

    @two.on("order.placed")
    async def second(event: Job) -> None:
        seen.append(("two", event.number))

    await system.start(one, two)
    await system.publish(Placed(number=7))
    await system.settle()
    assert sorted(seen) == [("one", 7), ("two", 7)]


async def test_its_groups_exist_before_it_publishes(system: Platform) -> None:
    """A broker that keeps nothing for later groups would lose what is published before."""
    service, groups = Service("orders"), []

    @service.on(Placed)
    async def placed(event: Placed) -> None:
        pass

    @service.on_start
    def look() -> None:
        assert service.life is not None
        assert isinstance(service.life.transport, MemoryTransport)
        groups.extend(service.life.transport._broker.topic("order.placed").groups)

    await system.start(service)
    assert groups == ["orders"]


async def test_published_with_a_transaction_or_not_at_all(system: Platform) -> None:
    service = Service("orders")
    database = service.database(metadata=metadata)

    @service.post("/orders/{number}")
    async def place(number: int) -> None:
        async with database.transaction() as tx:
            await tx.execute(insert(ROWS).values(id=number, what="order"))
            await service.publish(Placed(number=number), tx=tx)
            if number == 13:
                raise RuntimeError("after writing, before committing")

    await system.start(service)
    client = system.client("orders")
    assert (await client.post("/orders/1")).status == 200
    assert (await client.post("/orders/13")).status == 500
    await system.settle()
    assert [one.data for one in await system.published(Placed)] == [{"number": 1}]
    async with database.read() as session:
        assert (await session.execute(select(ROWS.c.id))).scalars().all() == [1]


async def test_a_redelivered_message_has_its_effect_once(system: Platform) -> None:
    service, calls = Service("orders"), []
    database = service.database(metadata=metadata)

    @service.on(Placed, retry=RetryPolicy(base=0.0))
    async def placed(event: Placed, tx: Transaction, delivery: Delivery) -> None:
        calls.append(delivery.attempt)
        await tx.execute(insert(ROWS).values(what="effect"))
        if delivery.attempt == 1:
            raise RuntimeError("after the effect")

    await system.start(service)
    message_id = await system.publish(Placed(number=1))
    await eventually(lambda: len(calls) == 2)
    await system.settle()
    again = (await system.published(Placed))[0].message
    assert again.id == message_id
    await system.transport.publish("order.placed", [again])
    await system.settle()
    assert calls == [1, 2]
    async with database.read() as session:
        assert len((await session.execute(select(ROWS))).all()) == 1


async def test_a_job_is_answered_in_the_transaction_of_its_handler(system: Platform) -> None:
    service = Service("payments")
    service.database(metadata=metadata)

    @service.worker("charge")
    async def charge(job: Job, tx: Transaction) -> dict[str, int]:
        if job.number < 0:
            await tx.execute(insert(ROWS).values(what="must not stay"))
            raise Reject("a negative amount")
        return {"charged": job.number}

    await system.start(service)
    good = await system.send("charge", Job(number=5), reply_to="charged")
    bad = await system.send("charge", Job(number=-5), reply_to="charged")
    await system.settle()
    answers = {
        answer.message.headers["ce-correlationid"]: (
            answer.message.headers["ce-outcome"],
            answer.data,
        )
        for answer in await system.published("charged")
    }
    assert answers == {
        good: ("ok", {"charged": 5}),
        bad: ("rejected", {"reason": "a negative amount"}),
    }
    assert await system.dead_letters() == []


async def test_a_job_is_answered_without_a_database_too(system: Platform) -> None:
    service = Service("payments")

    @service.worker("charge")
    async def charge(job: Job) -> int:
        if job.number < 0:
            return Reject("no")  # type: ignore[return-value]  # returned is as good as raised
        return job.number

    await system.start(service)
    await system.send("charge", Job(number=5), reply_to="charged")
    await system.send("charge", Job(number=-5), reply_to="charged")
    await system.settle()
    assert sorted(str(answer.data) for answer in await system.published("charged")) == [
        "5",
        "{'reason': 'no'}",
    ]


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b'{"number": NaN}', b'{"number": "x"}', b"\xff\xfe", b'{"number":"\\ud800"}'],
)
async def test_what_cannot_be_read_is_a_dead_letter_at_once_and_the_queue_goes_on(
    system: Platform, body: bytes
) -> None:
    service, seen = Service("orders"), []

    @service.on(Placed)
    async def placed(event: Placed) -> None:
        seen.append(event.number)

    await system.start(service)
    await system.publish(Placed(number=1))
    message = (await system.published(Placed))[0].message
    bad = type(message)(id="bad", body=body, headers=message.headers)
    await system.transport.publish("order.placed", [bad])
    await system.publish(Placed(number=2))
    await system.settle()
    assert sorted(seen) == [1, 2]
    letters = await system.dead_letters()
    assert [(letter.reason, letter.message.body) for letter in letters] == [("undecodable", body)]


async def test_retry_and_reject(system: Platform) -> None:
    service, seen = Service("orders"), []

    @service.on(Placed)
    async def placed(event: Placed, message: Delivery) -> Retry | None:
        seen.append((event.number, message.attempt))
        if event.number == 2:
            raise Reject("never")
        return Retry(after=0.0) if message.attempt == 1 else None

    await system.start(service)
    await system.publish(Placed(number=1))
    await system.publish(Placed(number=2))
    await eventually(lambda: len(seen) == 3)
    await system.settle()
    assert sorted(seen) == [(1, 1), (1, 2), (2, 1)]
    assert [letter.reason for letter in await system.dead_letters()] == ["rejected"]


async def test_the_trace_goes_from_request_to_message_to_handler(system: Platform) -> None:
    service, seen = Service("orders"), []
    trace_id = "4bf92f3577b34da6a3ce929d0e0e4736"

    @service.post("/orders")
    async def place() -> None:
        await service.publish(Placed(number=1))

    @service.on(Placed)
    async def placed(event: Placed, message: Delivery) -> None:
        seen.append((message.message.headers["ce-traceparent"], tracing.current()))

    await system.start(service)
    async with httpx2.AsyncClient(base_url=system.url("orders"), timeout=30) as http:
        given = {"traceparent": f"00-{trace_id}-00f067aa0ba902b7-01"}
        assert (await http.post("/orders", headers=given)).status_code == 200
    await system.settle()
    (carried, running) = seen[0]
    assert carried.split("-")[1] == trace_id
    assert running is not None
    assert running.trace_id == trace_id
    assert running.span_id not in carried


async def test_a_handler_that_wants_what_nobody_gives_is_refused_at_start() -> None:
    service = Service("orders")

    @service.on(Placed)
    async def placed(event: Placed, tx: Transaction) -> None: ...

    with pytest.raises(Misconfigured, match="wants a transaction"):
        async with Platform() as system:
            await system.start(service)
