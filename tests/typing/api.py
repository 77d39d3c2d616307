"""The public API as its users type it: never run, only type-checked."""

from datetime import UTC, datetime
from typing import Annotated, assert_type

from pydantic import BaseModel

from seawall import (
    Caller,
    Client,
    Database,
    Delivery,
    Event,
    Identity,
    Ordered,
    Reject,
    Response,
    Retry,
    RetryPolicy,
    Service,
    Tick,
    Transaction,
    requires,
)


class Stock(BaseModel):
    left: int


class Placed(Event, topic="order.placed"):
    order_id: str


orders = Service("orders", version="1.2.0", needs=["stock"])
database = orders.database(min_size=2, max_size=10)
stock = orders.client("stock", version="^2", timeout=0.8)
assert_type(database, Database)
assert_type(stock, Client)


@orders.on_start
async def warm_up() -> None:
    assert_type(await stock.get("/items"), Response)
    assert_type(await stock.get("/items", returns=Stock), Stock)
    assert_type(await stock.get("/items", params={"q": 1}, returns=list[Stock]), list[Stock])
    assert_type(await stock.post("/items", Stock(left=1)), Response)
    assert_type(await stock.post("/items", {"a": 1}, returns=Stock, idempotency_key="k"), Stock)
    assert_type((await stock.get("/items")).json(Stock), Stock)


@orders.on(Placed, retry=RetryPolicy(attempts=3))
async def placed(event: Placed, tx: Transaction, message: Delivery) -> Retry | None:
    await orders.publish(Placed(order_id="a"), tx=tx, key="a")
    await orders.publish("order.seen", {"id": event.order_id}, delay=5)
    if message.attempt > 2:
        raise Reject("enough")
    return Retry(after=1.0)


@orders.worker("mail", concurrency=4)
async def mail(job: Stock) -> int:
    assert_type(await orders.send("mail", job, reply_to="mailed"), str)
    return job.left


@orders.on(Placed, group="counting", batch=100, linger=0.1, rate=50.0)
async def counted(events: list[Placed]) -> list[Exception | None]:
    return [None for _ in events]


@orders.on(Placed, group="in-order", ordered=Ordered(then="skip"))
async def in_order(event: Placed) -> None:
    await orders.publish(event, at=datetime.now(UTC))
    assert_type(await orders.request("stock", event, reply=Stock, timeout=1.0), Stock)


@orders.schedule("*/5 * * * *", zone="Europe/Berlin", missed="once")
async def often(tick: Tick) -> None:
    assert_type(tick.at, datetime)


@orders.check("printer", needed=True)
def printer() -> bool:
    return True


async def place(
    caller: Caller,
    admin: Annotated[Identity, requires("admin")],
    tx: Annotated[Transaction, database.tx],
) -> str:
    assert_type(caller.subject, str)
    return admin.subject


async def transactions() -> None:
    async with database.transaction() as tx, database.read() as session:
        assert_type(tx, Transaction)
        assert_type(session, Transaction)
