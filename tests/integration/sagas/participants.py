"""A process to be killed: carries sagas out and takes part in them.

`python participants.py DATABASE_URL MESSAGES_URL STEP_TIMEOUT`. Any number of these share one
database and one broker. Leases are short, so that what a dead one held is soon another's.
"""

import asyncio
import sys
from collections.abc import Callable
from contextlib import AsyncExitStack
from typing import Any

import sqlalchemy as sa
import uvloop
from pydantic import BaseModel
from sqlalchemy.ext.asyncio import AsyncSession

from seawall.concurrency.tasks import Tasks
from seawall.facts import Observer, ignore
from seawall.messaging import tables
from seawall.messaging.base import Message, Subscription
from seawall.messaging.connect import open_transport
from seawall.messaging.consumer import Consumer, ConsumerConfig
from seawall.messaging.outcomes import Reject
from seawall.messaging.policy import RetryPolicy
from seawall.messaging.relay import Relay, RelayConfig
from seawall.sagas.engine import Flow
from seawall.sagas.host import Operation
from seawall.sagas.saga import Patience, Saga, Step
from seawall.service.database import Database, PoolSize
from seawall.service.handlers import Declared, MessageHandler

metadata = sa.MetaData()

# One row for each order and participant: what it did. Undoing before doing leaves a row too.
DEEDS = sa.Table(
    "deeds",
    metadata,
    sa.Column("order_id", sa.String(40), primary_key=True),
    sa.Column("name", sa.String(40), primary_key=True),
    sa.Column("state", sa.String(10)),
)
# Every time a command was carried out, with nothing that would keep it from happening twice.
EFFECTS = sa.Table(
    "effects",
    metadata,
    sa.Column("order_id", sa.String(40)),
    sa.Column("name", sa.String(40)),
    sa.Column("amount", sa.Integer),
)


class Order(BaseModel):
    order_id: str
    broke: bool = False


def order_saga(timeout: float) -> Saga[Order]:
    def step(name: str, **more: Any) -> Step[Order]:
        return Step(name=name, command=f"do.{name}", ask=lambda o: o, timeout=timeout, **more)

    return Saga(
        "order",
        Order,
        [
            step("reserve", compensation="undo.reserve"),
            step("charge", compensation="undo.charge", pivot=True),
            step("confirm"),
        ],
        patience=Patience(base=0.1, cap=0.5, stuck_after=1000),
    )


async def do(tx: AsyncSession, name: str, order: Order) -> None:
    here = (DEEDS.c.order_id == order.order_id) & (DEEDS.c.name == name)
    state = await tx.scalar(sa.select(DEEDS.c.state).where(here))
    if state == "undone":
        raise Reject("it was undone before it was done")
    if name == "charge" and order.broke:
        raise Reject("card declined")
    if state is None:
        await tx.execute(DEEDS.insert().values(order_id=order.order_id, name=name, state="done"))
    amount = 1 if state is None else 0  # asked for again under another id: it is done already
    await tx.execute(EFFECTS.insert().values(order_id=order.order_id, name=name, amount=amount))


async def undo(tx: AsyncSession, name: str, order: Order) -> None:
    here = (DEEDS.c.order_id == order.order_id) & (DEEDS.c.name == name)
    state = await tx.scalar(sa.select(DEEDS.c.state).where(here).with_for_update())
    if state is None:
        await tx.execute(DEEDS.insert().values(order_id=order.order_id, name=name, state="undone"))
    elif state == "done":
        await tx.execute(DEEDS.update().where(here).values(state="undone"))
        await tx.execute(EFFECTS.insert().values(order_id=order.order_id, name=name, amount=-1))


class Host:
    """As much of a service as a flow needs."""

    name = "orders"
    observer: Observer = staticmethod(ignore)

    def __init__(self) -> None:
        self.declared: list[Declared] = []
        self.work: list[Callable[[], Any]] = []

    def worker(self, queue: str, /, **_: object) -> Callable[[Any], object]:
        def declare(function: Any) -> object:
            self.declared.append(
                Declared(
                    function=function,
                    subscription=Subscription(queue, "workers"),
                    config=ConsumerConfig(concurrency=4, lease=1.0, wait=0.5),
                    retry=RetryPolicy(attempts=100_000, base=0.05, cap=0.5),
                )
            )
            return function

        return declare

    def publishes(self, topic: str, model: type | None, /) -> object:
        """Nobody asks this host for its contract."""

    def background(self, work: Callable[[], Any], /) -> object:
        self.work.append(work)
        return work

    def offer(self, name: str, operation: Operation, /) -> Operation:
        del name
        return operation


def take_part(host: Host, name: str) -> None:
    async def done(order: Order, tx: AsyncSession) -> Order:
        await do(tx, name, order)
        return order

    async def undone(order: Order, tx: AsyncSession) -> Order:
        await undo(tx, name, order)
        return order

    host.worker(f"do.{name}")(done)
    host.worker(f"undo.{name}")(undone)


async def main(database_url: str, messages_url: str, step_timeout: str) -> None:
    host = Host()
    database = Database("orders", database_url, PoolSize(min_size=1, max_size=8))
    for added in (tables.metadata, metadata):
        database.add_tables(added)
    Flow.attach(host, database, order_saga(float(step_timeout)))
    for name in ("reserve", "charge", "confirm"):
        take_part(host, name)
    await database.open()
    transport = open_transport(messages_url)
    await transport.open()

    async def publish(topic: str, message: Message) -> None:
        await transport.publish(topic, [message])

    async with AsyncExitStack() as stack, Tasks() as tasks:
        config = RelayConfig(claim=1.0, sweep=0.2)
        await stack.enter_async_context(Relay(database.engine, transport, config=config))
        for declared in host.declared:
            consumer = Consumer(
                transport,
                declared.subscription,
                MessageHandler("orders", declared, database, publish),
                config=declared.config,
                retry=declared.retry,
            )
            await stack.enter_async_context(consumer)
        for work in host.work:
            tasks.start(work())
        await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(main(*sys.argv[1:]))
