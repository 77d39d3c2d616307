"""Payments: asks the card processor, and keeps what came of it.

The processor is asked outside of any transaction: it takes its time, and a database is not to be
locked meanwhile. The order's id is the processor's idempotency key, so a charge that was made
just before this process died is found, not repeated, when the command comes again.
"""

import os

import sqlalchemy as sa
from fastapi import Query
from pydantic import BaseModel

from seawall import Reject, Service
from seawall.messaging.consumer import ConsumerConfig
from shop.contracts import Charge, ChargeState, Refund
from shop.payments.processor import Base, Entry, Processor, State

service = Service("payments", version="1.0.0")
database = service.database(min_size=1, max_size=10, metadata=Base.metadata)
processor = Processor(database, seconds=float(os.environ.get("SHOP_PROCESSOR_SECONDS", "0.1")))


# The processor takes its time, so many may wait for it at once. What a dead replica held, another
# takes up after the lease.
WORK = ConsumerConfig(concurrency=64, lease=10.0)


@service.worker("payments.charge", config=WORK)
async def charge(command: Charge) -> ChargeState:
    verdict = await processor.charge(command.order_id, command.cents, command.card)
    if verdict.state is not State.CHARGED:
        raise Reject(verdict.reason or f"the charge is {verdict.state}")
    return ChargeState(order_id=command.order_id, state=verdict.state)


@service.worker("payments.refund", config=WORK)
async def refund(command: Refund) -> ChargeState:
    verdict = await processor.refund(command.order_id)
    return ChargeState(order_id=command.order_id, state=verdict.state)


class LedgerLine(BaseModel):
    order_id: str
    state: str
    cents: int
    taken: int
    returned: int
    calls: int


@service.get("/internal/ledger", summary="What was charged and refunded; not for the gateway")
async def ledger(
    after: str = "", limit: int = Query(default=1000, ge=1, le=1000)
) -> list[LedgerLine]:
    async with database.read() as session:
        entries = await session.scalars(
            sa.select(Entry).where(Entry.key > after).order_by(Entry.key).limit(limit)
        )
        return [
            LedgerLine(
                order_id=entry.key,
                state=entry.state,
                cents=entry.cents,
                taken=entry.taken,
                returned=entry.returned,
                calls=entry.calls,
            )
            for entry in entries
        ]
