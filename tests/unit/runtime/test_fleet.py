"""The replicas of one service, with processes that live in memory."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from random import Random

import pytest

from seawall.concurrency.tasks import Tasks
from seawall.errors import Refused
from seawall.runtime.fleet import MOST_REPLICAS, Fleet, Reloaded, leaving
from seawall.runtime.probe import Health
from seawall.runtime.process import Exit
from seawall.runtime.replica import Kind, Place, Started, SuccessorFailed
from seawall.runtime.restart import State
from seawall.testing.clock import ManualClock
from tests.support.waiting import eventually, settle
from tests.unit.runtime.test_replica import FakeProcess, World

NAMES = ["orders-1", "orders-2", "orders-3"]


def test_the_least_busy_goes_first() -> None:
    assert leaving(NAMES, 1, {"orders-1": 0, "orders-2": 5, "orders-3": 2}) == ["orders-1"]
    busy = {"orders-1": 4, "orders-2": 5, "orders-3": 2}
    assert leaving(NAMES, 2, busy) == ["orders-3", "orders-1"]


def test_of_equals_the_highest_number_goes() -> None:
    assert leaving(NAMES, 2, {}) == ["orders-3", "orders-2"]
    assert leaving(NAMES, 0, {}) == []


class Busy(FakeProcess):
    """Asked to go, it ends what is under way first, which it does once it is `idle`."""

    def __init__(self, pid: int, clock: ManualClock) -> None:
        super().__init__(pid, clock)
        self.idle = asyncio.Event()

    async def stop(self, grace: float) -> Exit:
        await self.idle.wait()
        return await super().stop(grace)


class Recipe:
    """Makes fake processes of the code there is, of which some is broken."""

    kind = Kind.SERVICE
    has_fixed_ports = False

    def __init__(self, world: World) -> None:
        self.world = world
        self.code = "one"
        self.kept: str | None = "one"
        self.started: list[str] = []
        self.is_busy = False
        self.busy: list[Busy] = []
        self.left: list[str] = []
        self.refusal = ""
        self.first_pid = 100
        self.broken: tuple[str, ...] = ()

    def place(self, number: int) -> Place:
        return Place(service="web", instance_id=f"web-{number}")

    def successor(self, place: Place) -> Place:
        if self.refusal:
            raise Refused(self.refusal)
        return place

    def renew(self) -> None:
        pass

    def restore(self) -> bool:
        if self.kept is None:
            return False
        self.code = self.kept
        return True

    def leave(self, place: Place) -> None:
        self.left.append(place.instance_id)

    async def start(self, place: Place, incarnation: str) -> Started:
        pid, clock = self.first_pid + len(self.started), self.world.clock
        if self.is_busy:
            self.busy.append(Busy(pid, clock))
        process = self.busy[-1] if self.is_busy else FakeProcess(pid, clock)
        self.started.append(f"{place.instance_id} {self.code}")
        if self.started[-1] in self.broken:
            process.die(3)

        async def probe() -> Health:
            return Health(self.world.healthy, "")

        return Started(process, probe)  # type: ignore[arg-type]


@asynccontextmanager
async def running_fleet(recipe: Recipe, count: int) -> AsyncIterator[Fleet]:
    world = recipe.world
    async with Tasks() as tasks:
        fleet = Fleet(
            *("web", recipe, tasks),
            observer=world.facts.append,
            clock=world.clock,
            rng=Random(1),
            on_defect=lambda: None,
        )
        await fleet.scale(count, {})
        await fleet.ready()
        yield fleet
        for process in recipe.busy:
            process.idle.set()
        await fleet.stop()


async def test_who_was_scaled_away_before_it_was_ready_is_not_waited_for() -> None:
    recipe = Recipe(World())
    async with running_fleet(recipe, 1) as fleet, Tasks() as tasks:
        recipe.world.healthy = False
        await fleet.scale(2, {})
        ready = tasks.start(fleet.ready())
        await settle()
        assert not ready.done()
        await fleet.scale(1, {})
        await ready


def names(fleet: Fleet) -> list[str]:
    return [replica.place.instance_id for replica in fleet.replicas]


async def test_who_comes_does_not_wait_for_those_that_leave() -> None:
    recipe = Recipe(World())
    recipe.is_busy = True
    async with running_fleet(recipe, 3) as fleet:
        await fleet.scale(1, {})
        assert (names(fleet), recipe.left) == (["web-1"], [])
        await fleet.scale(2, {})
        await fleet.ready()
        assert names(fleet) == ["web-1", "web-4"]  # the others have their places still
        told = {row.place.instance_id: row.state for row in fleet.snapshot()}
        assert told == {
            **{"web-1": State.READY, "web-4": State.READY},
            **{"web-2": State.STOPPING, "web-3": State.STOPPING},
        }
        assert fleet.find("web-2") is not None

        recipe.busy[1].idle.set()
        await eventually(lambda: recipe.left == ["web-2"])
        await fleet.scale(3, {})
        await fleet.ready()
        assert names(fleet) == ["web-1", "web-2", "web-4"]


async def test_those_that_leave_are_waited_for_by_who_asks() -> None:
    recipe = Recipe(World())
    recipe.is_busy = True
    async with running_fleet(recipe, 2) as fleet, Tasks() as tasks:
        await fleet.scale(0, {})
        left = tasks.start(fleet.left())
        recipe.busy[0].idle.set()
        await eventually(lambda: recipe.left == ["web-1"])
        assert not left.done()
        recipe.busy[1].idle.set()
        await left
        assert recipe.left == ["web-1", "web-2"]
        assert fleet.snapshot() == ()


async def test_where_a_person_chose_the_ports_they_are_waited_for() -> None:
    recipe = Recipe(World())
    recipe.is_busy = recipe.has_fixed_ports = True
    async with running_fleet(recipe, 2) as fleet, Tasks() as tasks:
        await fleet.scale(1, {})
        more = tasks.start(fleet.scale(2, {}))
        await settle()
        assert not more.done()
        recipe.busy[1].idle.set()
        await more
        await fleet.ready()
        assert names(fleet) == ["web-1", "web-2"]


async def test_with_those_that_leave_there_are_not_more_than_may_be() -> None:
    recipe = Recipe(World())
    recipe.is_busy = True
    async with running_fleet(recipe, 1) as fleet, Tasks() as tasks:
        await fleet.scale(0, {})
        more = tasks.start(fleet.scale(MOST_REPLICAS, {}))
        await settle()
        assert not more.done()
        recipe.busy[0].idle.set()
        await more
        await fleet.ready()
        assert fleet.desired == MOST_REPLICAS


async def test_a_reload_is_of_those_that_stay() -> None:
    recipe = Recipe(World())
    recipe.is_busy = True
    async with running_fleet(recipe, 2) as fleet:
        await fleet.scale(1, {"web-1": 1})
        recipe.is_busy = False
        recipe.busy[0].idle.set()
        recipe.code = "two"
        assert [step.instance_id for step in await reloaded(fleet)] == ["web-1"]
        assert recipe.started[2:] == ["web-1 two"]
        assert recipe.left == []


async def test_the_end_waits_for_those_that_leave() -> None:
    recipe = Recipe(World())
    recipe.is_busy = True
    async with running_fleet(recipe, 2) as fleet, Tasks() as tasks:
        await fleet.scale(1, {})
        ending = tasks.start(fleet.stop())
        recipe.busy[0].idle.set()
        await settle()
        assert not ending.done()
        fleet.kill()
        recipe.busy[1].idle.set()
        await ending
        assert sorted(recipe.left) == ["web-1", "web-2"]


async def reloaded(fleet: Fleet) -> list[Reloaded]:
    return [step async for step in fleet.reload()]


async def test_a_reload_replaces_one_after_another() -> None:
    recipe = Recipe(World())
    async with running_fleet(recipe, 2) as fleet:
        before = fleet.replicas
        recipe.code = "two"
        steps = await reloaded(fleet)
        assert [(s.instance_id, s.failed) for s in steps] == [("web-1", ""), ("web-2", "")]
        assert recipe.started[2:] == ["web-1 two", "web-2 two"]
        assert [replica.state for replica in before] == [State.STOPPED] * 2
        assert [replica.state for replica in fleet.replicas] == [State.READY] * 2
        assert recipe.left == []  # the places are still held


async def test_a_successor_that_fails_leaves_the_one_before_alone() -> None:
    recipe = Recipe(World())
    recipe.broken = ("web-1 two",)
    async with running_fleet(recipe, 2) as fleet:
        before = fleet.replicas
        recipe.code = "two"
        (step,) = await reloaded(fleet)
        assert step.failed == "exited with status 3"
        assert step.last_words == ("good bye",)
        assert fleet.replicas == before
        assert [replica.state for replica in before] == [State.READY] * 2
        assert len(recipe.world.said(SuccessorFailed)) == 1


async def test_what_was_replaced_before_a_failure_is_put_back() -> None:
    recipe = Recipe(World())
    recipe.broken = ("web-2 two",)
    async with running_fleet(recipe, 2) as fleet:
        recipe.code = "two"
        steps = await reloaded(fleet)
        assert [(s.instance_id, bool(s.failed), s.restored) for s in steps] == [
            ("web-1", False, False),
            ("web-2", True, False),
            ("web-1", False, True),
        ]
        assert recipe.started[-1] == "web-1 one"


async def test_without_the_code_from_before_what_was_replaced_stays() -> None:
    recipe = Recipe(World())
    recipe.broken, recipe.kept = ("web-2 two",), None
    async with running_fleet(recipe, 2) as fleet:
        recipe.code = "two"
        assert [step.restored for step in await reloaded(fleet)] == [False, False]


async def test_where_two_cannot_be_at_a_time_a_reload_is_refused() -> None:
    recipe = Recipe(World())
    recipe.refusal = "it has a fixed port"
    async with running_fleet(recipe, 1) as fleet:
        with pytest.raises(Refused, match="a fixed port"):
            await reloaded(fleet)
        assert fleet.replicas[0].state is State.READY


async def test_a_reload_goes_to_its_end_when_nobody_listens() -> None:
    recipe = Recipe(World())
    async with running_fleet(recipe, 2) as fleet:
        async for _ in fleet.reload():
            break
        await eventually(lambda: len(recipe.started) == 4)
        await fleet.ready()


async def test_one_instance_is_replaced_beside_itself_or_else_after_it() -> None:
    recipe = Recipe(World())
    async with running_fleet(recipe, 2) as fleet:
        first, second = fleet.replicas
        await fleet.replace("web-2")
        assert fleet.replicas[0] is first
        assert fleet.replicas[1] is not second
        recipe.refusal = "it has a fixed port"
        await fleet.replace("web-1")
        assert fleet.replicas[0] is first
        await eventually(lambda: recipe.started[2:] == ["web-2 one", "web-1 one"])


async def test_a_reload_of_what_is_being_stopped_begins_nothing() -> None:
    recipe = Recipe(World())
    async with running_fleet(recipe, 1) as fleet:
        await fleet.replicas[0].stop()
        (step,) = await reloaded(fleet)
        assert step.failed == "was stopped"
        assert len(recipe.started) == 1
