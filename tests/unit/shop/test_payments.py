"""The card processor: one key is one charge."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from seawall.service.database import Database, PoolSize
from shop.payments.processor import FLAKY, Base, Entry, Processor, ProcessorDown, State

GOOD = "4242424242424242"


@pytest.fixture
async def processor(tmp_path: Path) -> AsyncIterator[Processor]:
    url = f"sqlite:///{tmp_path}/p.db"
    database = Database("payments", url, PoolSize(min_size=0), Base.metadata)
    await database.open()
    yield Processor(database, seconds=0.0)
    await database.close()


async def entry(processor: Processor, key: str) -> Entry:
    async with processor._database.read() as session:
        return (await session.scalars(sa.select(Entry).where(Entry.key == key))).one()


async def test_the_same_key_takes_the_money_once(processor: Processor) -> None:
    for _ in range(3):
        assert (await processor.charge("o-1", 500, GOOD)).state is State.CHARGED
    kept = await entry(processor, "o-1")
    assert (kept.taken, kept.calls, kept.cents, kept.card_end) == (1, 3, 500, "4242")


@pytest.mark.parametrize(
    ("card", "reason"),
    [("4000000000000002", "card declined"), ("4000000000009995", "insufficient funds")],
)
async def test_some_cards_are_declined(processor: Processor, card: str, reason: str) -> None:
    for _ in range(2):
        verdict = await processor.charge("o-1", 500, card)
        assert (verdict.state, verdict.reason) == (State.DECLINED, reason)
    assert (await entry(processor, "o-1")).taken == 0


async def test_a_flaky_card_is_charged_at_the_third_call(processor: Processor) -> None:
    for _ in range(2):
        with pytest.raises(ProcessorDown):
            await processor.charge("o-1", 500, FLAKY)
    assert (await processor.charge("o-1", 500, FLAKY)).state is State.CHARGED
    assert (await entry(processor, "o-1")).taken == 1


async def test_a_refund_gives_back_once(processor: Processor) -> None:
    await processor.charge("o-1", 500, GOOD)
    for _ in range(2):
        assert (await processor.refund("o-1")).state is State.REFUNDED
    assert (await processor.charge("o-1", 500, GOOD)).state is State.REFUNDED
    kept = await entry(processor, "o-1")
    assert (kept.taken, kept.returned) == (1, 1)


async def test_a_refund_that_overtakes_its_charge_prevents_it(processor: Processor) -> None:
    assert (await processor.refund("o-1")).state is State.VOID
    assert (await processor.charge("o-1", 500, GOOD)).state is State.VOID
    assert (await entry(processor, "o-1")).taken == 0


async def test_a_refund_between_two_tries_ends_them(processor: Processor) -> None:
    with pytest.raises(ProcessorDown):
        await processor.charge("o-1", 500, FLAKY)
    assert (await processor.refund("o-1")).state is State.VOID
    assert (await processor.charge("o-1", 500, FLAKY)).state is State.VOID
