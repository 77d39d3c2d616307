"""Orders: takes them, sees them through, and says where they are.

Taking an order asks nobody: prices were heard as events, and stock and card are the saga's
business. So the shop takes orders whoever else is down. The order, its saga, the first command
and the answer kept for the Idempotency-Key are one transaction.
"""

import uuid
from typing import Annotated

import sqlalchemy as sa
from fastapi import Header, HTTPException, Query
from pydantic import BaseModel, Field

from seawall import Caller, Flow, SagaMoved, Service, Transaction
from seawall.clock import SYSTEM
from seawall.sagas.progress import Phase, StepState
from shop.contracts import Line, OrderEnded, OrderMoved, ProductPriced
from shop.orders.flow import ORDER, OrderData
from shop.orders.models import Base, Order, all_prices, keep, keep_price, keep_status, prices

service = Service("orders", version="1.0.0")
service.publishes("order.moved", OrderMoved)
service.publishes("order.completed", OrderEnded)
service.publishes("order.cancelled", OrderEnded)
database = service.database(min_size=2, max_size=10, metadata=Base.metadata)
flow = Flow.attach(service, database, ORDER)


class NewOrder(BaseModel):
    lines: list[Line] = Field(min_length=1, max_length=20)
    card: str = Field(pattern=r"^[0-9]{12,19}$")


class Event(BaseModel):
    at: float  # seconds since 1970
    what: str


class OrderView(BaseModel):
    order_id: str
    status: str  # placed, reserved, charged, completed; cancelling, cancelled; failed
    reason: str | None = None
    cents: int
    card_end: str
    lines: list[Line]
    placed_at: float


class OrderDetail(OrderView):
    timeline: list[Event]


@service.post("/orders", status_code=202, idempotent=True)
async def place(
    order: NewOrder,
    caller: Caller,
    idempotency_key: Annotated[str, Header(min_length=1, max_length=255)],
    tx: Annotated[Transaction, database.tx],
) -> OrderView:
    """Take an order. The same Idempotency-Key again is the same order, not a second one."""
    known = await prices(tx, {line.sku for line in order.lines})
    if unknown := sorted({line.sku for line in order.lines} - known.keys()):
        if not await all_prices(tx):
            raise HTTPException(503, "no price was heard of yet", {"retry-after": "1"})
        raise HTTPException(422, f"there is no product {', '.join(unknown)}")
    row = Order(
        id=uuid.uuid4().hex,
        customer=caller.subject,
        status="placed",
        cents=sum(known[line.sku] * line.quantity for line in order.lines),
        card_end=order.card[-4:],
        lines=[line.model_dump() for line in order.lines],
        placed_at=SYSTEM.wall(),
    )
    await keep(tx, row)
    data = OrderData(
        order_id=row.id,
        customer=row.customer,
        lines=order.lines,
        cents=row.cents,
        card=order.card,
    )
    await flow.start(tx, row.id, data)
    return _view(row)


@flow.on_move
async def moved(tx: Transaction, move: SagaMoved, data: OrderData) -> None:
    """Write down where the order is, and tell it, in the transaction in which it got there."""
    status = _status(move)
    await keep_status(tx, move.saga_id, status, move.reason)
    news = OrderMoved(
        order_id=move.saga_id,
        customer=data.customer,
        status=status,
        sequence=move.revision,
        at=move.at,
    )
    await service.publish("order.moved", news, key=move.saga_id, tx=tx)
    if move.phase.is_final:
        ended = OrderEnded(
            order_id=move.saga_id, customer=data.customer, cents=data.cents, reason=move.reason
        )
        await service.publish(f"order.{status}", ended, key=move.saga_id, tx=tx)


_ENDS = {
    Phase.COMPLETED: "completed",
    Phase.COMPENSATED: "cancelled",
    Phase.FAILED: "failed",  # a person gave it up, and sees to the money
}


def _status(move: SagaMoved) -> str:
    if move.phase.is_final:
        return _ENDS[move.phase]
    if move.reason is not None:
        return "cancelling"
    done = [name for name, state in move.steps.items() if state is StepState.DONE]
    return "charged" if "charge" in done else "reserved" if "reserve" in done else "placed"


@service.on("product.priced")
async def priced(event: ProductPriced, tx: Transaction) -> None:
    await keep_price(tx, event)


@service.get("/orders")
async def mine(
    caller: Caller, limit: int = Query(default=20, ge=1, le=100), before: float | None = None
) -> list[OrderView]:
    """The caller's orders, newest first; `before` is the `placed_at` of the last one seen."""
    query = sa.select(Order).where(Order.customer == caller.subject)
    if before is not None:
        query = query.where(Order.placed_at < before)
    async with database.read() as session:
        rows = await session.scalars(query.order_by(Order.placed_at.desc()).limit(limit))
        return [_view(row) for row in rows]


@service.get("/orders/{order_id}")
async def one(order_id: str, caller: Caller) -> OrderDetail:
    async with database.read() as session:
        row = await session.get(Order, order_id)
        if row is None or row.customer != caller.subject:
            # Somebody else's order is as unknown as one that does not exist.
            raise HTTPException(404, "there is no such order")
        timeline = await flow.timeline(session, order_id)
    events = [Event(at=entry.at, what=entry.what) for entry in timeline]
    return OrderDetail(**_view(row).model_dump(), timeline=events)


@service.get("/internal/prices", summary="What was heard of prices; not for the gateway")
async def heard() -> dict[str, int]:
    async with database.read() as session:
        return await all_prices(session)


@service.get("/internal/ledger", summary="All orders, by id; not for the gateway")
async def ledger(
    after: str = "", limit: int = Query(default=1000, ge=1, le=1000)
) -> list[OrderView]:
    async with database.read() as session:
        rows = await session.scalars(
            sa.select(Order).where(Order.id > after).order_by(Order.id).limit(limit)
        )
        return [_view(row) for row in rows]


def _view(row: Order) -> OrderView:
    return OrderView(
        order_id=row.id,
        status=row.status,
        reason=row.reason,
        cents=row.cents,
        card_end=row.card_end,
        lines=[Line.model_validate(line) for line in row.lines],
        placed_at=row.placed_at,
    )
