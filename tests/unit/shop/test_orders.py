from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from seawall.sagas.engine import SagaMoved
from seawall.sagas.progress import Phase, StepState
from seawall.service.database import Database, PoolSize
from shop.contracts import ProductPriced
from shop.orders.app import _status
from shop.orders.flow import ORDER
from shop.orders.models import Base, all_prices, keep_price, prices


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    url = f"sqlite:///{tmp_path}/o.db"
    opened = Database("orders", url, PoolSize(min_size=0), Base.metadata)
    await opened.open()
    yield opened
    await opened.close()


async def test_an_older_price_does_not_replace_a_newer_one(database: Database) -> None:
    for cents, revision in ((100, 1), (300, 3), (200, 2), (300, 3)):
        async with database.transaction() as tx:
            await keep_price(tx, ProductPriced(sku="mug", cents=cents, revision=revision))
    async with database.read() as session:
        assert await prices(session, {"mug", "unicorn"}) == {"mug": 300}
        assert await all_prices(session) == {"mug": 300}


@pytest.mark.parametrize(
    ("phase", "done", "reason", "status"),
    [
        (Phase.RUNNING, [], None, "placed"),
        (Phase.RUNNING, ["reserve"], None, "reserved"),
        (Phase.RUNNING, ["reserve", "charge"], None, "charged"),
        (Phase.STUCK, ["reserve", "charge"], None, "charged"),
        (Phase.COMPENSATING, ["reserve"], "card declined", "cancelling"),
        (Phase.STUCK, ["reserve"], "card declined", "cancelling"),
        (Phase.COMPLETED, ["reserve", "charge", "confirm"], None, "completed"),
        (Phase.COMPENSATED, [], "sold out", "cancelled"),
        (Phase.FAILED, ["reserve", "charge"], "ana: paid back", "failed"),
    ],
)
def test_the_status_a_customer_sees(
    phase: Phase, done: list[str], reason: str | None, status: str
) -> None:
    steps = {
        step.name: StepState.DONE if step.name in done else StepState.WAITING
        for step in ORDER.steps
    }
    moved = SagaMoved(
        name="order",
        saga_id="o-1",
        phase=phase,
        was=Phase.RUNNING,
        revision=2,
        steps=steps,
        what=(),
        reason=reason,
        at=0.0,
    )
    assert _status(moved) == status
