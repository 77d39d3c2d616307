"""A real server that is flushed, killed, paused; a real process that is killed."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack
from dataclasses import replace
from typing import Any, TypeVar

import pytest
from redis.asyncio import Redis

from seawall.clock import SYSTEM
from seawall.errors import Unavailable
from seawall.registry.base import Registry
from seawall.registry.connect import open_registry
from seawall.registry.heartbeat import Heartbeat
from seawall.registry.valkey import RecordUnreadable, ValkeyRegistry
from seawall.registry.watcher import InstancesSuspected, Watcher, WatcherConfig
from seawall.topology import InstanceState
from tests.support import servers
from tests.support.waiting import eventually, eventually_async
from tests.unit.registry.instances import instance

R = TypeVar("R", bound=Registry)

TTL = 1.5  # seconds; a beat is 0.5


@pytest.fixture(params=["valkey", "redis"])
def server(request: pytest.FixtureRequest) -> Iterator[servers.RespServer]:
    """A server of this test's own, to be hurt."""
    started = {"valkey": servers.valkey, "redis": servers.redis}[request.param]()
    yield started
    started.stop()


Opened = Callable[[R], R]


@pytest.fixture
async def opened() -> AsyncIterator[Opened[Any]]:
    """Closes what it is given at the end, whatever the test comes to."""
    async with AsyncExitStack() as stack:

        def keep(registry: Registry) -> Registry:
            stack.push_async_callback(registry.aclose)
            return registry

        yield keep


async def command(server: servers.RespServer, *words: str) -> object:
    async with Redis.from_url(server.url, driver_info=None) as redis:
        return await redis.execute_command(*words)


def config(**changes: float) -> WatcherConfig:
    return replace(WatcherConfig(reread=0.3, lease=TTL, retry_cap=0.3), **changes)


async def beats(stack: AsyncExitStack, url: str, count: int) -> list[Heartbeat]:
    made = [Heartbeat(url, instance(f"orders-{n}"), ttl=TTL) for n in range(count)]
    for heartbeat in made:
        await stack.enter_async_context(heartbeat)
    await eventually(lambda: all(heartbeat.snapshot().beats for heartbeat in made))
    return made


async def test_a_flushed_registry_is_whole_within_one_beat(
    opened: Opened[Any], server: servers.RespServer
) -> None:
    facts: list[object] = []
    async with AsyncExitStack() as stack:
        await beats(stack, server.url, 5)
        registry = opened(open_registry(server.url))
        watcher = await stack.enter_async_context(
            Watcher(registry, config=config(), observer=facts.append)
        )
        assert len(watcher.resolve("orders")) == 5
        least = 5

        def count(_: object) -> None:
            nonlocal least
            least = min(least, len(watcher.view.instances))

        watcher.subscribe(count)
        for _ in range(3):
            await command(server, "FLUSHALL")

            async def whole() -> bool:
                return len(await registry.read()) == 5

            await eventually_async(whole, within=2.0)
        assert least >= 2  # the view was never empty; on an idle machine 4 and more


async def test_a_killed_and_restarted_server_is_survived_under_load(
    opened: Opened[Any],
    server: servers.RespServer,
) -> None:
    async with AsyncExitStack() as stack:
        made = await beats(stack, server.url, 5)
        registry = opened(open_registry(server.url))
        watcher = await stack.enter_async_context(Watcher(registry, config=config()))
        server.kill()
        await eventually(lambda: watcher.view.stale)
        assert len(watcher.resolve("orders")) == 5
        with pytest.raises(Unavailable):
            await registry.read()
        await eventually(lambda: all(one.snapshot().missed for one in made))
        before = [one.snapshot().beats for one in made]
        await asyncio.to_thread(server.start)
        await eventually(
            lambda: all(one.snapshot().beats > n for one, n in zip(made, before, strict=True)),
            within=TTL / 3 + 1.0,
        )
        await eventually(lambda: not watcher.view.stale)
        assert len(watcher.resolve("orders")) == 5
        # And what happens from here on is pushed again.
        made[0].move(InstanceState.DRAINING)
        await eventually(lambda: len(watcher.resolve("orders")) == 4)


async def test_a_paused_server_hangs_nobody(
    opened: Opened[Any], server: servers.RespServer
) -> None:
    async with AsyncExitStack() as stack:
        made = await beats(stack, server.url, 3)
        registry = opened(ValkeyRegistry(server.url, patience=1.0))
        facts: list[object] = []
        watcher = await stack.enter_async_context(
            Watcher(registry, config=config(lease=5.0), observer=facts.append)
        )
        server.pause()
        stack.callback(server.resume)
        began = SYSTEM.now()
        async with asyncio.TaskGroup() as tasks:
            calls = [tasks.create_task(_unavailable(registry)) for _ in range(20)]
        assert all(call.result() for call in calls)
        assert SYSTEM.now() - began < 10.0  # one after another would take 20 s
        await eventually(lambda: watcher.view.stale)
        await eventually(lambda: SYSTEM.now() - began > TTL * 1.3)  # every lease ran out
        server.resume()
        await eventually(lambda: not watcher.view.stale)
        assert len(watcher.view.instances) == 3
        await eventually(
            lambda: len(watcher.view.instances) == 3 and not watcher.view.suspects, within=4
        )
        assert all(one.snapshot().beats for one in made)
        assert all(isinstance(f, InstancesSuspected) or "Watch" in repr(f) for f in facts)


async def _unavailable(registry: ValkeyRegistry) -> bool:
    try:
        await registry.read()
    except Unavailable:
        return True
    return False


@pytest.mark.parametrize("warm", [True, False])
async def test_a_cancelled_command_is_cancelled_and_harms_no_other(
    opened: Opened[Any], valkey: servers.RespServer, unique: str, warm: bool
) -> None:
    for steps in range(40):  # a command on a new connection takes about 30 turns of the loop
        registry = opened(ValkeyRegistry(valkey.url, namespace=unique, patience=5.0))
        if warm:
            await registry.read()
        async with asyncio.TaskGroup() as tasks:
            renewal = tasks.create_task(registry.renew(instance()))
            for _ in range(steps):
                await asyncio.sleep(0)  # noqa: TID251 - one turn of the loop
            done = renewal.done()
            renewal.cancel()
        assert renewal.cancelled() or done
        for _ in range(2):
            await registry.read()
        await registry.aclose()


async def test_stopping_while_a_beat_is_under_way_is_quick(
    valkey: servers.RespServer, unique: str, opened: Opened[Any]
) -> None:
    url = f"{valkey.url}?namespace={unique}"
    registry = opened(open_registry(url))
    for n in range(20):
        heartbeat = Heartbeat(url, instance(f"orders-{n}"))
        await heartbeat.start()
        await eventually(lambda: heartbeat.snapshot().beats > 0)  # noqa: B023 - used in this turn
        heartbeat.move(InstanceState.DRAINING)
        began = SYSTEM.now()
        await heartbeat.stop(within=30.0)
        assert SYSTEM.now() - began < 10.0
        assert await registry.read() == ()


async def test_stopping_beside_a_paused_server_is_bounded(server: servers.RespServer) -> None:
    heartbeat = Heartbeat(server.url, instance(), ttl=TTL)
    await heartbeat.start()
    await eventually(lambda: heartbeat.snapshot().beats > 0)
    server.pause()
    began = SYSTEM.now()
    await heartbeat.stop(within=0.5)
    server.resume()
    assert SYSTEM.now() - began < 5.0


BEATING = """
import asyncio, sys
from seawall.registry.heartbeat import Heartbeat
from seawall.topology import Address, Instance, InstanceState
me = Instance(service="orders", version="1.0.0", instance_id="orders-1", incarnation=sys.argv[2],
              address=Address("127.0.0.1", 1), state=InstanceState.READY,
              started_at=float(sys.argv[3]))
async def main():
    async with Heartbeat(sys.argv[1], me, ttl=1.2):
        await asyncio.Event().wait()
asyncio.run(main())
"""


def beating(url: str, incarnation: str, started_at: float) -> "subprocess.Popen[bytes]":
    return subprocess.Popen([sys.executable, "-c", BEATING, url, incarnation, str(started_at)])


async def test_a_killed_process_disappears_after_its_lease(
    opened: Opened[Any], valkey: servers.RespServer, unique: str
) -> None:
    url = f"{valkey.url}?namespace={unique}"
    registry = opened(open_registry(url))
    async with Watcher(registry, config=config(reread=0.1)) as watcher:
        process = await asyncio.to_thread(beating, url, "first", 1.0)
        await eventually(lambda: len(watcher.view.instances) == 1)
        process.kill()
        killed = SYSTEM.now()
        await asyncio.to_thread(process.wait)
        await eventually(lambda: watcher.view.instances == ())
        assert SYSTEM.now() - killed > 0.3  # it was not taken out by mistake before its time


async def test_a_stopped_process_that_wakes_cannot_take_its_place_back(
    opened: Opened[Any], valkey: servers.RespServer, unique: str
) -> None:
    url = f"{valkey.url}?namespace={unique}"
    registry = opened(open_registry(url))
    old = await asyncio.to_thread(beating, url, "first", 1.0)

    async def held_by() -> str:
        return ",".join(one.incarnation for one in await registry.read())

    async def first() -> bool:
        return await held_by() == "first"

    await eventually_async(first)
    os.kill(old.pid, signal.SIGSTOP)

    async def nobody() -> bool:
        return await held_by() == ""

    await eventually_async(nobody)
    async with Heartbeat(url, instance(incarnation="second", started_at=2.0), ttl=0.6) as new:
        await eventually(lambda: new.snapshot().beats > 0)
        os.kill(old.pid, signal.SIGCONT)
        beats = new.snapshot().beats
        while new.snapshot().beats < beats + 4:
            assert await held_by() == "second"
            await SYSTEM.sleep(0.01)
        old.kill()
        await asyncio.to_thread(old.wait)


async def test_mass_expiry_is_not_announced(
    opened: Opened[Any], valkey: servers.RespServer, unique: str
) -> None:
    registry = opened(ValkeyRegistry(valkey.url, namespace=unique))
    for n in range(4):
        await registry.renew(instance(f"orders-{n}"))
    async with registry.changes() as changes:
        # As after a pause: all leases have run out before anybody looks.
        past = [word for n in range(4) for word in ("1", f"orders/orders-{n}")]
        await command(valkey, "ZADD", f"{{{unique}}}:registry:leases", "XX", *past)
        assert await registry.read() == ()
        await registry.renew(instance("later"))
        async with asyncio.timeout(10):
            assert (await anext(changes)).instance_id == "later"


async def test_rubbish_in_the_registry_is_left_out_and_told(
    opened: Opened[Any], valkey: servers.RespServer, unique: str
) -> None:
    facts: list[object] = []
    registry = opened(ValkeyRegistry(valkey.url, namespace=unique, observer=facts.append))
    await registry.renew(instance())
    records, leases = (f"{{{unique}}}:registry:{key}" for key in ("records", "leases"))
    for n, rubbish in enumerate([b"", b"\xff", b"{}", b"7\n[0,0]", b'{"state":"x"}\n[0,0]']):
        async with Redis.from_url(valkey.url, driver_info=None) as redis:
            await redis.hset(records, f"orders/rubbish-{n}", rubbish)
            await redis.zadd(leases, {f"orders/rubbish-{n}": 9e15})
            await redis.hset(records, "orders/without-lease", rubbish)
    assert await registry.read() == (instance(),)
    assert [type(fact) for fact in facts] == [RecordUnreadable] * 5
    # Whoever has that place just writes over it.
    assert await registry.renew(instance("rubbish-1"))
    assert len(await registry.read()) == 2
    assert await registry.deregister(instance("rubbish-2")) is False


async def test_a_project_that_is_gone_leaves_nothing_for_ever(
    opened: Opened[Any], valkey: servers.RespServer, unique: str
) -> None:
    registry = opened(ValkeyRegistry(valkey.url, namespace=unique))
    await registry.renew(instance())
    for key in ("records", "leases"):
        left = await command(valkey, "PTTL", f"{{{unique}}}:registry:{key}")
        assert 0 < left <= 86_400_000  # type: ignore[operator]


async def test_a_wrong_password_is_unavailable_and_not_shown(
    opened: Opened[Any], valkey: servers.RespServer
) -> None:
    url = valkey.url.replace("redis://", "redis://ann:hunter2@")
    registry = opened(open_registry(url))
    with pytest.raises(Unavailable) as refused:
        await registry.read()
    assert "hunter2" not in str(refused.value)


async def test_a_socket_that_is_not_there_is_unavailable(
    opened: Opened[Any], tmp_path: object
) -> None:
    registry = opened(open_registry(f"unix://{tmp_path}/none.sock?db=0"))
    with pytest.raises(Unavailable):
        await registry.read()
    with pytest.raises(Unavailable):
        async with registry.changes():
            pass


async def test_a_primary_that_became_a_replica_is_left(
    opened: Opened[Any], server: servers.RespServer
) -> None:
    registry = opened(open_registry(server.url))
    await registry.renew(instance())

    async def connections() -> set[bytes]:
        listed = await command(server, "CLIENT", "LIST", "TYPE", "normal")
        assert isinstance(listed, bytes)
        return {word for word in listed.split() if word.startswith(b"addr=")}

    before = await connections()
    await command(server, "REPLICAOF", "127.0.0.1", "1")
    with pytest.raises(Unavailable):
        await registry.renew(instance())
    await command(server, "REPLICAOF", "NO", "ONE")
    assert await registry.renew(instance())
    assert len(before & await connections()) == 0


async def test_a_broken_stream_says_so(opened: Opened[Any], server: servers.RespServer) -> None:
    registry = opened(open_registry(server.url))
    async with registry.changes() as changes:
        await command(server, "CLIENT", "KILL", "TYPE", "pubsub")
        with pytest.raises(Unavailable):
            async with asyncio.timeout(5):
                await anext(changes)
    async with registry.changes() as changes:
        server.kill()
        with pytest.raises(Unavailable):
            async with asyncio.timeout(5):
                await anext(changes)


async def test_a_quiet_stream_stays_open(
    opened: Opened[Any], valkey: servers.RespServer, unique: str
) -> None:
    registry = opened(ValkeyRegistry(valkey.url, namespace=unique, patience=1.0))
    async with registry.changes() as changes:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(3.2):
                await anext(changes)
    async with registry.changes() as changes:
        await registry.renew(instance())
        assert await anext(changes) == instance()


async def test_a_stream_to_a_paused_server_ends(
    opened: Opened[Any], server: servers.RespServer
) -> None:
    registry = opened(ValkeyRegistry(server.url, patience=1.0))
    async with registry.changes() as changes:
        server.pause()
        try:
            with pytest.raises(Unavailable, match="silent"):
                async with asyncio.timeout(10):
                    await anext(changes)
        finally:
            server.resume()
