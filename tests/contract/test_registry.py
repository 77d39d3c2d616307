"""What `seawall.registry.base.Registry` promises, for every implementation."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from dataclasses import replace

import pytest

from seawall.clock import SYSTEM
from seawall.concurrency.tasks import running
from seawall.registry.base import Registry
from seawall.registry.connect import open_registry
from seawall.topology import Address, Instance, InstanceState
from tests.support.waiting import eventually_async

Opener = Callable[[], Registry]


def instance(
    instance_id: str = "orders-1",
    *,
    service: str = "orders",
    incarnation: str = "first",
    state: InstanceState = InstanceState.READY,
    started_at: float = 100.0,
) -> Instance:
    return Instance(
        service=service,
        version="1.4.0",
        instance_id=instance_id,
        incarnation=incarnation,
        address=Address("127.0.0.1", 8001),
        state=state,
        needs=("inventory",),
        started_at=started_at,
        zone="b",
        priority=1,
        metadata={"zone": "a", "quote": 'ä"\n€'},
    )


@pytest.fixture
async def opener(space: str) -> AsyncIterator[Opener]:
    """Opens handles on one registry of this test's own."""
    opened: list[Registry] = []

    def open_one() -> Registry:
        opened.append(open_registry(space))
        return opened[-1]

    yield open_one
    for registry in opened:
        await registry.aclose()


@pytest.fixture
def registry(opener: Opener) -> Registry:
    return opener()


async def test_a_renewed_instance_is_read_whole_by_everybody(
    registry: Registry, opener: Opener
) -> None:
    one = replace(instance(), loop_lag=0.25, in_flight=7)
    assert await registry.renew(one)
    assert await opener().read() == (one,)


async def test_each_instance_has_its_own_place(registry: Registry) -> None:
    both = {"orders-1", "orders-2"}
    for name in both:
        await registry.renew(instance(name))
    await registry.renew(instance("orders-1", service="other"))
    read = await registry.read()
    assert {i.instance_id for i in read if i.service == "orders"} == both
    assert len(read) == 3


async def test_a_lease_that_is_not_renewed_runs_out(registry: Registry) -> None:
    await registry.renew(instance("long"), ttl=30)
    began = SYSTEM.now()
    await registry.renew(instance("short"), ttl=0.2)

    async def only_the_long_one() -> bool:
        return [i.instance_id for i in await registry.read()] == ["long"]

    await eventually_async(only_the_long_one, within=1.0)
    assert SYSTEM.now() - began > 0.15


async def test_renewing_keeps_the_lease(registry: Registry) -> None:
    began = SYSTEM.now()
    while SYSTEM.now() - began < 1.2:
        await registry.renew(instance(), ttl=1.0)
        await SYSTEM.sleep(0.05)
        assert await registry.read()


async def test_deregistered_is_gone_at_once_and_for_good(registry: Registry) -> None:
    await registry.renew(instance())
    assert await registry.deregister(instance())
    assert await registry.read() == ()
    assert not await registry.deregister(instance())
    # A beat that was under way arrives late.
    assert not await registry.renew(instance())
    assert await registry.read() == ()


async def test_a_successor_takes_the_place_of_one_that_left(registry: Registry) -> None:
    await registry.renew(instance())
    await registry.deregister(instance())
    assert await registry.renew(instance(incarnation="second", started_at=200))
    assert [i.incarnation for i in await registry.read()] == ["second"]


async def test_an_old_incarnation_can_neither_renew_nor_remove_its_successor(
    registry: Registry,
) -> None:
    old, new = instance(), instance(incarnation="second", started_at=200)
    await registry.renew(old)
    assert await registry.renew(new)
    assert not await registry.renew(old)
    assert not await registry.deregister(old)
    assert await registry.read() == (new,)


async def test_an_old_incarnation_may_return_when_its_successor_is_gone(
    registry: Registry,
) -> None:
    await registry.renew(instance(incarnation="second", started_at=200), ttl=0.1)

    async def old_is_back() -> bool:
        return await registry.renew(instance())

    await eventually_async(old_is_back, within=1.0)
    assert [i.incarnation for i in await registry.read()] == ["first"]


async def test_a_state_moves_only_forward(registry: Registry) -> None:
    assert await registry.renew(instance(state=InstanceState.STARTING))
    assert await registry.renew(instance(state=InstanceState.DRAINING))
    assert not await registry.renew(instance(state=InstanceState.READY))
    assert [i.state for i in await registry.read()] == [InstanceState.DRAINING]


async def test_changes_are_pushed_in_order_and_measurements_are_not(
    registry: Registry, opener: Opener
) -> None:
    one = instance(state=InstanceState.STARTING)
    async with registry.changes() as changes:
        other = opener()
        await other.renew(one)
        await other.renew(replace(one, loop_lag=3.0, in_flight=9))
        await other.renew(one.moved(InstanceState.READY))
        await other.renew(replace(one.moved(InstanceState.READY), in_flight=1))
        await other.renew(replace(one.moved(InstanceState.READY), weight=10))
        await other.deregister(one)
        async with asyncio.timeout(10):
            seen = [await anext(changes) for _ in range(4)]
    assert [(i.state.value, i.weight) for i in seen] == [
        ("starting", 100),
        ("ready", 100),
        ("ready", 10),
        ("gone", 10),
    ]


async def test_a_change_is_seen_at_once(registry: Registry, opener: Opener) -> None:
    other = opener()
    await other.read()  # connected
    async with registry.changes() as changes:
        for n in range(10):
            await other.renew(instance(f"orders-{n}"))
            async with asyncio.timeout(10):
                assert (await anext(changes)).instance_id == f"orders-{n}"


async def test_a_lapsed_lease_is_announced_as_gone(registry: Registry) -> None:
    await registry.renew(instance(), ttl=0.1)
    async with registry.changes() as changes:

        async def nobody() -> bool:
            return not await registry.read()

        await eventually_async(nobody, within=1.0)
        async with asyncio.timeout(10):
            gone = await anext(changes)
    assert (gone.instance_id, gone.state) == ("orders-1", InstanceState.GONE)


async def test_a_renewal_sweeps_the_leases_of_others(registry: Registry) -> None:
    for name in ("a", "b", "c"):
        await registry.renew(instance(name), ttl=30)
    await registry.renew(instance("short"), ttl=0.05)
    async with registry.changes() as changes, running(anext(changes)) as gone:
        while not gone.done():
            await registry.renew(instance("a"), ttl=30)
            await SYSTEM.sleep(0.02)
    assert (gone.result().instance_id, gone.result().state) == ("short", InstanceState.GONE)


async def test_every_stream_gets_every_change(registry: Registry, opener: Opener) -> None:
    async with registry.changes() as here, opener().changes() as there:
        await registry.renew(instance())
        async with asyncio.timeout(10):
            assert await anext(here) == await anext(there) == instance()


async def test_closing_twice_is_fine_and_leases_stay(registry: Registry, opener: Opener) -> None:
    await registry.renew(instance())
    another = opener()
    await registry.aclose()
    await registry.aclose()
    assert await another.read() == (instance(),)


async def test_a_cancelled_call_leaves_the_registry_usable(registry: Registry) -> None:
    for n in range(30):  # each time a little further into the call
        with suppress(TimeoutError):
            async with asyncio.timeout(n * 0.0001):
                await registry.renew(instance())
    assert await registry.renew(instance("orders-2"))
    assert "orders-2" in {i.instance_id for i in await registry.read()}


async def test_many_at_once(registry: Registry) -> None:
    names = [f"orders-{n}" for n in range(100)]
    async with asyncio.TaskGroup() as tasks:
        for name in names:
            tasks.create_task(registry.renew(instance(name)))
    assert sorted(i.instance_id for i in await registry.read()) == sorted(names)
