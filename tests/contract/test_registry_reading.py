"""What `Registry` promises to who reads, also where others write, as in a cluster."""

import asyncio
from collections.abc import AsyncIterator
from typing import Protocol

import pytest

from seawall.registry.base import Registry
from seawall.registry.connect import open_registry
from seawall.topology import Address, Instance, InstanceState
from tests.support.cluster import ApiServer, endpoint, slice_of
from tests.support.waiting import eventually_async


class Stage(Protocol):
    """Instances come and go on it, by whatever makes them known."""

    def opened(self) -> Registry:
        """Another handle, closed at the end."""

    async def show(self, name: str, state: InstanceState) -> None: ...

    async def remove(self, name: str) -> None: ...

    async def aclose(self) -> None: ...


class Leases:
    """Instances that hold their own leases."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._opened: list[Registry] = []
        self._own = self.opened()

    def opened(self) -> Registry:
        self._opened.append(open_registry(self._url))
        return self._opened[-1]

    async def show(self, name: str, state: InstanceState) -> None:
        await self._own.renew(_instance(name, state), ttl=30)

    async def remove(self, name: str) -> None:
        await self._own.deregister(_instance(name, InstanceState.READY))

    async def aclose(self) -> None:
        for registry in self._opened:
            await registry.aclose()


class Pods:
    """Pods, as a cluster's controllers write them down: a slice for each, of one service."""

    def __init__(self, api: ApiServer) -> None:
        from lightkube import AsyncClient, KubeConfig
        from lightkube.config.models import Cluster, User

        self._config = KubeConfig.from_one(
            cluster=Cluster(server=api.url), user=User(), namespace="shop"
        ).get()
        self._make = AsyncClient
        self._api = api
        self._opened: list[Registry] = []

    def opened(self) -> Registry:
        from seawall.registry.kubernetes import KubernetesRegistry

        self._opened.append(
            KubernetesRegistry(
                "kubernetes://shop", client=lambda t: self._make(config=self._config, timeout=t)
            )
        )
        return self._opened[-1]

    async def show(self, name: str, state: InstanceState) -> None:
        leaving = state is InstanceState.DRAINING
        pod = endpoint(name, ready=not leaving, serving=True, terminating=leaving)
        self._api.put(slice_of("orders", pod, name=f"orders-{name}"))

    async def remove(self, name: str) -> None:
        self._api.delete(f"orders-{name}")

    async def aclose(self) -> None:
        for registry in self._opened:
            await registry.aclose()


def _instance(name: str, state: InstanceState) -> Instance:
    return Instance(
        service="orders",
        version="1.4.0",
        instance_id=name,
        incarnation=f"of-{name}",
        address=Address("127.0.0.1", 8001),
        state=state,
        started_at=100.0,
    )


@pytest.fixture(params=["memory", "valkey", "kubernetes"])
async def stage(request: pytest.FixtureRequest, unique: str) -> AsyncIterator[Stage]:
    api: ApiServer | None = None
    made: Stage
    if request.param == "kubernetes":
        pytest.importorskip("lightkube")
        api = await ApiServer().start()
        made = Pods(api)
    elif request.param == "valkey":
        made = Leases(f"{request.getfixturevalue('valkey').url}?namespace={unique}")
    else:
        made = Leases(f"memory://{unique}")
    yield made
    await made.aclose()
    if api is not None:
        await api.stop()


READY, DRAINING = InstanceState.READY, InstanceState.DRAINING


async def names(registry: Registry) -> list[str]:
    return sorted(each.instance_id for each in await registry.read())


async def test_who_is_there_is_read_by_everybody(stage: Stage) -> None:
    await stage.show("a", READY)
    await stage.show("b", READY)
    for registry in (stage.opened(), stage.opened()):
        (one, other) = sorted(await registry.read(), key=lambda each: each.instance_id)
        assert (one.service, one.version, one.instance_id) == ("orders", "1.4.0", "a")
        assert (one.state, other.state) == (READY, READY)


async def test_who_left_is_gone_at_once(stage: Stage) -> None:
    registry = stage.opened()
    await stage.show("a", READY)
    await stage.show("b", READY)
    assert await names(registry) == ["a", "b"]
    await stage.remove("a")
    assert await names(registry) == ["b"]


async def test_changes_are_pushed_in_order(stage: Stage) -> None:
    async with stage.opened().changes() as changes:
        await stage.show("a", READY)
        await stage.show("b", READY)
        await stage.show("a", DRAINING)
        await stage.remove("a")
        async with asyncio.timeout(10):
            seen = [await anext(changes) for _ in range(4)]
    assert [(each.instance_id, each.state.value) for each in seen] == [
        ("a", "ready"),
        ("b", "ready"),
        ("a", "draining"),
        ("a", "gone"),
    ]


async def test_a_change_names_the_incarnation_that_was_read(stage: Stage) -> None:
    """Else a watcher would take who left for somebody else."""
    registry = stage.opened()
    await stage.show("a", READY)
    async with registry.changes() as changes:
        (read,) = await registry.read()
        await stage.remove("a")
        async with asyncio.timeout(10):
            gone = await anext(changes)
    assert (gone.state, gone.incarnation) == (InstanceState.GONE, read.incarnation)


async def test_nothing_is_missed_once_the_stream_is_open(stage: Stage) -> None:
    registry = stage.opened()
    async with registry.changes() as changes:
        for number in range(20):
            await stage.show(f"n{number}", READY)
        async with asyncio.timeout(10):
            seen = [(await anext(changes)).instance_id for _ in range(20)]

        async def all_read() -> bool:
            return len(await registry.read()) == 20

        await eventually_async(all_read)
    assert seen == [f"n{number}" for number in range(20)]


async def test_every_stream_gets_every_change(stage: Stage) -> None:
    async with stage.opened().changes() as here, stage.opened().changes() as there:
        await stage.show("a", READY)
        async with asyncio.timeout(10):
            assert await anext(here) == await anext(there)


async def test_closing_twice_is_fine_and_nobody_leaves(stage: Stage) -> None:
    await stage.show("a", READY)
    registry = stage.opened()
    assert await names(registry) == ["a"]
    await registry.aclose()
    await registry.aclose()
    assert await names(stage.opened()) == ["a"]
