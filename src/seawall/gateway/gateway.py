"""The gateway as one thing: made of a configuration and a source of instances, served by a block.

The control side lives here: it compiles routes, takes the registry's views, keeps the time. What
it finds out it hands to the connections as whole values, so a change costs no request anything.
"""

import asyncio
import socket
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from random import Random
from typing import Protocol, cast

from seawall.clock import SYSTEM, Clock
from seawall.concurrency.tasks import Tasks
from seawall.errors import Refused
from seawall.facts import Observer, ignore
from seawall.gateway.access import AccessLog, LogFile
from seawall.gateway.auth import Provider
from seawall.gateway.changes import Changes, appliable, changes
from seawall.gateway.clusters import Cluster, Clusters, View
from seawall.gateway.config import GatewayConfig
from seawall.gateway.connection import Downstream
from seawall.gateway.custom import Cost
from seawall.gateway.describing import revision
from seawall.gateway.health import Checker
from seawall.gateway.leases import Leases
from seawall.gateway.ledger import Ledger
from seawall.gateway.mirroring import Copies
from seawall.gateway.planner import Planner
from seawall.gateway.preamble import Announced
from seawall.gateway.proxy import Plan, Proxy, Trust
from seawall.gateway.quota import Counters
from seawall.gateway.routes import Routes
from seawall.gateway.timers import Wheel
from seawall.gateway.upstream import Dialer, Towards
from seawall.telemetry.spans import SpanBuffer
from seawall.topology import Address, Instance

# How late a timeout may be. Ten turns a second of a wheel that is mostly empty cost nothing.
TICK = 0.1  # seconds

# Connections that wait to be accepted: a reconnecting crowd after a gateway died.
BACKLOG = 4096


class Source(Protocol):
    """Where instances are known from. `seawall.registry.watcher.Watcher` is one."""

    def subscribe(self, callback: Callable[[View], None], /) -> Callable[[], None]:
        """Call back with what is known now, and on the loop whenever it changes."""


@dataclass(frozen=True, slots=True)
class GatewayReady:
    """The registry was read for the first time, and connections are accepted."""

    address: Address
    at: float


@dataclass(frozen=True, slots=True)
class GatewayDraining:
    """No new connection is accepted; open ones are closed behind their next answer."""

    connections: int
    at: float


@dataclass(frozen=True, slots=True)
class GatewayDrained:
    """Every connection is closed; `aborted` of them in the midst of an exchange."""

    aborted: int
    seconds: float
    at: float


@dataclass(frozen=True, slots=True)
class GatewayChanged:
    """Another configuration holds from the next request on."""

    changes: Changes
    at: float


class Gateway:
    """A reverse proxy in this event loop.

        async with Watcher(registry) as watcher:
            gateway = Gateway(config, watcher)
            async with gateway.serving(Address("127.0.0.1", 8000)):
                await stop.wait()

    `providers` are the authentications that routes name; `ledger` is where gateways divide the
    limits that they share; `spans` gets one of each sampled request; `towards` says how services
    are called: in plain text without it. Raises `Misconfigured`.
    """

    def __init__(  # noqa: PLR0913 - its parts, each by name
        self,
        config: GatewayConfig,
        source: Source,
        *,
        providers: Mapping[str, Provider] | None = None,
        ledger: Ledger | None = None,
        clock: Clock = SYSTEM,
        rng: Random | None = None,
        observer: Observer = ignore,
        log: Callable[[bytes], int] | None = None,
        spans: SpanBuffer | None = None,
        towards: Towards | None = None,
    ) -> None:
        self._config = config
        self._source = source
        self._clock = clock
        self._observer = observer
        rng = rng or Random()
        self._log_file: LogFile | None = None
        if log is None and config.access_log is not None:
            self._log_file = LogFile(config.access_log)
            log = self._log_file.write
        self._tasks = Tasks()
        now = clock.now()
        wheel = Wheel(TICK, now)
        self.proxy = Proxy(config, wheel, clock, rng, AccessLog(log), observer, spans)
        self.proxy.log.stamp.settle(now, clock.wall())
        dialer = Dialer(self._tasks, wheel, clock, towards)
        self.clusters = Clusters(config, dialer, rng, observer)
        self._checker = Checker(self.clusters, clock, rng)
        self.copies = Copies()
        self._providers = dict(providers or {})
        self.counters = Counters(config.replicas)
        self._planner = Planner(self.proxy, self.clusters, self.counters, self.copies, clock.wall)
        process = f"{config.name}-{rng.getrandbits(64):016x}"
        self.leases = Leases(self.counters, ledger, process, clock, observer)
        self.proxy.routes = self._draft(config, None)
        self._planner.adopt(now)
        self.revision = revision(config)
        self._first_view = asyncio.Event()
        self._stopping = False

    def preview(
        self, config: GatewayConfig, providers: Mapping[str, Provider] | None = None
    ) -> Changes:
        """What `apply` would change. Raises `Misconfigured` where it would."""
        self._draft(appliable(self._config, config), providers)
        return changes(self._config, config)

    def apply(
        self,
        config: GatewayConfig,
        providers: Mapping[str, Provider] | None = None,
        told: Changes | None = None,
    ) -> Changes:
        """Do as another configuration says from the next request on; what that changed, or
        `told`, if somebody has found that out already.

        Those under way go on as they began. Connections stay open, and what was learned stays
        known: counts of limits, breakers, budgets, who is left out, metrics. A route that stays
        as it is keeps all that is its own too, unless what holds for all routes changes. Raises
        `Misconfigured`; then nothing has changed.
        """
        applied = appliable(self._config, config)
        routes = self._draft(applied, providers)
        changed = told or changes(self._config, config)
        proxy, now = self.proxy, self._clock.now()
        if providers is not None:
            self._providers = dict(providers)
        self._config = proxy.config = applied
        proxy.edge = applied.edge
        proxy.trust = Trust(applied.trusted_proxies)
        self._planner.adopt(now)
        self.leases.welcome(now)
        proxy.routes = routes
        self.revision = changed.after
        self._observer(GatewayChanged(changed, now))
        return changed

    def _draft(
        self, config: GatewayConfig, providers: Mapping[str, Provider] | None
    ) -> Routes[Plan]:
        routes = self._planner.draft(config, self._providers if providers is None else providers)
        self.leases.check()
        return routes

    @property
    def config(self) -> GatewayConfig:
        return self._config

    def step_aside(self, aside: bool) -> None:
        """Be unready, and close each connection behind its next answer; or be ready again.

        What comes is still answered: whoever sends it may not have heard yet. Raises `Refused`
        once the gateway has begun to stop.
        """
        if self._stopping:
            raise Refused("the gateway is stopping")
        self.proxy.draining = aside

    @property
    def is_ready(self) -> bool:
        """Whether requests may be sent here: instances are known, and it does not drain."""
        return self._first_view.is_set() and not self.proxy.draining

    @asynccontextmanager
    async def serving(self, listener: Address | socket.socket) -> AsyncIterator[Address]:
        """Accept connections while the block is open; drain at its end.

        Entering waits until the registry was read once: before that every answer would be 503.
        A socket that is given is listened on and closed; other processes may share it. Port 0
        takes a free one. Raises `OSError` if the address cannot be bound.
        """
        loop = asyncio.get_running_loop()
        factory = cast(Callable[[], asyncio.Protocol], self._accept)
        if isinstance(listener, Address):
            server = await loop.create_server(
                factory, listener.host, listener.port, backlog=BACKLOG, start_serving=False
            )
        else:
            server = await loop.create_server(
                factory, sock=listener, backlog=BACKLOG, start_serving=False
            )
        try:
            async with self.leases.running(), self._tasks:
                self._tasks.start(self._keep_time(), name="gateway clock")
                self._tasks.start(self._checker.run(), name="gateway health checks")
                unsubscribe = self._source.subscribe(self._view_changed)
                try:
                    await self._first_view.wait()
                    await server.start_serving()
                    address = _address(server)
                    self._observer(GatewayReady(address, self._clock.now()))
                    yield address
                finally:
                    server.close()
                    await self._drain()
                    unsubscribe()
                    self.clusters.close()
        finally:
            server.close()
            self.proxy.log.flush()
            if self._log_file is not None:
                self._log_file.close()

    async def run(self, listener: Address | socket.socket, stop: asyncio.Event) -> None:
        """Serve until `stop` is set, then drain."""
        async with self.serving(listener):
            await stop.wait()

    def _accept(self) -> Downstream:
        proxy = self.proxy
        return Announced(proxy) if proxy.config.proxy_protocol else Downstream(proxy)

    def _view_changed(self, view: View) -> None:
        self.clusters.update(view, self._clock.now())
        if not view.stale:
            self._first_view.set()

    async def _keep_time(self) -> None:
        proxy, clock = self.proxy, self._clock
        while True:
            await clock.sleep(TICK)
            now = clock.now()
            for timed in proxy.wheel.turn(now):
                timed.expire(now)
            self.clusters.turn(now)
            self.copies.turn(now)
            proxy.log.stamp.settle(now, clock.wall())
            proxy.log.flush()
            proxy.metrics.log_dropped = proxy.log.dropped
            if proxy.spans is not None:
                proxy.metrics.spans_dropped = proxy.spans.lost
            proxy.metrics.connections = len(proxy.connections)

    async def _drain(self) -> None:
        """Let clients go one by one: closing an idle connection just when its client uses it
        would lose a request, so those that are used get a last answer first."""
        proxy, clock, config = self.proxy, self._clock, self._config
        began = clock.now()
        self._stopping = proxy.draining = True
        self._observer(GatewayDraining(len(proxy.connections), began))
        idle_until = began + min(config.lame_duck, config.drain)
        copies = self.copies
        while (proxy.connections or copies.under_way) and clock.now() < began + config.drain:
            if clock.now() >= idle_until:
                for connection in self._connections():
                    connection.close_if_idle()
            await clock.sleep(TICK / 2)
        left = self._connections()
        for connection in left:
            connection.client_aborted()
        now = clock.now()
        copies.close(now)
        self._observer(GatewayDrained(len(left), now - began, now))

    def _connections(self) -> list[Downstream]:
        return [one for one in self.proxy.connections if isinstance(one, Downstream)]

    def reopen_log(self) -> None:
        """The access log's file was moved away: go on in a new one."""
        if self._log_file is not None:
            self.proxy.log.flush()
            self._log_file.reopen()

    def filter_costs(self) -> list[Cost]:
        return self._planner.extensions.costs()

    def cluster_list(self) -> tuple[Cluster, ...]:
        return tuple(self.clusters)

    def __repr__(self) -> str:
        state = "draining" if self.proxy.draining else "ready" if self.is_ready else "starting"
        return f"<Gateway {self._config.name} {state} {len(self.proxy.connections)} connections>"


@dataclass(frozen=True, slots=True)
class Known:
    """A view that somebody wrote down."""

    instances: tuple[Instance, ...] = ()
    stale: bool = False
    read_at: float = 0.0


class Static:
    """A source of instances that are given, and changed, by hand."""

    def __init__(self, *instances: Instance) -> None:
        self._view = Known(instances)
        self._callbacks: list[Callable[[View], None]] = []

    def subscribe(self, callback: Callable[[View], None]) -> Callable[[], None]:
        self._callbacks.append(callback)
        callback(self._view)
        return lambda: self._callbacks.remove(callback)

    def show(self, *instances: Instance, stale: bool = False) -> None:
        """Replace what is known."""
        self._view = Known(instances, stale)
        for callback in self._callbacks:
            callback(self._view)


def _address(server: asyncio.Server | asyncio.AbstractServer) -> Address:
    name = cast(asyncio.Server, server).sockets[0].getsockname()
    return Address(str(name[0]), int(name[1])) if isinstance(name, tuple) else Address(name, 0)
