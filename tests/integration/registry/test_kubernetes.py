"""The cluster as the registry: lists, watches, and all that happens to an API server."""

import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

pytest.importorskip("lightkube")

import httpx2
from lightkube import AsyncClient, KubeConfig
from lightkube.config.models import Cluster, User

from seawall.errors import Misconfigured, Unavailable
from seawall.registry.connect import open_registry
from seawall.registry.kubernetes import KubernetesRegistry
from seawall.registry.watcher import Watcher, WatchLost, WatchRestored
from tests.support.cluster import ApiServer, endpoint, slice_of
from tests.support.waiting import eventually


@pytest.fixture
async def api() -> AsyncIterator[ApiServer]:
    server = await ApiServer().start()
    yield server
    await server.stop()


def client(api: ApiServer) -> Callable[[httpx2.Timeout], AsyncClient]:
    config = KubeConfig.from_one(
        cluster=Cluster(server=api.url), user=User(token="secret"), namespace=api.namespace
    )
    return lambda timeout: AsyncClient(config=config.get(), timeout=timeout)


@pytest.fixture
async def registry(api: ApiServer) -> AsyncIterator[KubernetesRegistry]:
    opened = KubernetesRegistry("kubernetes://shop", client=client(api))
    yield opened
    await opened.aclose()


@pytest.fixture
async def facts() -> list[object]:
    return []


@pytest.fixture
async def watcher(registry: KubernetesRegistry, facts: list[object]) -> AsyncIterator[Watcher]:
    async with Watcher(registry, observer=facts.append) as watching:
        yield watching


def seen(watcher: Watcher) -> set[str]:
    return {each.instance_id for each in watcher.view.instances}


async def test_pods_come_drain_and_go(api: ApiServer, watcher: Watcher) -> None:
    assert (watcher.view.instances, watcher.view.stale) == ((), False)
    api.put(slice_of("orders", endpoint("a"), endpoint("b", "10.0.0.2")))
    await eventually(lambda: seen(watcher) == {"a", "b"})
    # A pod whose probe fails is not asked; when it passes again, it is.
    api.put(slice_of("orders", endpoint("a"), endpoint("b", "10.0.0.2", ready=False)))
    await eventually(lambda: seen(watcher) == {"a"})
    api.put(slice_of("orders", endpoint("a"), endpoint("b", "10.0.0.2")))
    await eventually(lambda: len(watcher.resolve("orders")) == 2)
    leaving = endpoint("a", ready=False, serving=True, terminating=True)
    api.put(slice_of("orders", leaving, endpoint("b", "10.0.0.2")))
    await eventually(lambda: [i.instance_id for i in watcher.resolve("orders")] == ["b"])
    api.delete("orders-abcde")
    await eventually(lambda: seen(watcher) == set())


async def test_who_knows_nothing_of_seawall_is_seen(api: ApiServer, watcher: Watcher) -> None:
    ports = [{"name": None, "port": 3000, "protocol": "TCP"}]
    api.put(slice_of("live", endpoint("live-1"), ports=ports))
    await eventually(lambda: seen(watcher) == {"live-1"})
    (one,) = watcher.resolve("live")
    assert one.address.port == 3000


async def test_a_watch_begins_again_where_its_past_is_forgotten(
    api: ApiServer, watcher: Watcher, facts: list[object]
) -> None:
    api.put(slice_of("orders", endpoint("a")))
    await eventually(lambda: seen(watcher) == {"a"})
    lists = api.lists
    api.forget()
    api.put(slice_of("orders", endpoint("b")))  # which no event tells any more
    await eventually(lambda: seen(watcher) == {"b"})
    assert api.lists > lists
    assert not watcher.view.stale
    assert facts == []  # nobody need know


async def test_bookmarks_change_nothing(api: ApiServer, watcher: Watcher) -> None:
    api.put(slice_of("orders", endpoint("a")))
    api.bookmark()
    api.put(slice_of("users", endpoint("u")))
    await eventually(lambda: seen(watcher) == {"a", "u"})


async def test_the_view_outlives_the_api_server(
    api: ApiServer, watcher: Watcher, facts: list[object]
) -> None:
    api.put(slice_of("orders", endpoint("a")))
    await eventually(lambda: seen(watcher) == {"a"})
    await api.stop()
    await eventually(lambda: watcher.view.stale)
    assert [i.instance_id for i in watcher.resolve("orders")] == ["a"]
    assert isinstance(facts[0], WatchLost)
    api.put(slice_of("orders", endpoint("a"), endpoint("b", "10.0.0.2")))
    await api.start()
    await eventually(lambda: not watcher.view.stale and seen(watcher) == {"a", "b"})
    assert isinstance(facts[-1], WatchRestored)


async def test_a_connection_that_breaks_is_made_anew(api: ApiServer, watcher: Watcher) -> None:
    api.put(slice_of("orders", endpoint("a")))
    await eventually(lambda: seen(watcher) == {"a"})
    api.cut()
    api.put(slice_of("orders", endpoint("a"), endpoint("b", "10.0.0.2")))
    await eventually(lambda: seen(watcher) == {"a", "b"} and not watcher.view.stale)


async def test_after_silence_everything_is_read_again(api: ApiServer) -> None:
    facts: list[object] = []
    registry = KubernetesRegistry("kubernetes://shop", client=client(api), quiet=0.05)
    async with Watcher(registry, observer=facts.append):
        await eventually(lambda: api.lists > 3)
    assert facts == []  # it is no failure
    await registry.aclose()


async def test_a_watch_stands_and_is_not_asked_twice(api: ApiServer, watcher: Watcher) -> None:
    api.put(slice_of("orders", endpoint("a")))
    await eventually(lambda: seen(watcher) == {"a"} and api.watches == 1)
    assert api.lists == 1
    assert api.tokens == {"Bearer secret"}


async def test_other_projects_may_be_left_out(api: ApiServer) -> None:
    api.put(slice_of("orders", endpoint("a")))
    api.put(slice_of("other", endpoint("o"), project="bank"))
    registry = KubernetesRegistry("kubernetes://shop", project="shop", client=client(api))
    async with Watcher(registry) as watching:
        api.put(slice_of("another", endpoint("p"), project="bank"))
        api.put(slice_of("users", endpoint("u")))
        await eventually(lambda: seen(watching) == {"a", "u"})
    await registry.aclose()


async def test_who_may_not_ask_is_told_what_allows_it(
    api: ApiServer, registry: KubernetesRegistry
) -> None:
    api.refusing = 403
    with pytest.raises(Unavailable, match=r"forbidden .*Role of `seawall deploy kubernetes`"):
        await registry.read()
    api.refusing = 0
    assert await registry.read() == ()


async def test_it_is_found_by_kubeconfig(
    api: ApiServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tmp_path / "config"
    monkeypatch.setenv("KUBECONFIG", str(config))
    registry = open_registry("kubernetes://?project=shop")
    with pytest.raises(Misconfigured, match="no cluster is known here"):
        await registry.read()
    config.write_text(
        json.dumps(
            {
                "current-context": "here",
                "clusters": [{"name": "c", "cluster": {"server": api.url}}],
                "users": [{"name": "u", "user": {"token": "secret"}}],
                "contexts": [
                    {"name": "here", "context": {"cluster": "c", "user": "u", "namespace": "shop"}}
                ],
            }
        )
    )
    api.put(slice_of("orders", endpoint("a")))
    assert [each.instance_id for each in await registry.read()] == ["a"]
    await registry.aclose()
