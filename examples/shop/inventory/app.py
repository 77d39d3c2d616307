"""Inventory: reserves stock for orders, releases it, sells it."""

from contextlib import suppress

import sqlalchemy as sa
from fastapi import Query
from pydantic import BaseModel
from sqlalchemy.exc import IntegrityError

from seawall import Service, Transaction
from seawall.messaging.consumer import ConsumerConfig
from shop.contracts import Confirm, Release, ReservationState, Reserve
from shop.inventory.stock import Base, Reservation, Stock, release, reserve, seed, sell

service = Service("inventory", version="1.0.0")
database = service.database(min_size=1, max_size=10, metadata=Base.metadata)

# A command takes milliseconds; what a dead replica held, another takes up this soon.
WORK = ConsumerConfig(concurrency=16, lease=10.0)


@service.on_start
async def open_shop() -> None:
    with suppress(IntegrityError):  # another replica opened it at the same moment
        async with database.transaction() as session:
            await seed(session)


@service.worker("inventory.reserve", config=WORK)
async def on_reserve(command: Reserve, tx: Transaction) -> ReservationState:
    state = await reserve(tx, command.order_id, command.lines)
    return ReservationState(order_id=command.order_id, state=state)


@service.worker("inventory.release", config=WORK)
async def on_release(command: Release, tx: Transaction) -> ReservationState:
    state = await release(tx, command.order_id)
    return ReservationState(order_id=command.order_id, state=state)


@service.worker("inventory.confirm", config=WORK)
async def on_confirm(command: Confirm, tx: Transaction) -> ReservationState:
    state = await sell(tx, command.order_id)
    return ReservationState(order_id=command.order_id, state=state)


class StockLine(BaseModel):
    sku: str
    initial: int
    available: int


class ReservationLine(BaseModel):
    order_id: str
    state: str
    lines: list[dict[str, object]]


@service.get("/stock")
async def stock() -> list[StockLine]:
    async with database.read() as session:
        rows = await session.scalars(sa.select(Stock).order_by(Stock.sku))
        return [StockLine(sku=s.sku, initial=s.initial, available=s.available) for s in rows]


@service.get("/internal/reservations", summary="Who got what; not for the gateway")
async def reservations(
    after: str = "", limit: int = Query(default=1000, ge=1, le=1000)
) -> list[ReservationLine]:
    async with database.read() as session:
        rows = await session.scalars(
            sa.select(Reservation)
            .where(Reservation.order_id > after)
            .order_by(Reservation.order_id)
            .limit(limit)
        )
        return [
            ReservationLine(order_id=row.order_id, state=row.state, lines=row.lines) for row in rows
        ]
