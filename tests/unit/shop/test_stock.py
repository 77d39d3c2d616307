"""Stock adds up, whatever is asked for in whatever order and however often."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy.orm import Session

from seawall.messaging.outcomes import Reject
from seawall.service.database import Database, PoolSize
from shop.contracts import Line
from shop.inventory.stock import (
    SEED,
    Base,
    Reservation,
    Stock,
    release,
    reserve,
    seed,
    sell,
)


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    opened = Database(
        "inventory", f"sqlite:///{tmp_path}/i.db", PoolSize(min_size=0), Base.metadata
    )
    await opened.open()
    async with opened.transaction() as tx:
        await seed(tx)
    yield opened
    await opened.close()


def line(sku: str, quantity: int) -> Line:
    return Line(sku=sku, quantity=quantity)


async def available(database: Database, sku: str) -> int:
    async with database.read() as session:
        found = await session.get_one(Stock, sku)
        return found.available


async def test_seeding_again_changes_nothing(database: Database) -> None:
    async with database.transaction() as tx:
        await reserve(tx, "o-1", [line("gold-spoon", 1)])
    async with database.transaction() as tx:
        await seed(tx)
    assert await available(database, "gold-spoon") == 2


async def test_reserving_again_takes_nothing_more(database: Database) -> None:
    for _ in range(2):
        async with database.transaction() as tx:
            assert await reserve(tx, "o-1", [line("gold-spoon", 1)]) == "held"
    assert await available(database, "gold-spoon") == 2


async def test_what_is_sold_out_is_rejected_and_nothing_is_held(database: Database) -> None:
    with pytest.raises(Reject, match="gold-spoon is sold out"):
        async with database.transaction() as tx:
            await reserve(tx, "o-1", [line("espresso-beans", 1), line("gold-spoon", 4)])
    assert await available(database, "gold-spoon") == 3
    assert await available(database, "espresso-beans") == SEED["espresso-beans"]


async def test_the_same_product_on_two_lines_counts_together(database: Database) -> None:
    with pytest.raises(Reject):
        async with database.transaction() as tx:
            await reserve(tx, "o-1", [line("gold-spoon", 2), line("gold-spoon", 2)])


async def test_an_unknown_product_is_rejected(database: Database) -> None:
    with pytest.raises(Reject):
        async with database.transaction() as tx:
            await reserve(tx, "o-1", [line("unicorn", 1)])


async def test_a_release_gives_back_once(database: Database) -> None:
    async with database.transaction() as tx:
        await reserve(tx, "o-1", [line("gold-spoon", 2)])
    for _ in range(2):
        async with database.transaction() as tx:
            assert await release(tx, "o-1") == "released"
    assert await available(database, "gold-spoon") == 3


async def test_a_release_that_overtakes_its_reservation_prevents_it(database: Database) -> None:
    async with database.transaction() as tx:
        await release(tx, "o-1")
    with pytest.raises(Reject, match="released"):
        async with database.transaction() as tx:
            await reserve(tx, "o-1", [line("gold-spoon", 1)])
    assert await available(database, "gold-spoon") == 3


async def test_what_is_sold_stays_sold(database: Database) -> None:
    async with database.transaction() as tx:
        await reserve(tx, "o-1", [line("gold-spoon", 1)])
    for _ in range(2):
        async with database.transaction() as tx:
            assert await sell(tx, "o-1") == "sold"
    with pytest.raises(Reject):
        async with database.transaction() as tx:
            await release(tx, "o-1")
    with pytest.raises(Reject):
        async with database.transaction() as tx:
            await sell(tx, "o-2")


async def test_the_database_itself_refuses_to_go_below_zero(database: Database) -> None:
    with pytest.raises(sa.exc.IntegrityError):
        async with database.transaction() as tx:
            await tx.execute(sa.update(Stock).values(available=-1))


ACTS = st.lists(
    st.tuples(
        st.sampled_from(["reserve", "release", "sell"]),
        st.sampled_from(["o-1", "o-2", "o-3"]),
        st.integers(1, 3),
    ),
    max_size=12,
)


@settings(max_examples=40)
@given(ACTS)
def test_stock_always_adds_up(acts: list[tuple[str, str, int]]) -> None:
    engine = sa.create_engine("sqlite://")
    Base.metadata.create_all(engine)
    with Session(engine) as session:
        tx: Any = _Sync(session)
        _run(seed(tx))
        for act, order, quantity in acts:
            with session.begin_nested() as attempt:
                try:
                    if act == "reserve":
                        _run(reserve(tx, order, [line("gold-spoon", quantity)]))
                    else:
                        _run((release if act == "release" else sell)(tx, order))
                except Reject:
                    attempt.rollback()
        stock = session.get_one(Stock, "gold-spoon")
        held = [
            sum(int(str(kept["quantity"])) for kept in row.lines)
            for row in session.scalars(sa.select(Reservation))
            if row.state != "released"
        ]
        assert stock.available + sum(held) == stock.initial
        session.rollback()
    engine.dispose()


class _Sync:
    """A session whose methods can be awaited; hypothesis has no event loop."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._session, name)
        if name == "add":
            return method

        async def call(*args: Any, **more: Any) -> Any:
            return method(*args, **more)

        return call


def _run(work: Any) -> Any:
    try:
        work.send(None)
    except StopIteration as result:
        return result.value
    raise AssertionError("it waited for something")
