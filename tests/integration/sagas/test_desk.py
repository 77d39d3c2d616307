"""What an operator sees and does, on SQLite and PostgreSQL."""

from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy.ext.asyncio import AsyncSession

from seawall.errors import Misconfigured, Refused, Unavailable
from seawall.sagas.desk import Desk
from seawall.sagas.engine import SagaMoved
from seawall.sagas.progress import Phase
from seawall.service.database import Database, PoolSize
from tests.integration.sagas.test_engine import Bench, Order, order_saga


@pytest.fixture
def bench(database: Database) -> Bench:
    return Bench(database)


def desk_of(*benches: Bench) -> Desk:
    desk = Desk(benches[0].database)
    for bench in benches:
        desk.add(bench.flow)
    return desk


async def stuck(bench: Bench) -> None:
    """An order that is paid and never confirmed."""
    await bench.start()
    for name in ("reserve", "charge"):
        await bench.answer(f"o-1:{name}:do:1")
    for _ in range(2):
        bench.clock.advance(120.0)
        await bench.flow.look(bench.database)


async def test_open_sagas_are_listed_with_what_they_wait_for(bench: Bench) -> None:
    await stuck(bench)
    await bench.start("o-2")
    await bench.start("o-3")
    await bench.answer("o-3:reserve:do:1", ok=False)
    desk = desk_of(bench)
    found = await desk({"do": "ls"})
    assert [(s["id"], s["phase"], s["waits_for"]) for s in found["sagas"]] == [
        ("o-1", "stuck", ["confirm, attempt 3"]),
        ("o-2", "running", ["reserve"]),
    ]
    assert found["counts"] == {"order": {"stuck": 1, "running": 1, "compensated": 1}}
    over = await desk({"do": "ls", "phases": ["compensated"]})
    assert [s["reason"] for s in over["sagas"]] == ["reserve was rejected: sold out"]
    assert len((await desk({"do": "ls", "limit": 1}))["sagas"]) == 1


async def test_one_is_shown_with_its_steps_and_its_timeline(bench: Bench) -> None:
    await stuck(bench)
    saga = (await desk_of(bench)({"do": "show", "id": "o-1"}))["saga"]
    assert [(s["name"], s["state"], s["attempts"]) for s in saga["steps"]] == [
        ("reserve", "done", 1),
        ("charge", "done", 1),
        ("confirm", "asked", 3),
    ]
    assert saga["timeline"][0]["what"] == "started"
    assert saga["timeline"][-1]["what"] == "stuck"
    assert saga["timeline"][-1]["at"] == bench.clock.wall()


async def test_a_skip_is_one_transition_with_hooks_and_the_operators_reason(bench: Bench) -> None:
    seen: list[Phase] = []

    @bench.flow.on_move
    async def record(tx: AsyncSession, moved: SagaMoved, order: Order) -> None:
        seen.append(moved.phase)

    await stuck(bench)
    asked = {"do": "skip", "id": "o-1", "by": "ana", "reason": "confirmed by phone"}
    saga = (await desk_of(bench)(asked))["saga"]
    assert saga["phase"] == "completed"
    assert "confirm skipped by ana: confirmed by phone" in await bench.timeline()
    assert seen[-1] is Phase.COMPLETED
    with pytest.raises(Refused, match="completed already"):
        await desk_of(bench)(asked)


async def test_a_resume_sends_the_next_attempt_now(bench: Bench) -> None:
    await stuck(bench)
    await desk_of(bench)({"do": "resume", "id": "o-1", "by": "ana"})
    assert (await bench.ids())[-1] == "o-1:confirm:do:4"
    await bench.answer("o-1:confirm:do:4")
    assert (await bench.saga()).progress.phase is Phase.COMPLETED


async def test_fail_turns_back_or_says_why_not(bench: Bench) -> None:
    await bench.start()
    asked = {"do": "fail", "id": "o-1", "by": "ana", "reason": "the customer called"}
    saga = (await desk_of(bench)(asked))["saga"]
    assert (saga["phase"], saga["reason"]) == ("compensating", "ana: the customer called")
    with pytest.raises(Refused, match="turns back already"):
        await desk_of(bench)(asked)
    saga = (await desk_of(bench)({**asked, "force": True}))["saga"]
    assert saga["phase"] == "failed"
    assert await bench.flow.look(bench.database) == 0


async def test_a_saga_past_its_deadline_turns_back(database: Database) -> None:
    bench = Bench(database, replace(order_saga(), deadline=30.0))
    await bench.start()
    bench.clock.advance(29.0)
    assert await bench.flow.look(database) == 0
    bench.clock.advance(1.0)
    assert await bench.flow.look(database) == 1
    assert await bench.timeline() == [
        "started",
        "reserve asked for",
        "it was not done within 30 s",
        "reserve being undone",
        "compensating",
    ]


WRONG: list[dict[str, Any]] = [
    {},
    {"do": "eat"},
    {"do": "show"},
    {"do": "ls", "phases": ["asleep"]},
    {"do": "ls", "phases": "stuck"},
    {"do": "ls", "limit": 0},
    {"do": "resume", "id": "o-1"},
    {"do": "skip", "id": "o-1", "by": "ana"},
    {"do": "fail", "id": "o-1", "by": "ana", "reason": "x" * 501},
]


async def test_what_is_no_question_is_refused() -> None:
    desk = Desk(Database("orders", None, PoolSize()))
    for wrong in WRONG:
        with pytest.raises(Misconfigured):
            await desk(wrong)


async def test_a_saga_that_is_not_here_is_no_saga(bench: Bench) -> None:
    desk = desk_of(bench)
    assert await desk({"do": "show", "id": "o-9"}) == {"saga": None}
    assert await desk({"do": "resume", "id": "o-9", "by": "ana"}) == {"saga": None}
    await bench.start()
    assert await Desk(bench.database)({"do": "show", "id": "o-1"}) == {"saga": None}


async def test_a_version_of_a_newer_release_is_left_to_that(database: Database) -> None:
    await Bench(database, order_saga(2)).start()
    asked = {"do": "fail", "id": "o-1", "by": "ana", "reason": "why"}
    with pytest.raises(Unavailable):
        await desk_of(Bench(database))(asked)
