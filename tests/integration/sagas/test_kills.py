"""kill -9, again and again, of the processes that carry sagas out and take part in them."""

import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest
import sqlalchemy as sa

from seawall.messaging import tables
from seawall.sagas import store
from seawall.sagas.engine import Flow
from seawall.sagas.progress import Phase
from seawall.service.database import Database
from tests.integration.sagas import participants
from tests.support import servers
from tests.support.servers import RespServer
from tests.support.waiting import eventually_async

ORDERS = 24
KILLS = 6  # each costs the start of a process
SCRIPT = Path(participants.__file__)


class Crew:
    """Two processes that are started again whenever they were killed."""

    def __init__(self, *arguments: str) -> None:
        self._arguments = arguments
        self._crew = [self._start(), self._start()]

    def _start(self) -> subprocess.Popen[bytes]:
        return subprocess.Popen([sys.executable, SCRIPT, *self._arguments])

    def kill(self, which: int) -> None:
        self._crew[which].kill()
        self._crew[which].wait()
        self._crew[which] = self._start()

    def stop(self) -> None:
        for process in self._crew:
            process.kill()
            process.wait()


@pytest.fixture(params=[60.0, 0.4], ids=["patient", "timers-fire"])
def crew(
    request: pytest.FixtureRequest, valkey_alone: RespServer, database_url: str
) -> Iterator[Crew]:
    started = Crew(database_url, valkey_alone.url, str(request.param))
    yield started
    started.stop()


@pytest.fixture
def valkey_alone() -> Iterator[RespServer]:
    server = servers.valkey()
    yield server
    server.stop()


@pytest.mark.slow
@pytest.mark.timeout(120)
async def test_every_order_is_completed_or_undone_and_nothing_happens_twice(
    request: pytest.FixtureRequest, database: Database, crew: Crew
) -> None:
    await _create_tables(database)
    flow = Flow("orders", [participants.order_saga(60.0)])
    rng = Random(20)
    for number in range(ORDERS):
        async with database.transaction() as tx:
            order = participants.Order(order_id=f"o-{number}", broke=number % 4 == 0)
            await flow.start(tx, order.order_id, order)
        if number % (ORDERS // KILLS) == 0:
            await _let_them_get_on(database, transitions=rng.randint(1, 8))
            crew.kill(rng.randrange(2))

    async def all_ended() -> bool:
        async with database.read() as session:
            counts = await flow.count(session)
        return sum(n for phase, n in counts.items() if phase.is_final) == ORDERS

    await eventually_async(all_ended, within=60)
    crew.stop()
    phases, effects = await _ledger(database)
    for order_id, phase in phases.items():
        net = {name: sum(effects[order_id, name]) for name in ("reserve", "charge", "confirm")}
        assert set(net.values()) == ({1} if phase is Phase.COMPLETED else {0}), (order_id, net)
    if "patient" in request.node.name:  # no command was sent twice, so none was carried out twice
        broke = {f"o-{number}" for number in range(0, ORDERS, 4)}
        assert {o for o, phase in phases.items() if phase is Phase.COMPENSATED} == broke
        assert all(found in ([1], [1, -1], []) for found in effects.values())


async def _let_them_get_on(database: Database, transitions: int) -> None:
    """Return after so many transitions more, or as soon as all that was started has ended."""

    async def progress() -> tuple[int, int]:
        async with database.read() as session:
            query = sa.select(
                sa.func.coalesce(sa.func.sum(store.SAGAS.c.revision), 0),
                sa.func.count().filter(store.SAGAS.c.phase.not_in(["completed", "compensated"])),
            )
            made, still_open = (await session.execute(query)).one()
            return made, still_open

    before, _ = await progress()

    async def far_enough() -> bool:
        made, still_open = await progress()
        return made >= before + transitions or still_open == 0

    await eventually_async(far_enough, within=20)


async def _create_tables(database: Database) -> None:
    async with database.engine.begin() as connection:
        for metadata in (tables.metadata, participants.metadata):
            await connection.run_sync(metadata.create_all)


async def _ledger(
    database: Database,
) -> tuple[dict[str, Phase], dict[tuple[str, str], list[int]]]:
    """Where each saga ended, and what each participant did for each order."""
    effects: defaultdict[tuple[str, str], list[int]] = defaultdict(list)
    async with database.read() as session:
        rows = await session.execute(sa.select(store.SAGAS.c.saga_id, store.SAGAS.c.phase))
        phases = {row.saga_id: Phase(row.phase) for row in rows}
        for row in await session.execute(sa.select(participants.EFFECTS)):
            effects[row.order_id, row.name].append(row.amount)
    return phases, effects
