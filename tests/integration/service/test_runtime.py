"""How handlers are run, through running services: batches, order, pauses, times, answers."""

import asyncio
from datetime import UTC, datetime, timedelta

import httpx2
import pytest
from pydantic import BaseModel
from sqlalchemy import Column, Integer, MetaData, Table, insert, select

from seawall import Delivery, Event, Reject, RetryPolicy, Service, Tick, Transaction
from seawall.clock import SYSTEM
from seawall.errors import DeadlineExceeded, Misconfigured, OutcomeUnknown, Refused
from seawall.messaging.base import Caps, Durability, Subscription
from seawall.messaging.transports import memory
from seawall.resilience.breaker import BreakerConfig
from seawall.service.requests import ReplyDropped
from seawall.testing.platform import Platform
from tests.support.servers import RespServer
from tests.support.waiting import eventually, eventually_async

metadata = MetaData()
ROWS = Table("counted", metadata, Column("id", Integer, primary_key=True), Column("n", Integer))

AT_ONCE = RetryPolicy(base=0.0, cap=0.0)


class Placed(Event, topic="order.placed"):
    number: int


class Price(BaseModel):
    cents: int


# Batches


async def test_a_batch_handler_is_given_what_could_be_read(system: Platform) -> None:
    service, batches = Service("orders"), []

    @service.on(Placed, batch=10, linger=0.2)
    async def placed(events: list[Placed], messages: list[Delivery]) -> None:
        assert len(events) == len(messages)
        batches.append([event.number for event in events])

    await system.start(service)
    await asyncio.gather(*(system.publish(Placed(number=n)) for n in range(9)))
    await system.publish("order.placed", {"number": "x"})
    await system.settle()
    assert sorted(n for batch in batches for n in batch) == list(range(9))
    assert [letter.reason for letter in await system.dead_letters()] == ["undecodable"]


async def test_one_bad_event_does_not_fail_its_batch_nor_its_transaction(system: Platform) -> None:
    service, calls = Service("orders"), []
    database = service.database(metadata=metadata)

    @service.on(Placed, batch=10, linger=0.2, retry=RetryPolicy(attempts=2, base=0.0, cap=0.0))
    async def placed(events: list[Placed], tx: Transaction) -> None:
        calls.append(len(events))
        for event in events:
            await tx.execute(insert(ROWS).values(n=event.number))
            if event.number == 3:
                raise RuntimeError("three")

    await system.start(service)
    await asyncio.gather(*(system.publish(Placed(number=n)) for n in range(5)))
    await eventually_async(lambda: _dead(system, 1))
    await system.settle()
    async with database.read() as session:
        rows = (await session.execute(select(ROWS.c.n))).scalars().all()
    assert sorted(rows) == [0, 1, 2, 4]
    assert [letter.reason for letter in await system.dead_letters()] == ["exhausted"]


async def _dead(system: Platform, count: int) -> bool:
    return len(await system.dead_letters()) == count


async def test_outcomes_of_a_batch_are_those_of_its_messages(system: Platform) -> None:
    service = Service("orders")

    @service.on(Placed, batch=5, linger=0.2)
    async def placed(events: list[Placed]) -> list[Exception | None]:
        return [Reject("odd") if event.number % 2 else None for event in events]

    await system.start(service)
    await asyncio.gather(*(system.publish(Placed(number=n)) for n in range(5)))
    await system.settle()
    assert [letter.reason for letter in await system.dead_letters()] == ["rejected"] * 2


def not_async(events: list[Placed]) -> None: ...
async def single(event: Placed) -> None: ...
async def of_deliveries(messages: list[Delivery]) -> None: ...
async def too_much(events: list[Placed], more: int) -> None: ...
async def in_transaction(events: list[Placed], tx: Transaction) -> None: ...


@pytest.mark.parametrize(
    ("function", "says"),
    [
        *((single, "does not say of what"), (of_deliveries, "does not say of what")),
        (not_async, "no coroutine"),
        *((too_much, "wants more"), (in_transaction, "wants a transaction")),
    ],
)
async def test_what_is_no_batch_handler_is_refused_at_start(function: object, says: str) -> None:
    service = Service("orders")
    service.on(Placed, batch=5)(function)  # type: ignore[type-var]
    with pytest.raises(Misconfigured, match=says):
        async with Platform() as system:
            await system.start(service)


# Order and pauses


async def test_events_of_a_key_are_handled_in_their_order(system: Platform) -> None:
    service, seen = Service("orders"), []

    @service.on(Placed, ordered=True, retry=AT_ONCE)
    async def placed(event: Placed, message: Delivery) -> None:
        if event.number == 1 and message.attempt < 3:
            raise RuntimeError("not yet")
        seen.append((message.message.key, event.number))

    await system.start(service)
    for number in range(6):
        await system.publish(Placed(number=number), key="even" if number % 2 == 0 else "odd")
    await system.settle()
    assert [number for key, number in seen if key == "odd"] == [1, 3, 5]
    assert [number for key, number in seen if key == "even"] == [0, 2, 4]


async def test_paused_consumption_is_told_and_leaves_the_replica_ready(system: Platform) -> None:
    service = Service("orders")
    breaker = BreakerConfig(consecutive_failures=2, failure_rate=None, open_for=60)

    @service.on(Placed, breaker=breaker, retry=RetryPolicy(base=60, immediate=0))
    async def placed(event: Placed) -> None:
        raise ConnectionError("gone")

    await system.start(service)
    for number in range(4):
        await system.publish(Placed(number=number))
    await eventually(lambda: bool(service.life and service.life.paused))
    async with httpx2.AsyncClient(base_url=system.url("orders"), timeout=30) as http:
        ready = await http.get("/readyz")
        assert ready.status_code == 200
        assert "order.placed/orders is paused" in ready.text
        health = (await http.get("/health")).json()
        assert health["checks"]["messages are handled"]["status"] == "warn"
        metrics = (await http.get("/metrics")).text
    assert 'seawall_consumer_paused{group="orders",queue="order.placed"} 1' in metrics
    assert 'seawall_consumer_pauses_total{group="orders",queue="order.placed"} 1' in metrics


async def test_a_replica_that_gets_nothing_is_not_ready_and_says_why(system: Platform) -> None:
    service = Service("orders")
    service.on(Placed)(single)
    await system.start(service)
    assert service.life is not None
    (consumer,) = service.life.consumers
    consumer._watchdog.stalled = 7
    async with httpx2.AsyncClient(base_url=system.url("orders"), timeout=30) as http:
        ready = await http.get("/readyz")
    assert ready.status_code == 503
    assert "order.placed/orders: 7 messages wait, and none comes" in ready.text


# Times


async def test_a_message_is_delivered_at_its_time(system: Platform) -> None:
    service, seen = Service("orders"), []

    @service.on(Placed)
    async def placed(event: Placed) -> None:
        seen.append((event.number, SYSTEM.wall()))

    await system.start(service)
    due = datetime.now(UTC) + timedelta(seconds=0.3)
    await service.publish(Placed(number=1), at=due)
    await service.publish(Placed(number=2))
    await eventually(lambda: len(seen) == 2)
    assert [number for number, _ in seen] == [2, 1]
    assert seen[1][1] >= due.timestamp() - 0.001


class NoDelay(memory.MemoryTransport):
    @property
    def caps(self) -> Caps:
        return Caps(
            durability=Durability.NONE,
            ordered=False,
            native_delay=False,
            replay=True,
            max_body=9999,
        )


async def test_a_broker_that_holds_nothing_back_has_the_outbox_do_it(system: Platform) -> None:
    plain, stored = Service("plain"), Service("stored")
    stored.database(metadata=metadata)
    await system.start(plain, stored)
    for service in (plain, stored):
        assert service.life is not None
        service.life.transport = NoDelay()
        await service.life.transport.open()
    await plain.publish(Placed(number=1), delay=60)
    assert await plain.settled()
    await stored.publish(Placed(number=1), delay=60)
    assert not await stored.settled()
    assert await system.published(Placed) == []


async def test_a_schedule_fires(system: Platform) -> None:
    service = Service("reports")
    seen: list[tuple[str, datetime]] = []

    @service.schedule(every=1)
    async def often(tick: Tick) -> None:
        seen.append((tick.schedule, tick.at))

    await system.start(service)
    await eventually(lambda: len(seen) >= 2)
    assert {name for name, _ in seen} == {"reports.often"}
    assert len({at for _, at in seen}) == len(seen)


# Answers


def pricing() -> Service:
    service = Service("pricing")

    @service.worker("price", retry=AT_ONCE)
    async def price(sku: str) -> Price | str:
        if sku == "unknown":
            raise Reject("no such article")
        if sku == "slow":
            await SYSTEM.sleep(0.2)
        return "dear" if sku == "odd" else Price(cents=len(sku))

    return service


async def test_a_request_is_answered(system: Platform) -> None:
    orders = Service("orders")
    await system.start(pricing(), orders)
    answers = await asyncio.gather(
        *(orders.request("price", "x" * n, reply=Price) for n in range(1, 20))
    )
    assert [answer.cents for answer in answers] == list(range(1, 20))


async def test_errors_of_a_request_say_what_may_be_done(system: Platform) -> None:
    orders = Service("orders")
    await system.start(pricing(), orders)
    with pytest.raises(Refused, match="no such article"):
        await orders.request("price", "unknown", reply=Price)
    with pytest.raises(Refused, match="body"):
        await orders.request("price", {"not": "a text"}, reply=Price)
    with pytest.raises(OutcomeUnknown, match="is no Price"):
        await orders.request("price", "odd", reply=Price)
    with pytest.raises(DeadlineExceeded):
        await orders.request("price", "slow", reply=Price, timeout=0.05)
    with pytest.raises(Misconfigured, match="is not running"):
        await Service("nobody").request("price", "x", reply=Price)


async def test_a_late_answer_is_dropped_and_counted(system: Platform) -> None:
    orders = Service("orders")
    facts: list[object] = []
    orders.observe(facts.append)
    await system.start(orders)
    asked = Subscription("price", "test")
    await system.transport.provision([asked])
    with pytest.raises(DeadlineExceeded):
        await orders.request("price", "x", reply=Price, timeout=0.2)
    (request,) = await system.transport.fetch(asked, 1, wait=1, lease=30)
    headers = request.message.headers
    assert float(headers["ce-expires"]) == pytest.approx(SYSTEM.wall(), abs=5)
    answer = type(request.message)(
        "late", b"1", {"ce-correlationid": request.message.id, "ce-outcome": "ok"}
    )
    await system.transport.publish(headers["ce-replyto"], [answer])
    await eventually(lambda: any(isinstance(fact, ReplyDropped) for fact in facts))


async def test_the_runtime_works_on_valkey(valkey: RespServer, unique: str) -> None:
    orders, seen, ticks = Service("orders"), [], []
    separator = "&" if "?" in valkey.url else "?"
    registry = f"{valkey.url}{separator}namespace={unique}"
    topic, queue = f"{unique}.placed", f"{unique}.price"

    @orders.on(topic, batch=10, linger=0.1)
    async def placed(events: list[Placed]) -> None:
        seen.extend(event.number for event in events)

    @orders.worker(queue, ordered=True)
    async def price(sku: str) -> Price:
        return Price(cents=len(sku))

    @orders.schedule(every=1, name=unique)
    async def tick() -> None:
        ticks.append(1)

    async with Platform(registry=registry, messages=valkey.url) as system:
        await system.start(orders)
        for number in range(5):
            await orders.publish(topic, Placed(number=number), delay=0.05 * (number % 2))
        assert await orders.request(queue, "abc", reply=Price, key="k") == Price(cents=3)
        await eventually(lambda: sorted(seen) == list(range(5)) and bool(ticks))
