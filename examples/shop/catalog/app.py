"""The catalog: what there is and what it costs.

A product's page asks `recommendations` what goes with it. When that service is slow or gone, the
page shows bestsellers and says so: somebody else's failure does not become ours. Prices are told
as events, so that nobody has to ask for them while taking an order; and told again, since whoever
starts later must hear them too, and some brokers keep nothing for those.
"""

from contextlib import suppress

import sqlalchemy as sa
from fastapi import HTTPException, Query
from pydantic import BaseModel
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from seawall import Service
from seawall.clock import SYSTEM
from shop.contracts import ProductPriced, Sku, Suggestions

service = Service("catalog", version="1.0.0", needs=["recommendations"])
service.publishes("product.priced", ProductPriced)
recommendations = service.client("recommendations", version="^1", timeout=0.3)


class Base(DeclarativeBase):
    pass


class Product(Base):
    __tablename__ = "product"

    sku: Mapped[str] = mapped_column(sa.String(40), primary_key=True)
    name: Mapped[str] = mapped_column(sa.String(80))
    cents: Mapped[int]
    revision: Mapped[int] = mapped_column(default=1)  # grows with each change of the price


database = service.database(min_size=1, max_size=10, metadata=Base.metadata)

SEED = {
    "espresso-beans": ("Espresso beans, 1 kg", 2490),
    "filter-beans": ("Filter beans, 500 g", 1390),
    "grinder": ("Hand grinder", 8900),
    "kettle": ("Gooseneck kettle", 6450),
    "scale": ("Scale with timer", 3900),
    "mug": ("Stoneware mug", 1250),
    "paper-filters": ("Paper filters, 100 pieces", 495),
    "gold-spoon": ("Golden spoon, one of three", 49900),
}
# Until the prices are told again: doubled from the first to the last.
FIRST_PAUSE, LAST_PAUSE = 2.0, 600.0  # seconds

BESTSELLERS = ["espresso-beans", "grinder", "mug"]


@service.on_start
async def seed() -> None:
    with suppress(IntegrityError):  # another replica did it at the same moment
        async with database.transaction() as tx:
            known = set(await tx.scalars(sa.select(Product.sku)))
            for sku, (name, cents) in SEED.items():
                if sku not in known:
                    tx.add(Product(sku=sku, name=name, cents=cents))
    await tell_prices()


@service.background
async def keep_telling() -> None:
    """Tell the prices again: soon at first, when others start beside us, then ever more seldom."""
    pause = FIRST_PAUSE
    while True:
        await SYSTEM.sleep(pause)
        await tell_prices()
        pause = min(LAST_PAUSE, pause * 2)


async def tell_prices() -> None:
    """Tell everybody what things cost."""
    async with database.transaction() as tx:
        for row in await tx.scalars(sa.select(Product)):
            priced = ProductPriced(sku=row.sku, cents=row.cents, revision=row.revision)
            await service.publish("product.priced", priced, key=row.sku, tx=tx)


class ProductPage(BaseModel):
    sku: str
    name: str
    cents: int


class ProductDetail(ProductPage):
    recommended: list[str]
    recommended_by: str  # "recommendations", or "bestsellers" where that service is away


@service.get("/products")
async def browse(limit: int = Query(default=50, ge=1, le=200)) -> list[ProductPage]:
    async with database.read() as session:
        rows = await session.scalars(sa.select(Product).order_by(Product.sku).limit(limit))
        return [ProductPage(sku=row.sku, name=row.name, cents=row.cents) for row in rows]


@service.get("/products/{sku}")
async def product(sku: Sku) -> ProductDetail:
    async with database.read() as session:
        row = await session.get(Product, sku)
    if row is None:
        raise HTTPException(404, f"there is no product {sku}")
    suggestions = await recommendations.get(
        f"/recommendations/{sku}", returns=Suggestions, fallback=lambda error: None
    )
    if suggestions is None:
        recommended, by = [other for other in BESTSELLERS if other != sku], "bestsellers"
    else:
        recommended, by = suggestions.skus, "recommendations"
    return ProductDetail(
        sku=row.sku, name=row.name, cents=row.cents, recommended=recommended, recommended_by=by
    )
