"""A place and its processes, with processes that live in memory and time that stands still."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from random import Random

import pytest

from seawall.concurrency.tasks import Tasks
from seawall.errors import NotSent
from seawall.runtime.probe import Health
from seawall.runtime.process import Exit
from seawall.runtime.replica import (
    Place,
    Replica,
    ReplicaDied,
    ReplicaGivenUp,
    ReplicaHung,
    ReplicaReady,
    ReplicaStarted,
    ReplicaStopped,
    ReplicaStopping,
    ReplicaUnready,
    Started,
)
from seawall.runtime.restart import RestartConfig, State
from seawall.runtime.thresholds import ProbeConfig
from seawall.testing.clock import ManualClock
from tests.support.waiting import eventually

RETRIED = ProbeConfig(period=1.0, failure_threshold=2, again=0.0)


class FakeProcess:
    """What a `Process` is to a replica: an age, an end, and a way to ask for it."""

    def __init__(self, pid: int, clock: ManualClock) -> None:
        self.pid = pid
        self.last_words = ("good bye",)
        self._clock = clock
        self._began = clock.now()
        self._ended: asyncio.Future[Exit] = asyncio.get_running_loop().create_future()

    def age(self) -> float:
        return self._clock.now() - self._began

    def die(self, status: int) -> None:
        self._ended.set_result(Exit(status))

    async def wait(self) -> Exit:
        return await asyncio.shield(self._ended)

    async def stop(self, grace: float) -> Exit:
        if not self._ended.done():
            self.die(0)
        return await self.wait()

    def kill(self) -> None:
        self.die(-9)


class World:
    """Starts fake processes and remembers what was said about them."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.processes: list[FakeProcess] = []
        self.facts: list[object] = []
        self.healthy = True
        self.startable = True
        self.started = self.lives = True

    async def start(self, place: Place, incarnation: str) -> Started:
        if not self.startable:
            raise NotSent("no more processes")
        process = FakeProcess(100 + len(self.processes), self.clock)
        self.processes.append(process)
        return Started(process, self.probe, self.startup, self.liveness)  # type: ignore[arg-type]

    async def probe(self) -> Health:
        return Health(self.healthy, "" if self.healthy else "no database")

    async def startup(self) -> Health:
        return Health(self.started, "" if self.started else "still loading")

    async def liveness(self) -> Health:
        return Health(self.lives, "" if self.lives else "no answer")

    def said(self, kind: type) -> list[object]:
        return [fact for fact in self.facts if type(fact) is kind]


@asynccontextmanager
async def placed(world: World, **place: object) -> AsyncIterator[Replica]:
    replica = Replica(
        Place(service="web", instance_id="web-1", **place),  # type: ignore[arg-type]
        world.start,
        observer=world.facts.append,
        clock=world.clock,
        rng=Random(1),
    )
    async with Tasks() as tasks:
        tasks.start(replica.run())
        yield replica


async def test_a_place_is_filled_and_said_to_be_ready() -> None:
    world = World()
    async with placed(world) as replica:
        await eventually(lambda: replica.state is State.READY)
        assert [type(fact) for fact in world.facts] == [ReplicaStarted, ReplicaReady]
        assert replica.snapshot().pid == 100


async def test_what_worked_is_replaced_at_once_under_a_new_incarnation() -> None:
    world = World()
    async with placed(world) as replica:
        await eventually(lambda: replica.state is State.READY)
        first = replica.incarnation
        world.clock.advance(60)
        world.processes[0].die(-11)
        await eventually(lambda: len(world.processes) == 2 and replica.state is State.READY)
        (died,) = world.said(ReplicaDied)
        assert isinstance(died, ReplicaDied)
        assert (died.verdict.delay, died.was_ready, died.last_words) == (0.0, True, ("good bye",))
        assert replica.incarnation != first == died.incarnation
        assert replica.restarts == 1
        assert replica.snapshot().last_exit == "killed by SIGSEGV"


async def test_what_dies_young_waits_and_a_restart_cuts_the_wait_short() -> None:
    world = World()
    world.healthy = False
    async with placed(world) as replica:
        await eventually(lambda: replica.state is State.STARTING)
        world.processes[0].die(1)
        await eventually(lambda: replica.state is State.WAITING and world.clock.sleeping == 1)
        assert replica.snapshot().next_start == pytest.approx(0.075, abs=0.026)
        assert "no database" in replica.snapshot().last_exit
        await replica.restart()
        await eventually(lambda: len(world.processes) == 2)


async def test_one_that_is_never_ready_is_replaced() -> None:
    world = World()
    world.healthy = False
    async with placed(world, start_within=2.0) as replica:
        while not world.said(ReplicaDied):
            await eventually(lambda: world.clock.sleeping >= 1 or bool(world.said(ReplicaDied)))
            world.clock.advance(0.5)
        assert "not ready within 2 s: no database" in replica.snapshot().last_exit
        (died,) = world.said(ReplicaDied)
        assert isinstance(died, ReplicaDied)
        assert died.ran_for == pytest.approx(2.5, abs=0.5)


async def test_a_replica_that_stops_answering_is_unready_until_it_answers() -> None:
    world = World()
    async with placed(world, readiness=RETRIED) as replica:
        await eventually(lambda: replica.state is State.READY and world.clock.sleeping == 1)
        world.healthy = False
        world.clock.advance(1.0)
        await eventually(lambda: replica.state is State.UNREADY and world.clock.sleeping == 1)
        assert len(world.said(ReplicaUnready)) == 1
        world.healthy = True
        world.clock.advance(1.0)
        await eventually(lambda: replica.state is State.READY)
        assert len(world.said(ReplicaReady)) == 2
        assert replica.restarts == 0


async def test_a_stop_ends_the_place_and_is_no_death() -> None:
    world = World()
    async with placed(world) as replica:
        await eventually(lambda: replica.state is State.READY)
        await replica.stop()
        await replica.stop()
        assert replica.state is State.STOPPED
        assert not world.said(ReplicaDied)
        assert [len(world.said(kind)) for kind in (ReplicaStopping, ReplicaStopped)] == [1, 1]
        assert len(world.processes) == 1


async def test_a_stop_while_it_waits_starts_nothing_more() -> None:
    world = World()
    world.startable = False
    async with placed(world) as replica:
        await eventually(lambda: replica.state is State.WAITING and world.clock.sleeping == 1)
        assert "no more processes" in replica.snapshot().last_words
        await replica.stop()
        await eventually(lambda: replica.state is State.STOPPED)
        assert not world.processes


async def test_a_command_leaves_the_registry_before_it_is_asked_to_go() -> None:
    world = World()
    async with placed(world, linger=0.3) as replica:
        await eventually(lambda: replica.state is State.READY)
        async with Tasks() as tasks:
            stopping = tasks.start(replica.stop())
            await eventually(lambda: world.clock.sleeping == 1)
            assert world.said(ReplicaStopping)
            assert not world.said(ReplicaStopped)
            world.clock.advance(0.3)
            await stopping
        assert world.said(ReplicaStopped)


async def tick(world: World, seconds: float) -> None:
    await eventually(lambda: world.clock.sleeping >= 1)
    world.clock.advance(seconds)


async def test_nothing_else_is_asked_before_the_startup_probe_passed() -> None:
    world = World()
    world.started = world.lives = False
    probes = {"startup": ProbeConfig(period=1.0), "liveness": ProbeConfig(failure_threshold=1)}
    async with placed(world, **probes) as replica:
        await eventually(lambda: world.clock.sleeping == 1)
        assert replica.state is State.STARTING
        assert replica.snapshot().reason == "still loading"
        world.started = world.lives = True
        await tick(world, 1.0)
        await eventually(lambda: replica.state is State.READY)


async def test_what_does_not_start_is_ended() -> None:
    world = World()
    world.started = False
    async with placed(world, startup=ProbeConfig(period=1.0, failure_threshold=2)) as replica:
        await tick(world, 1.0)
        await eventually(lambda: bool(world.said(ReplicaDied)))
        assert "not started after 2 probes: still loading" in replica.snapshot().last_exit


async def test_what_does_not_live_is_ended_and_replaced() -> None:
    world = World()
    liveness = ProbeConfig(period=1.0, failure_threshold=2, initial_delay=20.0)
    async with placed(world, liveness=liveness) as replica:
        await eventually(lambda: replica.state is State.READY)
        world.lives = False
        await tick(world, 20.0)
        await tick(world, 1.0)
        await eventually(lambda: len(world.processes) == 2)
        (hung,) = world.said(ReplicaHung)
        assert isinstance(hung, ReplicaHung)
        assert hung.reason == "no answer"
        assert "does not live: no answer" in replica.snapshot().last_exit
        assert replica.restarts == 1


async def test_what_keeps_dying_is_given_up_until_a_person_acts() -> None:
    world = World()
    rule = RestartConfig(intensity=2, period=60.0)
    async with placed(world, restarts=rule, gives_up=True) as replica:
        for number in (1, 2):
            await eventually(lambda number=number: len(world.processes) == number)
            world.processes[-1].die(1)
            if number == 1:
                await tick(world, 1.0)
        await eventually(lambda: replica.state is State.FAILED)
        (given_up,) = world.said(ReplicaGivenUp)
        assert isinstance(given_up, ReplicaGivenUp)
        assert given_up.reason == replica.snapshot().reason
        assert given_up.reason == "given up after 2 deaths within 60 s"
        await replica.restart()
        await eventually(lambda: replica.state is State.READY)
        assert len(world.processes) == 3


async def test_what_was_given_up_can_be_stopped() -> None:
    world = World()
    rule = RestartConfig(intensity=1)
    async with placed(world, restarts=rule, gives_up=True) as replica:
        await eventually(lambda: replica.state is State.READY)
        world.processes[-1].die(1)
        await eventually(lambda: replica.state is State.FAILED)
        await replica.stop()
        await eventually(lambda: replica.state is State.STOPPED)
