import asyncio
import threading
import time
from collections.abc import Callable

import pytest

from seawall.clock import SYSTEM
from seawall.errors import Misconfigured, Unavailable
from seawall.registry.base import DEFAULT_TTL
from seawall.registry.heartbeat import (
    Heartbeat,
    HeartbeatLost,
    HeartbeatRestored,
    LoopLag,
    PlaceTaken,
)
from seawall.registry.memory import MemoryRegistry
from seawall.testing.clock import ManualClock
from seawall.topology import Instance, InstanceState
from tests.support.waiting import eventually, eventually_async, eventually_sync
from tests.unit.registry.instances import instance


class Broken(MemoryRegistry):
    """Fails while `down`; `hang` makes it wait for ever."""

    down = False
    hang = False

    async def renew(self, instance: Instance, ttl: float = DEFAULT_TTL) -> bool:
        await self._fail()
        return await super().renew(instance, ttl)

    async def deregister(self, instance: Instance) -> bool:
        await self._fail()
        return await super().deregister(instance)

    async def _fail(self) -> None:
        if self.hang:
            await asyncio.Event().wait()
        if self.down:
            raise Unavailable("cut off")


@pytest.fixture
def registry(unique: str) -> Broken:
    return Broken(unique)


@pytest.fixture
def beating(registry: Broken) -> Callable[..., Heartbeat]:
    def make(one: Instance | None = None, **options: object) -> Heartbeat:
        return Heartbeat("any", one or instance(), opener=lambda _: registry, **options)  # type: ignore[arg-type]

    return make


async def states(registry: MemoryRegistry) -> list[InstanceState]:
    return [one.state for one in await registry.read()]


async def test_it_registers_keeps_and_leaves(
    registry: Broken, beating: Callable[..., Heartbeat]
) -> None:
    async with beating(ttl=0.15, in_flight=lambda: 3) as heartbeat:
        await eventually(lambda: heartbeat.snapshot().beats >= 1)
        began = SYSTEM.now()
        while SYSTEM.now() - began < 0.4:
            (one,) = await registry.read()
            assert one.in_flight == 3
            await SYSTEM.sleep(0.01)
        assert 6 <= heartbeat.snapshot().beats <= 16
    assert await registry.read() == ()


async def test_a_move_is_sent_at_once(registry: Broken, beating: Callable[..., Heartbeat]) -> None:
    async with beating(instance(state=InstanceState.STARTING), ttl=600) as heartbeat:
        await eventually(lambda: heartbeat.snapshot().beats == 1)
        for state in (InstanceState.READY, InstanceState.DRAINING):
            heartbeat.move(state)

            async def moved(state: InstanceState = state) -> bool:
                return await states(registry) == [state]

            await eventually_async(moved)  # the next beat is due in minutes


async def test_moving_before_the_first_beat_is_fine(
    registry: Broken, beating: Callable[..., Heartbeat]
) -> None:
    heartbeat = beating(instance(state=InstanceState.STARTING))
    heartbeat.move(InstanceState.READY)
    async with heartbeat:
        await eventually(lambda: heartbeat.snapshot().beats == 1)
        assert await states(registry) == [InstanceState.READY]


async def test_a_state_that_lies_behind_is_ignored(
    registry: Broken, beating: Callable[..., Heartbeat]
) -> None:
    facts: list[object] = []
    async with beating(ttl=0.06, observer=facts.append) as heartbeat:
        heartbeat.move(InstanceState.DRAINING)
        heartbeat.move(InstanceState.READY)
        await eventually(lambda: heartbeat.snapshot().beats >= 4)
        assert await states(registry) == [InstanceState.DRAINING]
    assert facts == []


async def test_an_outage_is_survived_and_told_once(
    registry: Broken, beating: Callable[..., Heartbeat]
) -> None:
    facts: list[object] = []
    main = threading.current_thread()
    in_thread: list[bool] = []

    def observe(fact: object) -> None:
        facts.append(fact)
        in_thread.append(threading.current_thread() is main)

    registry.down = True
    async with beating(ttl=0.3, observer=observe) as heartbeat:
        await eventually(lambda: heartbeat.snapshot().missed >= 3)
        assert [type(fact) for fact in facts] == [HeartbeatLost]
        registry.down = False
        await eventually(lambda: len(facts) == 2)
    assert isinstance(facts[1], HeartbeatRestored)
    assert facts[1].away > 0
    assert all(in_thread)


async def test_a_successor_is_noticed_and_kept(
    registry: Broken, beating: Callable[..., Heartbeat]
) -> None:
    facts: list[object] = []
    await registry.renew(instance(incarnation="second", started_at=200.0), ttl=60)
    async with beating(ttl=0.06, observer=facts.append):
        await eventually(lambda: bool(facts))
    assert [type(fact) for fact in facts] == [PlaceTaken]
    assert [one.incarnation for one in await registry.read()] == ["second"]


async def test_a_stuck_loop_keeps_its_lease_and_is_seen_to_be_stuck(
    registry: Broken, beating: Callable[..., Heartbeat]
) -> None:
    seen: list[float] = []

    class Watching(Broken):
        async def renew(self, instance: Instance, ttl: float = DEFAULT_TTL) -> bool:
            seen.append(instance.loop_lag)
            return await super().renew(instance, ttl)

    def stick() -> None:
        time.sleep(1.2)  # noqa: TID251 - the loop is to stand still

    watching = Watching(registry.name)
    async with Heartbeat("any", instance(), ttl=0.3, opener=lambda _: watching) as heartbeat:
        await eventually(lambda: heartbeat.snapshot().beats >= 1)
        before = len(seen)
        stick()
        during = seen[before:]
        assert await registry.read()
        assert len(during) >= 6
        assert max(during) > 0.4
        assert sorted(during[-5:]) == during[-5:]  # it grows as long as the loop stands still
        await eventually(lambda: seen[-1] < 0.1)


async def test_stopping_is_bounded_when_the_registry_hangs(
    registry: Broken, beating: Callable[..., Heartbeat]
) -> None:
    registry.hang = True
    heartbeat = beating()
    await heartbeat.start()
    began = SYSTEM.now()
    await heartbeat.stop(within=0.1)
    assert SYSTEM.now() - began < 5.0
    await heartbeat.stop()


async def test_stopping_at_once_and_without_a_start_is_fine(
    registry: Broken, beating: Callable[..., Heartbeat]
) -> None:
    await beating().stop()
    heartbeat = beating()
    await heartbeat.start()
    await heartbeat.stop()
    assert await registry.read() == ()


async def test_an_error_in_the_thread_is_raised_at_the_stop(
    beating: Callable[..., Heartbeat],
) -> None:
    def broken() -> int:
        raise ZeroDivisionError

    heartbeat = beating(in_flight=broken)
    await heartbeat.start()
    with pytest.raises(ZeroDivisionError):
        await heartbeat.stop()


def test_it_ends_by_itself_when_its_loop_is_closed(
    registry: Broken, beating: Callable[..., Heartbeat]
) -> None:
    async def forget() -> None:
        heartbeat = beating(ttl=0.3)
        await heartbeat.start()
        await eventually(lambda: heartbeat.snapshot().beats >= 1)

    before = set(threading.enumerate())
    asyncio.run(forget())
    left = set(threading.enumerate()) - before
    eventually_sync(lambda: not any(thread.is_alive() for thread in left))
    assert asyncio.run(states(registry)) == []


async def test_lag_is_the_worst_since_it_was_taken() -> None:
    clock = ManualClock()
    lag = LoopLag(asyncio.get_running_loop(), clock)
    lag.ask()
    clock.advance(0.5)
    assert lag.take() == 0.5  # still due
    lag.ask()
    clock.advance(0.5)
    await asyncio.tasks.sleep(0)  # now the loop answers
    assert lag.take() == 1.0
    assert lag.take() == 0.0


def test_a_lease_lasts_longer_than_nothing(beating: Callable[..., Heartbeat]) -> None:
    with pytest.raises(Misconfigured):
        beating(ttl=0)
