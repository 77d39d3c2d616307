"""The stock: what is there, what is promised to orders, what was sold.

`initial = available + held by orders + sold` holds for each product after every transaction; the
database itself refuses to go below zero.
"""

from collections import defaultdict
from collections.abc import Sequence
from enum import StrEnum
from typing import Any

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


# Made once: every order needs them, and making a statement costs more than running it. Of tables,
# not of classes: there is no object whose changes somebody would have to follow.
_STOCK, _RESERVATION = Base.metadata.tables["stock"], Base.metadata.tables["reservation"]
_TAKE = (
    sa.update(_STOCK)
    .where(_STOCK.c.sku == sa.bindparam("wanted"), _STOCK.c.available >= sa.bindparam("quantity"))
    .values(available=_STOCK.c.available - sa.bindparam("quantity"))
    .returning(_STOCK.c.sku)
)
_GIVE_BACK = (
    sa.update(_STOCK)
    .where(_STOCK.c.sku == sa.bindparam("wanted"))
    .values(available=_STOCK.c.available + sa.bindparam("quantity"))
)
_FIND = (
    sa.select(_RESERVATION.c.state, _RESERVATION.c.lines)
    .where(_RESERVATION.c.order_id == sa.bindparam("order"))
    .with_for_update()
)
_ADD = sa.insert(_RESERVATION)
_MOVE = (
    sa.update(_RESERVATION)
    .where(_RESERVATION.c.order_id == sa.bindparam("order"))
    .values(state=sa.bindparam("now"))
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
        return str(reservation.state)
    wanted: dict[str, int] = defaultdict(int)
    for line in lines:
        wanted[line.sku] += line.quantity
    for sku, quantity in sorted(wanted.items()):  # one order of locks, so no deadlock
        taken = await session.execute(_TAKE, {"wanted": sku, "quantity": quantity})
        if taken.first() is None:
            raise Reject(f"{sku} is sold out")
    kept = [{"sku": sku, "quantity": quantity} for sku, quantity in sorted(wanted.items())]
    await _add(session, order_id, ReservationState.HELD, kept)
    return ReservationState.HELD


async def release(session: AsyncSession, order_id: str) -> str:
    """Give back what is held for that order, and make sure that nothing will be."""
    reservation = await _find(session, order_id)
    if reservation is None:
        await _add(session, order_id, ReservationState.RELEASED, [])
        return ReservationState.RELEASED
    if reservation.state == ReservationState.SOLD:
        raise Reject("it is sold already")
    if reservation.state == ReservationState.HELD:
        for line in map(Line.model_validate, reservation.lines):
            back = {"wanted": line.sku, "quantity": line.quantity}
            await session.execute(_GIVE_BACK, back)
        await _move(session, order_id, ReservationState.RELEASED)
    return ReservationState.RELEASED


async def sell(session: AsyncSession, order_id: str) -> str:
    """Turn what is held for that order into a sale. Raises `Reject` if nothing is held."""
    reservation = await _find(session, order_id)
    if reservation is None or reservation.state == ReservationState.RELEASED:
        raise Reject("nothing is held for this order")
    await _move(session, order_id, ReservationState.SOLD)
    return ReservationState.SOLD


async def _find(session: AsyncSession, order_id: str) -> Any:
    return (await session.execute(_FIND, {"order": order_id})).first()


async def _add(
    session: AsyncSession, order_id: str, state: ReservationState, lines: list[Any]
) -> None:
    row = {"order_id": order_id, "state": state.value, "lines": lines}
    await session.execute(_ADD, row)


async def _move(session: AsyncSession, order_id: str, now: ReservationState) -> None:
    await session.execute(_MOVE, {"order": order_id, "now": now.value})
