import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from random import Random

import pytest

from seawall.errors import Misconfigured, NoInstance, Unavailable
from seawall.registry.base import DEFAULT_TTL
from seawall.registry.memory import MemoryRegistry
from seawall.registry.watcher import (
    InstancesSuspected,
    View,
    Watcher,
    WatcherConfig,
    WatchLost,
    WatchRestored,
)
from seawall.testing.clock import NOW, ManualClock
from seawall.topology import Constraint, Instance, InstanceState
from tests.support.waiting import eventually
from tests.unit.registry.instances import instance


class Failing:
    """A memory registry that can be cut off, and forgets nothing meanwhile."""

    def __init__(self, name: str, clock: ManualClock) -> None:
        self.inner = MemoryRegistry(name, clock=clock)
        self.down = asyncio.Event()
        self.reads = 0
        self.silent = False  # loses what it would push
        self.hangs = False

    async def renew(self, instance: Instance, ttl: float = DEFAULT_TTL) -> bool:
        return await self.inner.renew(instance, ttl)

    async def deregister(self, instance: Instance) -> bool:
        return await self.inner.deregister(instance)

    async def read(self) -> Sequence[Instance]:
        if self.hangs:
            await asyncio.Event().wait()
        if self.down.is_set():
            raise Unavailable("cut off")
        self.reads += 1
        return await self.inner.read()

    @asynccontextmanager
    async def changes(self) -> AsyncIterator[AsyncIterator[Instance]]:
        if self.down.is_set():
            raise Unavailable("cut off")
        async with self.inner.changes() as changes:
            yield self._until_down(changes)

    async def _until_down(self, changes: AsyncIterator[Instance]) -> AsyncIterator[Instance]:
        while True:
            async with asyncio.TaskGroup() as tasks:
                change = tasks.create_task(anext(changes))  # type: ignore[arg-type]
                down = tasks.create_task(self.down.wait())
                await asyncio.wait((change, down), return_when=asyncio.FIRST_COMPLETED)
                for task in (change, down):
                    task.cancel()
            if self.down.is_set():
                raise Unavailable("cut off")
            if not self.silent:
                yield change.result()

    async def aclose(self) -> None:
        await self.inner.aclose()


class World:
    def __init__(self, name: str) -> None:
        self.clock = ManualClock()
        self.registry = Failing(name, self.clock)
        self.facts: list[object] = []
        self.watcher = Watcher(
            self.registry,
            observer=self.facts.append,
            clock=self.clock,
            rng=Random(1),
            config=WatcherConfig(first_within=0.2),
        )

    def names(self) -> list[str]:
        return [one.instance_id for one in self.watcher.view.instances]

    async def read_again(self) -> None:
        """Let the next full reading happen."""
        reads = self.registry.reads
        await eventually(lambda: self.clock.sleeping > 0)
        self.clock.advance(6.0)
        await eventually(lambda: self.registry.reads > reads)

    async def cut_off(self) -> None:
        self.registry.down.set()
        await eventually(lambda: self.watcher.view.stale)

    async def heal(self) -> None:
        self.registry.down.clear()
        await eventually(lambda: self.clock.sleeping > 0)
        self.clock.advance(2.0)
        await eventually(lambda: not self.watcher.view.stale)


@pytest.fixture
async def world(unique: str) -> World:
    return World(unique)


async def test_it_enters_with_what_is_there(world: World) -> None:
    await world.registry.renew(instance())
    async with world.watcher as watcher:
        assert watcher.view == View((instance(),), stale=False, read_at=NOW)
        assert watcher.resolve("orders") == (instance(),)


async def test_changes_arrive_by_push(world: World) -> None:
    async with world.watcher:
        await world.registry.renew(instance())
        await eventually(lambda: world.names() == ["orders-1"])
        await world.registry.deregister(instance())
        await eventually(lambda: world.names() == [])
    assert world.registry.reads == 1


async def test_a_lost_push_is_made_good_by_reading(world: World) -> None:
    async with world.watcher:
        world.registry.silent = True
        await world.registry.renew(instance(), ttl=100)
        await world.read_again()
        await eventually(lambda: world.names() == ["orders-1"])
        await world.registry.deregister(instance())
        await world.read_again()
        await eventually(lambda: world.names() == [])


async def test_with_the_registry_down_it_enters_stale_and_fills_by_itself(world: World) -> None:
    world.registry.down.set()
    await world.registry.renew(instance(), ttl=100)
    async with world.watcher:
        assert world.watcher.view == View()
        with pytest.raises(NoInstance, match="the registry cannot be reached"):
            world.watcher.resolve("orders")
        await world.heal()
        assert world.names() == ["orders-1"]


async def test_with_a_registry_that_hangs_it_enters_all_the_same(world: World) -> None:
    world.registry.hangs = True
    async with world.watcher:
        assert world.watcher.view.stale
        assert isinstance(world.facts[0], WatchLost)


async def test_the_last_view_outlives_an_outage(world: World) -> None:
    await world.registry.renew(instance(), ttl=1000)
    async with world.watcher as watcher:
        await world.cut_off()
        world.clock.advance(100)
        assert watcher.resolve("orders") == (instance(),)
        await world.registry.renew(instance("orders-2"), ttl=1000)
        await world.heal()
        assert world.names() == ["orders-1", "orders-2"]
    lost, restored = world.facts
    assert lost == WatchLost("cut off", NOW)
    assert restored == WatchRestored(away=restored.at - NOW, at=restored.at)  # type: ignore[attr-defined]


async def test_mass_expiry_in_an_outage_empties_nothing_for_one_more_lease(world: World) -> None:
    three = [instance(f"orders-{n}") for n in range(3)]
    for one in three:
        await world.registry.renew(one, ttl=10)
    async with world.watcher as watcher:
        await world.cut_off()
        world.clock.advance(60)
        await world.heal()
        assert len(watcher.resolve("orders")) == 3
        assert [type(f) for f in world.facts] == [WatchLost, WatchRestored, InstancesSuspected]
        await world.registry.renew(three[0], ttl=100)  # it lives
        await world.read_again()
        await world.read_again()
        await eventually(lambda: world.names() == ["orders-0"])


async def test_subscribers_hear_of_every_change_until_they_leave(world: World) -> None:
    heard: list[tuple[int, bool]] = []
    async with world.watcher as watcher:
        leave = watcher.subscribe(lambda view: heard.append((len(view.instances), view.stale)))
        assert heard == [(0, False)]
        await world.registry.renew(instance())
        await eventually(lambda: heard[-1] == (1, False))
        await world.cut_off()
        await eventually(lambda: heard[-1] == (1, True))
        leave()
        leave()
        await world.heal()
    assert heard == [(0, False), (1, False), (1, True)]


async def test_who_left_is_not_told_what_was_under_way(world: World) -> None:
    first: list[View] = []
    second: list[View] = []
    async with world.watcher as watcher:
        leaving: list[Callable[[], None]] = []

        def hear(view: View) -> None:
            first.append(view)
            for leave in leaving:
                leave()

        watcher.subscribe(hear)
        leaving.append(watcher.subscribe(second.append))
        await world.registry.renew(instance())
        await eventually(lambda: len(first) == 2)
        await world.cut_off()
        await eventually(lambda: len(first) == 3)
    assert len(second) == 1


async def test_a_reading_that_says_the_same_is_not_told(world: World) -> None:
    await world.registry.renew(instance(), ttl=1000)
    heard: list[View] = []
    async with world.watcher as watcher:
        watcher.subscribe(heard.append)
        await world.read_again()
        await world.read_again()
        assert len(heard) == 1
        assert watcher.view.read_at > heard[0].read_at


async def test_resolution_is_by_version_and_follows_changes(world: World) -> None:
    await world.registry.renew(instance("a", version="1.9.0"))
    async with world.watcher as watcher:
        wanted = Constraint.parse(">=1.10")
        with pytest.raises(NoInstance, match=r"versions seen: 1\.9\.0"):
            watcher.resolve("orders", wanted)
        await world.registry.renew(instance("b", version="1.10.0"))
        await eventually(lambda: len(world.names()) == 2)
        assert [i.instance_id for i in watcher.resolve("orders", wanted)] == ["b"]
        await world.registry.renew(instance("b", version="1.10.0", state=InstanceState.DRAINING))
        await eventually(lambda: watcher.view.instances[1].state is InstanceState.DRAINING)
        with pytest.raises(NoInstance, match="draining"):
            watcher.resolve("orders", wanted)


async def test_after_its_block_the_view_says_it_is_stale(world: World) -> None:
    async with world.watcher as watcher:
        assert not watcher.view.stale
    assert watcher.view.stale


async def test_a_failure_of_the_block_ends_it_cleanly(world: World) -> None:
    with pytest.raises(KeyError):
        async with world.watcher:
            raise KeyError


def test_a_watcher_reads_in_seconds_above_zero() -> None:
    with pytest.raises(Misconfigured):
        WatcherConfig(reread=0)
