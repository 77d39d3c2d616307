"""One transition, one transaction: on SQLite and PostgreSQL."""

import json
from typing import Any

import pytest
import sqlalchemy as sa
from pydantic import BaseModel
from sqlalchemy.ext.asyncio import AsyncSession

from seawall.errors import Misconfigured
from seawall.messaging.base import Delivery, Message, Subscription
from seawall.messaging.outcomes import Retry
from seawall.messaging.tables import outbox
from seawall.sagas import store
from seawall.sagas.engine import Flow, SagaMoved, SagaStuck, TimersWait
from seawall.sagas.progress import Phase
from seawall.sagas.saga import Patience, Saga, Step
from seawall.service.database import Database
from seawall.testing.clock import ManualClock


class Order(BaseModel):
    order_id: str


class Note(BaseModel):
    text: str


def order_saga(version: int = 1) -> Saga[Order]:
    return Saga(
        "order",
        Order,
        [
            Step(
                name="reserve",
                command="inventory.reserve",
                ask=lambda order: order,
                compensation="inventory.release",
                undo=lambda order: Note(text=f"undo {order.order_id}"),
            ),
            Step(
                name="charge",
                command="payments.charge",
                ask=lambda order: order,
                compensation="payments.refund",
                pivot=True,
            ),
            Step(name="confirm", command="inventory.confirm", ask=lambda order: order),
        ],
        version=version,
        patience=Patience(stuck_after=3),
    )


def delivery(body: bytes, headers: dict[str, str]) -> Delivery:
    answers = Subscription("orders.saga.order", "workers")
    return Delivery(Message("a", body, headers), answers, attempt=1, receipt=None)


class Bench:
    """A flow, its database, and the participants' side of the conversation."""

    def __init__(self, database: Database, *sagas: Saga[Order]) -> None:
        self.database = database
        self.clock = ManualClock()
        self.facts: list[object] = []
        self.flow: Flow[Order] = Flow(
            "orders", sagas or [order_saga()], clock=self.clock, observer=self.facts.append
        )

    async def start(self, saga_id: str = "o-1") -> bool:
        async with self.database.transaction() as tx:
            return await self.flow.start(tx, saga_id, Order(order_id=saga_id))

    async def sent(self) -> list[Any]:
        """The commands written so far, in order."""
        async with self.database.read() as session:
            rows = await session.execute(sa.select(outbox).order_by(outbox.c.seq))
            return list(rows)

    async def ids(self) -> list[str]:
        return [row.message_id for row in await self.sent()]

    async def answer(self, command_id: str, ok: bool = True, reason: str = "sold out") -> None:
        headers = {"ce-correlationid": command_id, "ce-outcome": "ok" if ok else "rejected"}
        body = b"{}" if ok else json.dumps({"reason": reason}).encode()
        async with self.database.transaction() as tx:
            await self.flow.take(delivery(body, headers), tx)

    async def saga(self, saga_id: str = "o-1") -> store.Stored:
        async with self.database.read() as session:
            found = await self.flow.find(session, saga_id)
        assert found is not None
        return found

    async def timeline(self) -> list[str]:
        async with self.database.read() as session:
            return [entry.what for entry in await self.flow.timeline(session, "o-1")]


@pytest.fixture
def bench(database: Database) -> Bench:
    return Bench(database)


async def test_starting_writes_the_first_command_with_where_to_answer(bench: Bench) -> None:
    assert await bench.start()
    (row,) = await bench.sent()
    headers = json.loads(row.headers)
    assert (row.topic, row.message_id, row.key) == ("inventory.reserve", "o-1:reserve:do:1", "o-1")
    assert json.loads(row.body) == {"order_id": "o-1"}
    assert headers["ce-replyto"] == bench.flow.answers == "orders.saga.order"
    assert headers["ce-id"] == row.message_id


async def test_a_saga_starts_once(bench: Bench) -> None:
    assert await bench.start()
    assert not await bench.start()
    assert await bench.ids() == ["o-1:reserve:do:1"]


async def test_a_saga_whose_transaction_fails_never_began(bench: Bench) -> None:
    async def fail() -> None:
        async with bench.database.transaction() as tx:
            await bench.flow.start(tx, "o-1", Order(order_id="o-1"))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await fail()
    assert await bench.sent() == []
    async with bench.database.read() as session:
        assert await bench.flow.find(session, "o-1") is None


async def test_an_order_goes_through_and_its_timeline_can_be_read(bench: Bench) -> None:
    await bench.start()
    for step in ("reserve", "charge", "confirm"):
        await bench.answer(f"o-1:{step}:do:1")
    assert (await bench.saga()).progress.phase is Phase.COMPLETED
    assert await bench.timeline() == [
        "started",
        "reserve asked for",
        "reserve done",
        "charge asked for",
        "charge done",
        "confirm asked for",
        "confirm done",
        "completed",
    ]
    async with bench.database.read() as session:
        assert await bench.flow.count(session) == {Phase.COMPLETED: 1}


async def test_a_declined_card_gives_the_stock_back(bench: Bench) -> None:
    await bench.start()
    await bench.answer("o-1:reserve:do:1")
    await bench.answer("o-1:charge:do:1", ok=False, reason="card declined")
    last = (await bench.sent())[-1]
    assert (last.topic, last.message_id) == ("inventory.release", "o-1:reserve:undo:1")
    assert json.loads(last.body) == {"text": "undo o-1"}
    await bench.answer("o-1:reserve:undo:1")
    saga = await bench.saga()
    assert saga.progress.phase is Phase.COMPENSATED
    assert saga.progress.reason == "charge was rejected: card declined"
    assert (await bench.timeline())[3:] == [
        "charge asked for",
        "charge rejected: card declined",
        "reserve being undone",
        "compensating",
        "reserve undone",
        "compensated",
    ]


async def test_the_same_answer_twice_is_one_transition(bench: Bench) -> None:
    await bench.start()
    await bench.answer("o-1:reserve:do:1")
    await bench.answer("o-1:reserve:do:1")
    assert await bench.ids() == ["o-1:reserve:do:1", "o-1:charge:do:1"]
    assert (await bench.saga()).revision == 2


async def test_answers_to_nothing_are_taken_and_forgotten(bench: Bench) -> None:
    await bench.start()
    for nonsense in ("", "o-1", "o-9:reserve:do:1", "o-1:nothing:do:1", "o-1:reserve:eat:1"):
        await bench.answer(nonsense)
    async with bench.database.transaction() as tx:
        broken = {"ce-correlationid": "o-1:reserve:do:1", "ce-outcome": "rejected"}
        await bench.flow.take(delivery(b"\xff{", broken), tx)
    assert (await bench.saga()).progress.reason == "reserve was rejected: no reason given"


async def test_a_step_that_is_not_answered_in_time_is_undone(bench: Bench) -> None:
    await bench.start()
    await bench.answer("o-1:reserve:do:1")
    bench.clock.advance(119.0)
    assert await bench.flow.look(bench.database) == 0
    bench.clock.advance(1.0)
    assert await bench.flow.look(bench.database) == 1
    assert (await bench.ids())[-1] == "o-1:charge:undo:1"
    await bench.answer("o-1:charge:do:1")  # late
    await bench.answer("o-1:charge:undo:1")
    await bench.answer("o-1:reserve:undo:1")
    assert (await bench.saga()).progress.phase is Phase.COMPENSATED
    assert "charge not answered in time" in await bench.timeline()


async def test_a_compensation_is_repeated_for_ever_and_says_that_it_is_stuck(bench: Bench) -> None:
    await bench.start()
    await bench.answer("o-1:reserve:do:1")
    await bench.answer("o-1:charge:do:1", ok=False)
    for attempt in range(1, 7):
        await bench.answer(f"o-1:reserve:undo:{attempt}", ok=False, reason="no such shelf")
        bench.clock.advance(60.0)
        assert await bench.flow.look(bench.database) == 1
    assert (await bench.ids())[-1] == "o-1:reserve:undo:7"
    assert (await bench.saga()).progress.phase is Phase.STUCK
    assert sum(isinstance(fact, SagaStuck) for fact in bench.facts) == 1
    lines = await bench.timeline()
    assert lines[-1] == "stuck"  # what goes on for ever leaves no more lines
    await bench.answer("o-1:reserve:undo:7")
    assert (await bench.saga()).progress.phase is Phase.COMPENSATED


async def test_two_replicas_that_look_at_once_move_a_saga_once(bench: Bench) -> None:
    await bench.start()
    other = Bench(bench.database)
    bench.clock.advance(120.0)
    other.clock.advance(120.0)
    async with bench.database.read() as session:
        found = await store.due(session, "order", bench.clock.wall(), 10)
    assert len(found) == 1
    assert await bench.flow.look(bench.database) == 1
    async with other.database.transaction() as tx:
        assert not await other.flow._happen(tx, *found[0])
    assert (await bench.saga()).progress.phase is Phase.COMPENSATING


async def test_a_stale_view_cannot_overwrite_a_newer_one(bench: Bench) -> None:
    await bench.start()
    old = await bench.saga()
    await bench.answer("o-1:reserve:do:1")
    with pytest.raises(store.Overtaken):
        async with bench.database.transaction() as tx:
            await store.save(tx, order_saga(), old, old.progress, ["late"], 0.0)
    assert "late" not in await bench.timeline()


async def test_a_hook_is_part_of_the_transition(bench: Bench) -> None:
    seen: list[tuple[Phase, str]] = []

    @bench.flow.on_move
    async def record(tx: AsyncSession, moved: SagaMoved, order: Order) -> None:
        seen.append((moved.phase, order.order_id))
        if len(seen) == 2:
            raise ZeroDivisionError

    await bench.start()
    with pytest.raises(ZeroDivisionError):
        await bench.answer("o-1:reserve:do:1")
    assert await bench.ids() == ["o-1:reserve:do:1"]
    await bench.answer("o-1:reserve:do:1")
    assert await bench.ids() == ["o-1:reserve:do:1", "o-1:charge:do:1"]
    assert seen == [(Phase.RUNNING, "o-1")] * 3


async def test_a_saga_goes_on_under_the_version_it_began_with(database: Database) -> None:
    old = Bench(database)
    await old.start("o-1")
    both = Bench(database, order_saga(2), order_saga(1))
    await both.start("o-2")
    assert [(await both.saga(f"o-{n}")).version for n in (1, 2)] == [1, 2]
    await both.answer("o-1:reserve:do:1")
    with pytest.raises(Retry):  # a replica of the old release leaves it to the new one
        await old.answer("o-2:reserve:do:1")


async def test_one_saga_that_fails_does_not_keep_the_others_from_their_turn(
    database: Database,
) -> None:
    old, new = Bench(database), Bench(database, order_saga(2))
    await new.start("o-1")
    await old.start("o-2")
    old.clock.advance(200.0)
    assert await old.flow.look(database) == 1
    assert any(isinstance(fact, TimersWait) for fact in old.facts)


async def test_a_wrong_id_is_refused(bench: Bench) -> None:
    for wrong in ("", "a:b", "x" * 101):
        with pytest.raises(Misconfigured):
            await bench.start(wrong)


def test_versions_of_one_flow_differ() -> None:
    with pytest.raises(Misconfigured):
        Flow("orders", [order_saga(1), order_saga(1)])
