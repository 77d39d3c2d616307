from collections.abc import Sequence

import pytest

from seawall.concurrency.tasks import Tasks, running
from seawall.errors import Unavailable
from seawall.registry.memory import MemoryRegistry
from seawall.runtime.process import Exit
from seawall.runtime.registration import Registrar, RegistryBack, RegistryLost
from seawall.runtime.replica import (
    Kind,
    Place,
    ReplicaDied,
    ReplicaReady,
    ReplicaStopping,
    ReplicaUnready,
)
from seawall.runtime.restart import Verdict
from seawall.testing.clock import ManualClock
from seawall.topology import Address, Instance, InstanceState
from tests.support.waiting import eventually, settle

COMMAND = Place(
    service="live",
    instance_id="live-1",
    kind=Kind.COMMAND,
    address=Address("127.0.0.1", 80),
    version="2.0.0",
)
SERVICE = Place(service="orders", instance_id="orders-1", kind=Kind.SERVICE)


def _died(place: Place, incarnation: str) -> ReplicaDied:
    return ReplicaDied(place, incarnation, Exit(-9), 9.0, True, (), Verdict(0.0, 1, False), 0.0)


class Desk:
    """A registrar over a registry in memory."""

    def __init__(self, unique: str) -> None:
        self.clock = ManualClock()
        self.registry = MemoryRegistry(unique, clock=self.clock)
        self.tasks = Tasks()
        self.facts: list[object] = []
        self.registrar = Registrar(
            self.registry, self.tasks, observer=self.facts.append, clock=self.clock
        )

    async def told(self, fact: object) -> Sequence[Instance]:
        self.registrar(fact)
        await self.tasks.join()
        return await self.registry.read()


@pytest.fixture
def desk(unique: str) -> Desk:
    return Desk(unique)


async def test_the_supervisor_speaks_for_commands(desk: Desk) -> None:
    (held,) = await desk.told(ReplicaReady(COMMAND, "a", 1, 0.1, 0.0))
    assert (held.service, held.version, held.state) == ("live", "2.0.0", InstanceState.READY)
    assert held.address == Address("127.0.0.1", 80)
    assert not await desk.told(ReplicaUnready(COMMAND, "a", "silent", 0.0))
    # The same process again: to have left was final for the name it had.
    assert len(await desk.told(ReplicaReady(COMMAND, "a", 1, 0.1, 0.0))) == 1
    assert not await desk.told(ReplicaStopping(COMMAND, "a", 0.0))


async def test_leases_of_commands_are_renewed(desk: Desk) -> None:
    await desk.told(ReplicaReady(COMMAND, "a", 1, 0.1, 0.0))
    beat = desk.tasks.start(desk.registrar.beat())
    for _ in range(10):
        await eventually(lambda: desk.clock.sleeping == 1)
        desk.clock.advance(5.0)
    await eventually(lambda: desk.clock.sleeping == 1)
    assert len(await desk.registry.read()) == 1
    beat.cancel()


async def test_a_service_speaks_for_itself_until_it_dies(desk: Desk) -> None:
    assert not await desk.told(ReplicaReady(SERVICE, "a", 1, 0.1, 0.0))
    itself = Instance(
        service="orders",
        version="1.0.0",
        instance_id="orders-1",
        incarnation="a",
        address=Address("127.0.0.1", 81),
        state=InstanceState.READY,
    )
    await desk.registry.renew(itself)
    assert not await desk.told(_died(SERVICE, "a"))


async def test_the_successor_of_a_dead_replica_stays(desk: Desk) -> None:
    successor = Instance(
        service="orders",
        version="1.0.0",
        instance_id="orders-1",
        incarnation="b",
        address=Address("127.0.0.1", 81),
        state=InstanceState.READY,
    )
    await desk.registry.renew(successor)
    assert tuple(await desk.told(_died(SERVICE, "a"))) == (successor,)


async def test_gateways_and_servers_are_not_registered(desk: Desk) -> None:
    for kind in (Kind.GATEWAY, Kind.SERVER):
        place = Place(service="x", instance_id="x-1", kind=kind)
        assert not await desk.told(ReplicaReady(place, "a", 1, 0.1, 0.0))


async def test_a_registry_that_is_away_is_told_once() -> None:
    clock, facts, away = ManualClock(), [], Away()
    async with Tasks() as tasks:
        registrar = Registrar(away, tasks, observer=facts.append, clock=clock)  # type: ignore[arg-type]
        assert await registrar.read() == ()
        assert facts == []  # who asks is answered; only the beat tells
        async with running(registrar.beat()):
            for _ in range(2):
                await settle()
                clock.advance(4.0)
            await settle()
            assert [type(fact) for fact in facts] == [RegistryLost]
            away.back = True
            clock.advance(4.0)
            await settle()
    assert [type(fact) for fact in facts] == [RegistryLost, RegistryBack]


class Away:
    """A registry that cannot be reached until it is back."""

    back = False

    async def read(self) -> Sequence[Instance]:
        if not self.back:
            raise Unavailable("connection refused")
        return ()
