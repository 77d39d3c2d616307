"""What all connections of one gateway share: routes, clocks, counters. No behaviour of its own."""

import json
from collections.abc import Callable
from functools import lru_cache
from ipaddress import ip_address, ip_network
from random import Random
from typing import TYPE_CHECKING, Final

from seawall.clock import Clock
from seawall.facts import Observer
from seawall.gateway.access import AccessLog
from seawall.gateway.admission import Gate
from seawall.gateway.clusters import Cluster
from seawall.gateway.coding import Room
from seawall.gateway.config import GatewayConfig, Route
from seawall.gateway.custom import Chain
from seawall.gateway.fallback import Prepared
from seawall.gateway.filters import Finisher
from seawall.gateway.metrics import Metrics, RouteMetrics
from seawall.gateway.policies import Policies
from seawall.gateway.retrying import Retrying
from seawall.gateway.routes import Routes
from seawall.gateway.timers import NEVER, Timed, Wheel
from seawall.resilience.hedge import Hedger
from seawall.telemetry.spans import SpanBuffer
from seawall.wire.trace import Ids

if TYPE_CHECKING:
    from seawall.gateway.faults import Injector
    from seawall.gateway.mirroring import Mirroring
    from seawall.gateway.planning import Traffic
    from seawall.gateway.splitting import Splitter

# Distinct peers whose trust is remembered: those of one rack of load balancers, many times over.
_MAX_PEERS: Final = 4096


class Plan:
    """A route, with everything that is found out about it before any request."""

    __slots__ = (
        "chain",
        "cluster",
        "connect_timeout",
        "fallback",
        "faults",
        "finishers",
        "first_byte_timeout",
        "gate",
        "hedger",
        "idle_timeout",
        "is_plain",
        "log_label",
        "max_body",
        "metrics",
        "mirror",
        "per_try_timeout",
        "retrying",
        "route",
        "split",
        "stream",
        "stream_idle",
        "total_timeout",
        "tries_are_timed",
        "upgrades",
        "weighs_answers",
    )

    def __init__(
        self,
        route: Route,
        cluster: Cluster,
        chain: Chain | None,
        finishers: tuple[Finisher, ...],
        metrics: RouteMetrics,
        max_body: int,
        policies: Policies,
        traffic: "Traffic",
    ) -> None:
        self.split: Splitter | None = traffic.split
        self.mirror: Mirroring | None = traffic.mirror
        self.faults: Injector | None = traffic.faults
        self.route: Route = route
        self.cluster: Cluster = cluster
        self.chain: Chain | None = chain  # its filters, if it has any
        self.finishers: tuple[Finisher, ...] = finishers
        self.metrics: RouteMetrics = metrics
        self.log_label: bytes = (
            f'"route":{json.dumps(route.label)},"service":{json.dumps(cluster.service)}'
        ).encode()
        self.max_body: int = max_body if route.max_body is None else route.max_body
        self.stream: bool = route.stream
        self.connect_timeout: float = route.timeouts.connect
        self.first_byte_timeout: float = route.timeouts.first_byte or NEVER
        self.per_try_timeout: float = route.timeouts.per_try or NEVER
        self.tries_are_timed: bool = min(self.first_byte_timeout, self.per_try_timeout) < NEVER
        self.idle_timeout: float = route.timeouts.idle
        self.total_timeout: float = route.timeouts.total or NEVER
        self.stream_idle: float = route.timeouts.stream_idle or NEVER
        self.retrying: Retrying = policies.retrying
        self.hedger: Hedger | None = policies.hedger
        self.fallback: Prepared | None = policies.fallback
        self.gate: Gate | None = policies.gate
        # Whether anybody here is interested in an answer before it is passed on.
        self.weighs_answers: bool = policies.weigh_answers()
        self.upgrades: frozenset[bytes] = frozenset(
            name.lower().encode() for name in route.upgrades
        )
        # Whether nothing but filters is to be asked about its requests (`seawall.gateway.plain`).
        self.is_plain: bool = (
            (self.gate is None and self.hedger is None and not self.tries_are_timed)
            and (self.split is None and self.mirror is None and self.faults is None)
            and not (self.weighs_answers or finishers or cluster.watches)
            and cluster.key is None
        )


class Trust:
    """Whose word about the client is believed: proxies of our own in front of us."""

    __slots__ = ("_known", "_networks")

    def __init__(self, networks: tuple[str, ...]) -> None:
        self._networks = tuple(ip_network(network) for network in networks)
        self._known: dict[str, bool] = {}

    def trusts(self, address: str) -> bool:
        if not self._networks:
            return False
        known = self._known.get(address)
        if known is None:
            if len(self._known) >= _MAX_PEERS:
                self._known.clear()
            known = self._known[address] = self._is_inside(address)
        return known

    def _is_inside(self, address: str) -> bool:
        try:
            parsed = ip_address(address)
        except ValueError:
            return False
        return any(parsed in network for network in self._networks)

    def client(self, forwarded_for: str) -> str:
        """The right-most address that is no proxy of ours; the left-most if all are. Empty if
        that is no address: whoever wrote it did not say who the client is."""
        hops = [hop.strip() for hop in forwarded_for.split(",") if hop.strip()]
        for hop in reversed(hops):
            if not self.trusts(hop):
                return hop if _is_address(hop) else ""
        return hops[0] if hops else ""


@lru_cache(maxsize=_MAX_PEERS)
def _is_address(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return "%" not in text  # a zone can be any text, and this goes into the log


class Proxy:
    """Shared by every connection of one gateway process."""

    __slots__ = (
        "coding_room",
        "config",
        "connections",
        "draining",
        "edge",
        "ids",
        "log",
        "log_name",
        "looks_at_all",
        "metrics",
        "now",
        "observer",
        "rng",
        "routes",
        "spans",
        "trust",
        "wall",
        "wheel",
    )

    def __init__(
        self,
        config: GatewayConfig,
        wheel: Wheel,
        clock: Clock,
        rng: Random,
        log: AccessLog,
        observer: Observer,
        spans: SpanBuffer | None = None,
    ) -> None:
        self.config: GatewayConfig = config
        self.edge = config.edge
        self.wheel: Wheel = wheel
        self.now: Callable[[], float] = clock.now
        self.wall: Callable[[], float] = clock.wall
        self.rng: Random = rng
        self.ids: Ids = Ids(rng.randbytes)
        self.log: AccessLog = log
        self.log_name: bytes = config.name.encode("utf-8", "replace")
        self.metrics: Metrics = Metrics()
        self.observer: Observer = observer
        self.spans: SpanBuffer | None = spans  # where they go, if anybody wants them
        self.trust: Trust = Trust(config.trusted_proxies)
        self.coding_room: Room = Room()
        # Whether there is something to say about requests that say nothing about themselves.
        self.looks_at_all: bool = config.trace_sample < 1 or config.forwarded
        self.routes: Routes[Plan]
        self.draining: bool = False
        self.connections: set[Timed] = set()
