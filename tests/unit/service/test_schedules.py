"""One replica of all fires each tick."""

import asyncio
from collections import Counter

import pytest

from seawall import Service
from seawall.concurrency.tasks import Tasks
from seawall.errors import Misconfigured, Unavailable
from seawall.messaging.base import Message
from seawall.messaging.ticks import Every, Missed
from seawall.registry.turns import MemoryTurns
from seawall.service.schedules import Firing, Schedule, TickFired, TicksDelayed
from seawall.testing.clock import ManualClock
from tests.support.waiting import settle


class World:
    """Replicas that share turns and time."""

    def __init__(self, name: str, missed: Missed = "skip") -> None:
        self.clock = ManualClock(wall=1_764_115_200.0 + 30)  # half past a minute
        self.turns = MemoryTurns(name, clock=self.clock)
        self.schedule = Schedule("orders.report", "orders.schedule.report", Every(60), missed)
        self.published: list[str] = []
        self.facts: list[object] = []
        self.broken = False

    async def publish(self, topic: str, message: Message) -> None:
        if self.broken:
            raise Unavailable("the broker is away")
        assert topic == "orders.schedule.report"
        self.published.append(message.id)

    def replica(self, holder: str) -> Firing:
        return Firing(
            *("orders", holder, self.turns, self.publish),
            observer=self.facts.append,
            clock=self.clock,
        )

    async def pass_time(self, seconds: int) -> None:
        for _ in range(seconds):
            await settle()
            self.clock.advance(1)
        await settle()


@pytest.fixture
def world(unique: str) -> World:
    return World(unique)


async def test_of_several_replicas_one_fires_each_tick(world: World) -> None:
    async with Tasks() as tasks:
        for holder in ("one", "two", "three"):
            tasks.start(world.replica(holder).run(world.schedule))
        await world.pass_time(60 * 5)
    assert len(world.published) == 5
    assert len(set(world.published)) == 5
    assert world.published[0] == "orders.report@2025-11-26T00:01:00+00:00"
    fired = [fact for fact in world.facts if isinstance(fact, TickFired)]
    assert max(fact.late for fact in fired) <= 1


async def test_the_first_start_ever_has_missed_nothing(world: World) -> None:
    async with Tasks() as tasks:
        tasks.start(world.replica("one").run(world.schedule))
        await world.pass_time(20)
    assert world.published == []


@pytest.mark.parametrize(("missed", "made_up"), [("skip", 0), ("once", 1)])
async def test_ticks_at_which_nobody_ran(unique: str, missed: Missed, made_up: int) -> None:
    world = World(unique, missed)
    await world.turns.mark("orders.report", world.clock.wall() - 3600)
    world.clock.advance(25)
    world.schedule = Schedule("orders.report", "orders.schedule.report", Every(900), missed)
    world.clock.advance(300)
    async with Tasks() as tasks:
        tasks.start(world.replica("one").run(world.schedule))
        await world.pass_time(10)
    assert len(world.published) == made_up


async def test_who_dies_in_its_turn_is_followed_by_another(world: World) -> None:
    await world.turns.mark("orders.report", world.clock.wall())
    world.clock.advance(40)
    assert await world.turns.take("orders.report", "dead", 15)
    async with Tasks() as tasks:
        tasks.start(world.replica("one").run(world.schedule))
        await world.pass_time(10)
        assert world.published == []
        await world.pass_time(10)
    assert len(world.published) == 1


async def test_a_broker_that_is_away_delays_a_tick(world: World) -> None:
    async with Tasks() as tasks:
        tasks.start(world.replica("one").run(world.schedule))
        await world.pass_time(25)
        world.broken = True
        await world.pass_time(15)
        assert world.published == []
        world.broken = False
        await world.pass_time(5)
    assert Counter(world.published) == {"orders.report@2025-11-26T00:01:00+00:00": 1}
    assert any(isinstance(fact, TicksDelayed) for fact in world.facts)


def test_a_schedule_is_declared_with_a_name_of_its_own() -> None:
    service = Service("orders")

    @service.schedule("*/5 * * * *", zone="Europe/Berlin")
    async def report() -> None: ...

    assert [str(one.topic) for one in service.subscriptions] == ["orders.schedule.report"]
    with pytest.raises(Misconfigured, match="has a handler"):
        service.schedule(every=10, name="report")(report)
    with pytest.raises(Misconfigured):
        service.schedule()
    assert asyncio.iscoroutinefunction(report)
