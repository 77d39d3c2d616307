"""The stock: what is there, what is promised to orders, what was sold.

`initial = available + held by orders + sold` holds for each product after every transaction; the
database itself refuses to go below zero.
"""

from collections import defaultdict
from collections.abc import Sequence
from enum import StrEnum

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from seawall import Reject
from shop.contracts import Line


class Base(DeclarativeBase):
    pass


class Stock(Base):
    __tablename__ = "stock"
    __table_args__ = (sa.CheckConstraint("available >= 0", name="never_negative"),)

    sku: Mapped[str] = mapped_column(sa.String(40), primary_key=True)
    initial: Mapped[int]
    available: Mapped[int]


class ReservationState(StrEnum):
    HELD = "held"
    SOLD = "sold"
    RELEASED = "released"


class Reservation(Base):
    """What one order got. A released one without lines is a release that came before its
    reservation: it makes sure that the late reservation takes nothing."""

    __tablename__ = "reservation"

    order_id: Mapped[str] = mapped_column(sa.String(60), primary_key=True)
    state: Mapped[str] = mapped_column(sa.String(10))
    lines: Mapped[list[dict[str, object]]] = mapped_column(sa.JSON)


SEED = {
    "espresso-beans": 1_000_000,
    "filter-beans": 1_000_000,
    "grinder": 1_000_000,
    "kettle": 1_000_000,
    "scale": 1_000_000,
    "mug": 1_000_000,
    "paper-filters": 1_000_000,
    "gold-spoon": 3,  # to see what happens when it is sold out
}


# Made once: every order needs it, and making a statement costs more than running it.
_TAKE = (
    sa.update(Stock)
    .where(Stock.sku == sa.bindparam("wanted"), Stock.available >= sa.bindparam("quantity"))
    .values(available=Stock.available - sa.bindparam("quantity"))
    .returning(Stock.sku)
)


async def seed(session: AsyncSession) -> None:
    """Fill the shelves of a new shop; change nothing in one that is open. Raises
    `IntegrityError` if another replica does it at the same moment."""
    known = set(await session.scalars(sa.select(Stock.sku)))
    for sku, number in SEED.items():
        if sku not in known:
            session.add(Stock(sku=sku, initial=number, available=number))
    await session.flush()


async def reserve(session: AsyncSession, order_id: str, lines: Sequence[Line]) -> str:
    """Hold the lines for that order; once, however often it is asked. Raises `Reject`."""
    if reservation := await _find(session, order_id):
        if reservation.state == ReservationState.RELEASED:
            raise Reject("the reservation was released")
        return reservation.state
    wanted: dict[str, int] = defaultdict(int)
    for line in lines:
        wanted[line.sku] += line.quantity
    for sku, quantity in sorted(wanted.items()):  # one order of locks, so no deadlock
        taken = await session.execute(_TAKE, {"wanted": sku, "quantity": quantity})
        if taken.first() is None:
            raise Reject(f"{sku} is sold out")
    kept: list[dict[str, object]] = [{"sku": s, "quantity": q} for s, q in sorted(wanted.items())]
    session.add(Reservation(order_id=order_id, state=ReservationState.HELD.value, lines=kept))
    await session.flush()
    return ReservationState.HELD


async def release(session: AsyncSession, order_id: str) -> str:
    """Give back what is held for that order, and make sure that nothing will be."""
    reservation = await _find(session, order_id)
    if reservation is None:
        session.add(Reservation(order_id=order_id, state=ReservationState.RELEASED.value, lines=[]))
        await session.flush()
        return ReservationState.RELEASED
    if reservation.state == ReservationState.SOLD:
        raise Reject("it is sold already")
    if reservation.state == ReservationState.HELD:
        for line in map(Line.model_validate, reservation.lines):
            await session.execute(
                sa.update(Stock)
                .where(Stock.sku == line.sku)
                .values(available=Stock.available + line.quantity)
            )
        reservation.state = ReservationState.RELEASED.value
    return ReservationState.RELEASED


async def sell(session: AsyncSession, order_id: str) -> str:
    """Turn what is held for that order into a sale. Raises `Reject` if nothing is held."""
    reservation = await _find(session, order_id)
    if reservation is None or reservation.state == ReservationState.RELEASED:
        raise Reject("nothing is held for this order")
    reservation.state = ReservationState.SOLD.value
    return ReservationState.SOLD


async def _find(session: AsyncSession, order_id: str) -> Reservation | None:
    return await session.get(Reservation, order_id, with_for_update=True)
