"""Asks what a decision needs to know: replicas, gateways, the broker, the system.

Every question has a bound, and who does not answer is named: a look is never late because a
replica hangs.
"""

import asyncio
import os
from collections import deque
from collections.abc import Collection, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

import psutil

from seawall.clock import Clock
from seawall.errors import SeawallError
from seawall.messaging.base import Lag, Subscription, Transport
from seawall.registry.consuming import consumed
from seawall.runtime.asking import At
from seawall.runtime.autoscaler_figures import (
    OF_GATEWAYS,
    Heard,
    Series,
    series,
    wanted_of_replicas,
)
from seawall.runtime.cost import Cost, Meter
from seawall.runtime.fleet import Fleet
from seawall.runtime.layout import Layout
from seawall.runtime.message_reach import Reach
from seawall.runtime.registration import Registrar
from seawall.runtime.replica import Kind
from seawall.runtime.restart import State
from seawall.scaling.guards import Machine
from seawall.spec.scaling import ScaleSpec

# A replica that is asked while it is saturated answers late, but within this or not at all.
_WITHIN = 2.0  # seconds

# Of one answer: some 10,000 series.
_MOST = 4 * 1024 * 1024  # bytes

# A moment in which all cores are busy is no saturation: it is the mean of so long.
_BUSY_OVER = 5.0  # seconds


# What gateways said so long ago is not asked again: half of the time between two glances in a
# hurry.
_FRESH = 0.05  # seconds

_ANY_MACHINE = Machine(os.cpu_count() or 1)


@dataclass(frozen=True, slots=True)
class Sample:
    """What was heard, who did not answer, and where all of it runs."""

    heard: Heard
    unheard: frozenset[str]
    machine: Machine
    at: float  # when it was heard


class Host:
    """How busy the machine was lately."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._seen: deque[tuple[float, float]] = deque(maxlen=64)
        psutil.cpu_percent()  # what it says first means nothing

    def look(self) -> tuple[float | None, float]:
        """The share of all cores that is busy, once that is known, and that of free memory."""
        now = self._clock.now()
        if not self._seen or now - self._seen[-1][0] >= 0.5:  # shorter ones are mostly rounding
            self._seen.append((now, psutil.cpu_percent() / 100))
        lately = [busy for at, busy in self._seen if now - at <= _BUSY_OVER]
        known = bool(self._seen) and now - self._seen[0][0] >= _BUSY_OVER
        memory = psutil.virtual_memory()
        return (
            sum(lately) / len(lately) if known and lately else None,
            memory.available / memory.total,
        )


class Depths:
    """What waits at the broker, over one connection that is opened when it is first needed, and
    anew after a failure."""

    def __init__(self, messages_url: str) -> None:
        self._reach = Reach(messages_url, None)
        self._stack = AsyncExitStack()
        self._transport: Transport | None = None
        self._opening = asyncio.Lock()  # several services ask at once, and one connection is enough

    async def of(self, subscriptions: Collection[Subscription]) -> dict[str, list[Lag]] | None:
        """Of each of their topics; None if nobody can tell."""
        found: dict[str, list[Lag]] = {}
        try:
            async with asyncio.timeout(_WITHIN):
                transport = await self._opened()
                for one in sorted(subscriptions, key=lambda s: s.topic):
                    found.setdefault(one.topic, []).append(await transport.lag(one))
        except (SeawallError, OSError, TimeoutError):
            await self.aclose()
            return None
        return found or None

    async def _opened(self) -> Transport:
        async with self._opening:
            if self._transport is None:
                self._transport = await self._stack.enter_async_context(self._reach.broker())
            return self._transport

    async def aclose(self) -> None:
        self._transport = None
        stack, self._stack = self._stack, AsyncExitStack()
        try:
            await stack.aclose()
        except (SeawallError, OSError):
            return  # it was gone already


class Broker:
    """What waits for services that say what they consume."""

    def __init__(self, messages_url: str, registrar: Registrar) -> None:
        self._depths = Depths(messages_url)
        self._registrar = registrar
        # Services of which nothing runs tell nobody what they consume.
        self._consumed: dict[str, set[Subscription]] = {}

    async def lags(self, service: str) -> dict[str, list[Lag]] | None:
        """Of each topic that the service has said it consumes; None if nobody can tell."""
        for (topic, group), services in consumed(await self._registrar.read()).items():
            for name in services:
                self._consumed.setdefault(name, set()).add(Subscription(topic, group))
        return await self._depths.of(self._consumed.get(service, set()))

    async def aclose(self) -> None:
        await self._depths.aclose()


class Sampler:
    """Looks at one service after another."""

    def __init__(
        self,
        gateway: Fleet,
        layout: Layout,
        broker: Broker,
        clock: Clock,
    ) -> None:
        self._gateway = gateway
        self._layout = layout
        self._broker = broker
        self._host = Host(clock)
        self._meters: dict[str, Meter] = {}
        self._clock = clock
        self._glancing = asyncio.Lock()
        self._glanced_at, self._seen_at_gateways = float("-inf"), dict[str, Series]()
        self._last_machine: dict[str, Machine] = {}  # by service: what its replicas use is in it

    async def look(self, fleet: Fleet, scale: Sequence[ScaleSpec]) -> Sample:
        replicas = {
            r.place.instance_id: r.place.at
            for r in fleet.replicas
            if r.state is State.READY and r.place.at
        }
        metrics = {each.metric for each in scale}
        told, gateways, lags, costs = await asyncio.gather(
            self._of_replicas(fleet, replicas, wanted_of_replicas(scale)),
            self.of_gateways(OF_GATEWAYS) if "requests" in metrics else _nothing(),
            self._broker.lags(fleet.name) if metrics & {"queue", "age"} else _unknown(),
            self._costs(fleet),
        )
        busy, free = self._host.look()
        cpu = sum(cost.cpu for cost in costs.values()) if costs else None
        heard = Heard(
            service=fleet.name,
            ready=len(replicas),
            replicas=told,
            gateways=gateways,
            cpu=cpu,
            memory=sum(cost.memory for cost in costs.values()) if costs else None,
            lags=lags,
        )
        asked = replicas if fleet.recipe.kind is Kind.SERVICE else {}
        machine = Machine(os.cpu_count() or 1, busy, free, cpu)
        self._last_machine[fleet.name] = machine
        return Sample(heard, frozenset(asked) - set(told), machine, self._clock.now())

    async def _of_replicas(
        self, fleet: Fleet, replicas: Mapping[str, At], names: Collection[str]
    ) -> dict[str, Series]:
        """A command need not have metrics; one that has them is heard like a service."""
        texts = await asyncio.gather(*(metrics_at(at) for at in replicas.values()))
        return {
            name: series(text, names)
            for name, text in zip(replicas, texts, strict=True)
            if text is not None
        }

    async def glance(self, fleet: Fleet) -> Sample:
        """What gateways alone know: of replicas it says that they did not tell."""
        names = {r.place.instance_id for r in fleet.replicas if r.state is State.READY}
        heard = Heard(
            service=fleet.name,
            ready=len(names),
            replicas={},
            gateways=await self._glanced(),
        )
        machine = self._last_machine.get(fleet.name, _ANY_MACHINE)
        return Sample(heard, frozenset(names), machine, self._glanced_at)

    async def _glanced(self) -> dict[str, Series]:
        """One question for all services that glance at about the same time."""
        async with self._glancing:
            if self._clock.now() - self._glanced_at >= _FRESH:
                self._seen_at_gateways = await self.of_gateways(OF_GATEWAYS)
                self._glanced_at = self._clock.now()
        return self._seen_at_gateways

    async def of_replica(self, wanted: Collection[str], at: At) -> Series | None:
        """What the process there counts of that; None if it does not tell."""
        text = await metrics_at(at)
        return None if text is None else series(text, wanted)

    async def of_gateways(self, wanted: Collection[str]) -> dict[str, Series]:
        """What each gateway that is ready counts of that."""
        names = [r.place.instance_id for r in self._gateway.replicas if r.state is State.READY]
        sockets = [self._layout.gateway_socket(name) for name in names]
        texts = await asyncio.gather(*(_of_gateway(socket) for socket in sockets))
        told = zip(names, texts, strict=True)
        return {name: series(text, wanted) for name, text in told if text is not None}

    async def _costs(self, fleet: Fleet) -> dict[int, Cost]:
        meter = self._meters.setdefault(fleet.name, Meter())
        staying = (replica.snapshot().pid for replica in fleet.replicas)
        pids = [pid for pid in staying if pid is not None]
        return await asyncio.to_thread(meter.look, pids)


async def _nothing() -> dict[str, Series]:
    return {}


async def _unknown() -> None:
    return None


async def metrics_at(at: At) -> str | None:
    """The text of its /metrics; None from who does not answer."""
    try:
        async with asyncio.timeout(_WITHIN):
            return await _metrics(*await at.connect(_MOST), str(at))
    except (OSError, TimeoutError):
        return None


async def _of_gateway(socket: Path) -> str | None:
    try:
        async with asyncio.timeout(_WITHIN):
            opened = await asyncio.open_unix_connection(str(socket), limit=_MOST)
            return await _metrics(*opened, "gateway")
    except (OSError, TimeoutError):
        return None


async def _metrics(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, host: str
) -> str | None:
    """HTTP/1.0, so that the answer ends with the connection and comes in one piece."""
    try:
        writer.write(f"GET /metrics HTTP/1.0\r\nhost: {host}\r\nconnection: close\r\n\r\n".encode())
        answer = bytearray()
        while len(answer) <= _MOST and (chunk := await reader.read(65536)):
            answer += chunk
    finally:
        writer.close()
    head, _, body = bytes(answer).partition(b"\r\n\r\n")
    is_whole = len(answer) <= _MOST and head[9:12] == b"200"
    return body.decode("utf-8", "replace") if is_whole else None
