"""What orders keeps: orders, and the prices it has heard of."""

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from shop.contracts import ProductPriced


class Base(DeclarativeBase):
    pass


class Order(Base):
    __tablename__ = "orders"
    __table_args__ = (sa.Index("orders_of_customer", "customer", "placed_at"),)

    id: Mapped[str] = mapped_column(sa.String(60), primary_key=True)
    customer: Mapped[str] = mapped_column(sa.String(60))
    status: Mapped[str] = mapped_column(sa.String(20))
    reason: Mapped[str | None] = mapped_column(sa.Text)
    cents: Mapped[int]
    card_end: Mapped[str] = mapped_column(sa.String(4))
    lines: Mapped[list[dict[str, object]]] = mapped_column(sa.JSON)
    placed_at: Mapped[float]  # seconds since 1970


class Price(Base):
    __tablename__ = "price"

    sku: Mapped[str] = mapped_column(sa.String(40), primary_key=True)
    cents: Mapped[int]
    revision: Mapped[int]


# Statements that every order needs are made once: making one costs more than running it.
_STATUS = (
    sa.update(Order)
    .where(Order.id == sa.bindparam("order_id"))
    .values(status=sa.bindparam("now"), reason=sa.bindparam("why"))
)
_PRICES = sa.select(Price.sku, Price.cents).where(
    Price.sku.in_(sa.bindparam("skus", expanding=True))
)


_PLACE = sa.insert(Order)


async def keep(session: AsyncSession, order: Order) -> None:
    """Write down a new order."""
    values = {column.key: getattr(order, column.key) for column in Order.__table__.columns}
    await (await session.connection()).execute(_PLACE, values)


async def keep_status(
    session: AsyncSession, order_id: str, status: str, reason: str | None
) -> None:
    """Write down where an order is."""
    values = {"order_id": order_id, "now": status, "why": reason}
    await (await session.connection()).execute(_STATUS, values)


async def keep_price(tx: AsyncSession, priced: ProductPriced) -> None:
    """Remember a price, unless a newer one is known: events may overtake each other."""
    dialect = tx.get_bind().dialect.name
    insert = postgresql.insert if dialect == "postgresql" else sqlite.insert
    new = insert(Price).values(sku=priced.sku, cents=priced.cents, revision=priced.revision)
    await tx.execute(
        new.on_conflict_do_update(
            index_elements=[Price.sku],
            set_={"cents": new.excluded.cents, "revision": new.excluded.revision},
            where=Price.revision < new.excluded.revision,
        )
    )


async def prices(session: AsyncSession, skus: set[str]) -> dict[str, int]:
    """What these cost, in cents; unknown ones are missing."""
    rows = await (await session.connection()).execute(_PRICES, {"skus": list(skus)})
    return {row.sku: row.cents for row in rows}


async def all_prices(session: AsyncSession) -> dict[str, int]:
    """Every price that was heard of, in cents."""
    return {row.sku: row.cents for row in await session.execute(sa.select(Price.sku, Price.cents))}
