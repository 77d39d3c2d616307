"""What exactly-once effects cost: the outbox's relay on PostgreSQL, and sagas on SQLite.

The relay: ROWS rows that nobody announced are in the outbox; one relay publishes them to a Valkey
(appendfsync everysec) until the table is empty. The sagas: ORDERS orders are placed at once, each
in a transaction of its own, and go through reserve, charge and confirm; orders in one process,
inventory and payments in another, each service with its own SQLite file (synchronous FULL), over
the same Valkey. Timed from the first placed to the last completed. Median of the rounds.

`make bench-effects ARGS="relay --rounds 1"`.
"""

import argparse
import asyncio
import sys
import time
from collections.abc import Callable, Coroutine
from statistics import median
from typing import Any

import sqlalchemy as sa
import uvloop
from pydantic import BaseModel
from sqlalchemy.ext.asyncio import create_async_engine

from benchmarks.report import Row, machine, table, versions, write
from seawall import Flow, Saga, Service, Step, Transaction
from seawall.clock import SYSTEM
from seawall.errors import NotSent
from seawall.messaging.connect import open_transport
from seawall.messaging.relay import Relay
from seawall.messaging.tables import metadata, outbox
from seawall.sagas.progress import Phase
from seawall.testing.platform import Platform
from tests.support import servers

ROWS = 40_000
ORDERS = 1_500
AT_ONCE = 64  # transactions that place orders

BODY = b'{"order_id": "0123456789abcdef0123456789abcdef", "cents": 4200, "lines": []}'


async def relay() -> dict[str, float]:
    database, broker = servers.postgres(), servers.valkey()
    engine = create_async_engine(database.url)
    transport = open_transport(broker.url)
    try:
        now = SYSTEM.wall()
        values = [
            {
                "message_id": f"m-{n}",
                "topic": "order.placed",
                "key": f"k-{n % 5000}",
                "order_key": f"k-{n % 5000}",
                "headers": '{"ce-id": "x", "ce-type": "order.placed", "ce-source": "orders"}',
                "body": BODY,
                "not_before": now,
                "created": now,
            }
            for n in range(ROWS)
        ]
        async with engine.begin() as connection:
            await connection.run_sync(metadata.create_all)
            await connection.execute(outbox.insert(), values)
        began, busy = time.perf_counter(), time.process_time()
        async with Relay(engine, transport) as one:
            while one.sent < ROWS:
                await asyncio.sleep(0.01)
        seconds, cpu = time.perf_counter() - began, time.process_time() - busy
    finally:
        await transport.aclose()
        await engine.dispose()
        broker.stop()
        database.stop()
    return {"per_s": ROWS / seconds, "cpu_us": cpu / ROWS * 1e6}


class Order(BaseModel):
    order_id: str


def _itself(order: Order) -> Order:
    return order


ORDER = Saga(
    "order",
    Order,
    [
        Step(name="reserve", command="reserve", ask=_itself, compensation="release"),
        Step(name="charge", command="charge", ask=_itself, compensation="refund", pivot=True),
        Step(name="confirm", command="confirm", ask=_itself),
    ],
)

DEEDS = sa.MetaData()
DEED = sa.Table(
    "deed",
    DEEDS,
    sa.Column("order_id", sa.String(40), primary_key=True),
    sa.Column("what", sa.String(20), primary_key=True),
)


def participant(name: str, *commands: str) -> Service:
    """A service that writes down what it was asked to do."""
    service = Service(name)
    service.database(metadata=DEEDS)

    def take(command: str) -> None:
        @service.worker(command, concurrency=64)
        async def done(order: Order, tx: Transaction) -> Order:
            connection = await tx.connection()
            await connection.execute(sa.insert(DEED), {"order_id": order.order_id, "what": command})
            return order

    for command in commands:
        take(command)
    return service


async def participants(messages: str) -> None:
    async with Platform(messages=messages) as platform:
        await platform.start(
            participant("inventory", "reserve", "release", "confirm"),
            participant("payments", "charge", "refund"),
        )
        print("ready", flush=True)
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)


async def saga() -> dict[str, float]:
    broker = servers.valkey()
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "benchmarks.effects", "participants", "--messages", broker.url),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        assert process.stdout is not None
        assert await process.stdout.readline() == b"ready\n"
        orders = Service("orders")
        database = orders.database()
        flow = Flow.attach(orders, database, ORDER)
        numbers = iter(range(ORDERS))

        async def place() -> None:
            for n in numbers:
                while not await placed(n):
                    await asyncio.sleep(0.01)

        async def placed(n: int) -> bool:
            try:
                async with database.transaction() as tx:
                    return await flow.start(tx, f"o-{n}", Order(order_id=f"o-{n}"))
            except NotSent:  # the file is busy: nothing was written, as a client is told with 503
                return False

        async with Platform(messages=broker.url) as platform:
            await platform.start(orders)
            began, busy = time.perf_counter(), time.process_time()
            await asyncio.gather(*(place() for _ in range(AT_ONCE)))
            while True:
                async with database.read() as session:
                    counts = await flow.count(session)
                if counts.get(Phase.COMPLETED) == ORDERS:
                    break
                await asyncio.sleep(0.05)
            seconds, cpu = time.perf_counter() - began, time.process_time() - busy
    finally:
        assert process.stdin is not None
        process.stdin.close()
        await process.wait()
        broker.stop()
    return {"per_s": ORDERS / seconds, "cpu_us": cpu / ORDERS * 1e6}


MEASURED: dict[str, Callable[[], Coroutine[Any, Any, dict[str, float]]]] = {
    "relay": relay,
    "saga": saga,
}
LOADS = {"relay": "rows, PostgreSQL to Valkey", "saga": "orders of three steps, SQLite"}


def _part(name: str) -> str:
    # With `choices` argparse would refuse that none is named.
    if name not in (*MEASURED, "participants"):
        raise argparse.ArgumentTypeError(f"{name}: not one of {', '.join(MEASURED)}")
    return name


def main() -> None:
    parser = argparse.ArgumentParser(prog="benchmarks.effects")
    named = "|".join(MEASURED)
    parser.add_argument("what", nargs="*", type=_part, metavar=named, help="all if none")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--messages", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.what == ["participants"]:
        uvloop.run(participants(options.messages))
        return
    rows: list[Row] = []
    for name in options.what or MEASURED:
        rounds = [uvloop.run(MEASURED[name]()) for _ in range(options.rounds)]
        figures = {figure: median(each[figure] for each in rounds) for figure in rounds[0]}
        rows.append({"subject": name, "load": LOADS[name]} | figures)
    print(table(f"effects, {machine()}", list(rows[0]), rows))
    print(write("effects", rows, versions(["seawall", "SQLAlchemy", "asyncpg", "uvloop"])))


if __name__ == "__main__":
    main()
