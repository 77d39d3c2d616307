"""A service that sleeps: its place is kept and known, and who comes wakes it."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from random import Random

import pytest

from seawall.concurrency.tasks import Tasks
from seawall.registry.memory import MemoryRegistry
from seawall.runtime.door import Door
from seawall.runtime.fleet import Fleet
from seawall.runtime.registration import Registrar
from seawall.runtime.replica import Place
from seawall.runtime.sockets import listen
from seawall.topology import Address, Instance, InstanceState
from tests.support.waiting import eventually, eventually_async, settle
from tests.unit.runtime.test_fleet import Recipe
from tests.unit.runtime.test_replica import World


class Listening(Recipe):
    """Its places have a socket, which the processes in it do not use."""

    standbys = None

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self.listener = listen("127.0.0.1", 0)

    def place(self, number: int) -> Place:
        address = Address("127.0.0.1", self.listener.getsockname()[1])
        return Place(service="web", instance_id=f"web-{number}", address=address)

    def door(self, place: Place) -> socket.socket:
        return self.listener

    def someone(self) -> socket.socket:
        return socket.create_connection(self.listener.getsockname())


class House:
    """A fleet of one service, its door, and a registry in memory."""

    def __init__(self, recipe: Listening, unique: str, tasks: Tasks) -> None:
        world = recipe.world
        self.registry = MemoryRegistry(unique, clock=world.clock)
        self.registrar = Registrar(
            self.registry, tasks, observer=world.facts.append, clock=world.clock
        )
        self.door = Door(self.registrar)
        self.fleet = Fleet(
            *("web", recipe, tasks),
            observer=self.registrar,
            clock=world.clock,
            rng=Random(1),
            on_defect=lambda: None,
        )

    async def known(self) -> list[tuple[str, str]]:
        found = await self.registry.read()
        return sorted((i.instance_id, i.version) for i in found if i.state is InstanceState.READY)

    async def nobody(self) -> bool:
        return not await self.known()


@pytest.fixture
async def recipe() -> AsyncIterator[Listening]:
    made = Listening(World())
    yield made
    made.listener.close()


@asynccontextmanager
async def asleep(recipe: Listening, unique: str) -> AsyncIterator[House]:
    async with Tasks() as tasks:
        house = House(recipe, unique, tasks)
        await house.fleet.scale(2, {})
        await house.fleet.ready()
        said = Instance(
            service="web",
            version="3.1.0",
            instance_id="web-1",
            incarnation="one",
            address=recipe.place(1).address or Address("", 0),
            state=InstanceState.READY,
        )
        await house.registry.renew(said)
        await house.fleet.scale(0, {"web-1": 5}, house.door)
        await house.fleet.left()
        await house.registry.deregister(said)  # as the service does when it leaves
        yield house
        await house.fleet.stop()
        await eventually_async(house.nobody)


async def test_the_last_place_stays_known_as_what_was_there(recipe: Listening, unique: str) -> None:
    async with asleep(recipe, unique) as house:
        assert house.fleet.asleep
        assert house.fleet.desired == 0
        assert recipe.left == ["web-2"]
        assert await house.known() == [("web-1-asleep", "3.1.0")]
        assert not house.door.rang.is_set()


async def test_who_comes_rings_and_waits_for_the_next_replica(
    recipe: Listening, unique: str
) -> None:
    async with asleep(recipe, unique) as house:
        with recipe.someone():
            async with asyncio.timeout(10):
                await house.door.rang.wait()
            await house.fleet.scale(1, {})
            await house.fleet.ready()
            assert not house.fleet.asleep
            assert [r.place.instance_id for r in house.fleet.replicas] == ["web-1"]
            accepted, _ = recipe.listener.accept()  # nobody else took the connection
            accepted.close()
        # The replica, which is ready, speaks for itself.
        await eventually_async(house.nobody)


async def test_it_sleeps_again_and_is_woken_again(recipe: Listening, unique: str) -> None:
    async with asleep(recipe, unique) as house:
        for _ in range(2):
            with recipe.someone():
                await eventually(house.door.rang.is_set)
                house.door.rang.clear()
                await house.fleet.scale(1, {})
                await house.fleet.ready()
                recipe.listener.accept()[0].close()
            await house.fleet.scale(0, {}, house.door)
            await house.fleet.left()
            assert house.fleet.asleep


async def test_a_persons_none_is_none(recipe: Listening, unique: str) -> None:
    async with asleep(recipe, unique) as house:
        await house.fleet.scale(0, {})
        assert not house.fleet.asleep
        assert recipe.left == ["web-2", "web-1"]
        await eventually_async(house.nobody)
        with recipe.someone():
            await settle()
            assert not house.door.rang.is_set()


async def test_the_end_of_the_project_ends_what_sleeps(recipe: Listening, unique: str) -> None:
    async with asleep(recipe, unique) as house:
        await house.fleet.stop()
        assert recipe.left == ["web-2", "web-1"]
        await eventually_async(house.nobody)


@asynccontextmanager
async def falling_asleep(recipe: Listening, unique: str) -> AsyncIterator[House]:
    """The last replica has work under way still."""
    async with Tasks() as tasks:
        house = House(recipe, unique, tasks)
        recipe.is_busy = True
        await house.fleet.scale(1, {})
        await house.fleet.ready()
        await house.fleet.scale(0, {}, house.door)
        yield house
        for process in recipe.busy:
            process.idle.set()
        await house.fleet.stop()
        await eventually_async(house.nobody)


async def test_who_is_wanted_while_the_last_one_leaves_comes_to_its_place_at_once(
    recipe: Listening, unique: str
) -> None:
    async with falling_asleep(recipe, unique) as house:
        assert house.fleet.asleep
        await house.fleet.scale(2, {})
        await house.fleet.ready()
        assert not house.fleet.asleep
        assert [r.place.instance_id for r in house.fleet.replicas] == ["web-1", "web-2"]
        recipe.busy[0].idle.set()
        await house.fleet.left()
        assert recipe.left == []  # its place has another
        with recipe.someone():
            await settle()
            assert not house.door.rang.is_set()
            recipe.listener.accept()[0].close()
        await eventually_async(house.nobody)


async def test_a_place_that_was_woken_and_left_again_is_kept_for_who_left_first(
    recipe: Listening, unique: str
) -> None:
    async with falling_asleep(recipe, unique) as house:
        await house.fleet.scale(1, {})
        await house.fleet.ready()
        await house.fleet.scale(0, {})
        recipe.busy[1].idle.set()
        await eventually(lambda: len(house.fleet.snapshot()) == 1)
        assert recipe.left == []
        recipe.busy[0].idle.set()
        await house.fleet.left()
        assert recipe.left == ["web-1"]


async def test_a_persons_none_is_none_also_while_the_last_one_leaves(
    recipe: Listening, unique: str
) -> None:
    async with falling_asleep(recipe, unique) as house:
        await house.fleet.scale(0, {})
        assert not house.fleet.asleep
        assert recipe.left == []
        recipe.busy[0].idle.set()
        await house.fleet.left()
        assert recipe.left == ["web-1"]
        await eventually_async(house.nobody)
