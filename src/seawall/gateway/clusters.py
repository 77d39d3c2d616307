"""Services as the gateway sees them: their instances now, and which of them to ask.

The registry pushes views; each becomes a new tuple of endpoints, swapped in at once. An endpoint
lives as long as its incarnation is in the view, and keeps its connections, breaker and counts
through every change around it.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import permutations
from random import Random
from typing import TYPE_CHECKING, Final, Protocol

from seawall.errors import NoInstance
from seawall.facts import Observer
from seawall.gateway.config import GatewayConfig, Upstreams
from seawall.gateway.keys import Key, Stickiness, key_of
from seawall.gateway.picker import Picker, load
from seawall.gateway.upstream import ALWAYS, Dialer, Endpoint
from seawall.gateway.verdicts import GOOD, NEITHER
from seawall.resilience.admission import Admission
from seawall.resilience.balancer import LeastRequest
from seawall.resilience.breaker import Breaker, Permit
from seawall.resilience.budget import RetryBudget
from seawall.resilience.outlier import Outliers
from seawall.resilience.rise_fall import RiseFall
from seawall.resilience.slow_start import SlowStart
from seawall.topology import ANY, Constraint, Instance, InstanceState, resolve

if TYPE_CHECKING:
    from seawall.gateway.exchange import Exchange


# Of so many instances each pair is written down beforehand: 14 KB at most.
MAX_PAIRED: Final = 16


class View(Protocol):
    """What is known of all instances."""

    @property
    def instances(self) -> tuple[Instance, ...]: ...
    @property
    def stale(self) -> bool: ...
    @property
    def read_at(self) -> float: ...


@dataclass(frozen=True, slots=True)
class HealthChanged:
    """Active checks say so of an instance, several in a row; `reason` is that of the last."""

    key: str
    healthy: bool
    reason: str
    at: float


class Cluster:
    """The instances of one service in the versions that a route allows."""

    __slots__ = (
        "_balancer", "_observer", "_usable", "admission", "attempts",
        "breaker", "budget", "config", "constraint", "ejected", "ejections", "endpoints",
        "in_flight", "key", "max_requests", "outliers", "pairs", "picker", "random", "service",
        "sticky", "watches", "ways", "why_empty",
    )  # fmt: skip

    def __init__(
        self,
        service: str,
        constraint: Constraint,
        config: Upstreams,
        zone: str,
        rng: Random,
        observer: Observer,
    ) -> None:
        self.service: str = service
        self.constraint: Constraint = constraint
        self.config: Upstreams = config
        self.breaker: Breaker = Breaker(config.breaker, service)
        self.budget: RetryBudget = RetryBudget(config.retry_ratio, config.retry_floor)
        self.attempts: int = config.attempts
        adaptive = config.adaptive
        self.admission: Admission | None = None if adaptive is None else Admission(adaptive, rng)
        self.max_requests: int = config.max_requests
        self.in_flight: int = 0
        self.endpoints: tuple[Endpoint, ...] = ()
        self.why_empty: str = "the registry has not been read yet"
        self.ejected: frozenset[str] = frozenset()  # keys of those left out for their failures
        self.ejections: int = 0  # ever
        locality = config.locality
        self.picker: Picker = Picker(config, replace(locality, zone=locality.zone or zone), rng)
        self.sticky: Stickiness | None = None
        self.key: Key | None = None  # what a request sticks to
        if config.sticky is not None:
            self.sticky = Stickiness(config.sticky, service)
            self.key = self.sticky.key
        elif config.hash_on:
            self.key = key_of(config.hash_on)
        # Whether it wants to hear of each answer.
        self.watches: bool = self.sticky is not None or self.picker.ewma is not None
        self._usable: Sequence[Endpoint] = ()
        self.pairs: list[tuple[Endpoint, Endpoint]] = []  # who may be drawn together
        self.ways: float = 0.0  # how many these are
        self._balancer: LeastRequest = LeastRequest(rng)
        self.random: Callable[[], float] = rng.random
        self.outliers: Outliers = Outliers(config.outliers)
        self._observer: Observer = observer

    def inherit(self, before: "Cluster") -> None:
        """Stand in for a cluster whose settings changed: what is known of the service, and does
        not depend on what changed, is known here."""
        config, was = self.config, before.config
        if config.breaker == was.breaker:
            self.breaker = before.breaker
        if (config.retry_ratio, config.retry_floor) == (was.retry_ratio, was.retry_floor):
            self.budget = before.budget
        if config.outliers == was.outliers:
            self.outliers = before.outliers
        if config.adaptive == was.adaptive:
            self.admission = before.admission
        self.ejections = before.ejections

    def update(self, endpoints: tuple[Endpoint, ...], why_empty: str, now: float) -> None:
        for gone in set(self.endpoints).difference(endpoints):
            self.picker.forget(gone)
            if all(gone.key != endpoint.key for endpoint in endpoints):
                self.outliers.forget(gone.key)
        if self.sticky is not None:
            for endpoint in endpoints:
                endpoint.token = self.sticky.token(endpoint.instance.instance_id)
        self.endpoints = endpoints
        self.why_empty = why_empty
        self.settle(now)

    def settle(self, now: float) -> None:
        """Find who is to be asked: those who are not ejected, and whose checks pass."""
        keys = [endpoint.key for endpoint in self.endpoints]
        self.ejected = frozenset(keys).difference(self.outliers.usable(keys, now))
        ill = [e.key for e in self.endpoints if e.health is not None and not e.health.healthy]
        usable = self._usable = self.picker.settle(self.endpoints, self.ejected.union(ill))
        self.pairs = list(permutations(usable, 2)) if len(usable) <= MAX_PAIRED else []
        if len(usable) == 1:
            self.pairs = [(usable[0], usable[0])]
        self.ways = float(len(self.pairs))

    def weigh(self) -> None:
        """Weights may have changed."""
        self.picker.weigh(self._usable)

    def enter(self, now: float) -> Permit | None:
        """Take a place for a request, tries and all; give it back with `leave`."""
        if self.in_flight >= self.max_requests:
            return None
        permit = self.breaker.admit(now)
        if permit is None:
            return None
        if permit.moved is not None:
            self._observer(permit.moved)
        self.in_flight += 1
        self.budget.deposit(now)
        return permit

    def leave(self, permit: Permit, verdict: int, at: float) -> None:
        """The request is over; a good answer's head came `at`."""
        self.in_flight -= 1
        breaker = self.breaker
        if verdict == NEITHER:
            breaker.cancelled(permit, at)
            return
        moved = breaker.succeeded(permit, at) if verdict == GOOD else breaker.failed(permit, at)
        if moved is not None:
            self._observer(moved)

    def pick(
        self, now: float, avoid: Sequence[Endpoint], key: str = ""
    ) -> "tuple[Endpoint, Permit] | None":
        """An instance to ask and its breaker's permit, or None if none can take a request."""
        usable = self._usable
        if not usable:
            return None
        if self.picker.plain:
            if avoid or not self.ways:
                endpoint = self._balancer.pick(usable, load, avoid)
            else:  # what the balancer does, for whom nearly every request asks
                one, other = self.pairs[int(self.random() * self.ways)]
                endpoint = one if one.in_flight <= other.in_flight else other
        else:
            endpoint = self.picker.pick(avoid, key)
        if avoid and endpoint in avoid:
            # All candidates failed; those of another zone, or who are not well, may not.
            another = self._pick_another(endpoint, now, avoid)
            if another is not None:
                return another
        if endpoint.in_flight < endpoint.limit:
            permit = endpoint.breaker.admit(now)
            if permit is not None:
                return endpoint, permit
        return self._pick_another(endpoint, now, avoid)

    def _pick_another(
        self, than: Endpoint, now: float, avoid: Sequence[Endpoint]
    ) -> "tuple[Endpoint, Permit] | None":
        """The least busy that can take a request; of those who are not well only if none is."""
        others = [one for one in self.endpoints if one not in self._usable]
        for other in (*sorted(self._usable, key=load), *sorted(others, key=load)):
            if other is not than and other not in avoid and other.in_flight < other.limit:
                permit = other.breaker.admit(now)
                if permit is not None:
                    return other, permit
        return None

    def why_closed(self, now: float) -> tuple[str, float]:
        """Why the service takes no request, and in how many seconds it may."""
        if self.in_flight < self.max_requests:
            return f"the circuit breaker of {self.service} is open", self.breaker.retry_after(now)
        return f"{self.in_flight} requests to {self.service} are under way", 1.0

    def why_none(self, now: float) -> tuple[str, float]:
        """Why nobody can be asked, and in how many seconds somebody may be."""
        if not self.endpoints:
            return self.why_empty, 1.0
        wait = min(endpoint.breaker.retry_after(now) for endpoint in self.endpoints)
        return f"no instance of {self.service} can take a request now", wait

    def succeeded(self, endpoint: Endpoint, permit: Permit, now: float) -> None:
        moved = endpoint.breaker.succeeded(permit, now)
        if endpoint.suspect:
            endpoint.suspect = False
            self.outliers.succeeded(endpoint.key, now)
        if moved is not None:
            self._observer(moved)

    def answered(self, exchange: "Exchange", endpoint: Endpoint, began: float, now: float) -> bytes:
        """An answer's head is here, to what was sent at `began`; header lines for the client."""
        if self.picker.ewma is not None and exchange.status < 500:
            self.picker.ewma.observe(endpoint, now - began, now)
        return b"" if self.sticky is None else self.sticky.told(exchange, endpoint.token)

    def failed(self, endpoint: Endpoint, permit: Permit, now: float, seconds: float = 0.0) -> None:
        """The instance did not answer, or badly, after `seconds`."""
        endpoint.suspect = True
        self.picker.failed(endpoint, seconds, now)
        moved = endpoint.breaker.failed(permit, now)
        if moved is not None:
            self._observer(moved)
        ejected = self.outliers.failed(endpoint.key, now)
        if ejected is not None:
            self.ejections += 1
            self.settle(now)
            self._observer(ejected)

    def __repr__(self) -> str:
        return f"<Cluster {self.service} {self.constraint} {len(self.endpoints)} endpoints>"


class Clusters:
    """All clusters, and the endpoints they share."""

    def __init__(
        self, config: GatewayConfig, dialer: Dialer, rng: Random, observer: Observer
    ) -> None:
        self._config = config
        self._dialer = dialer
        self._rng = rng
        self._observer = observer
        self._clusters: dict[tuple[str, str], Cluster] = {}
        self._next: dict[tuple[str, str], Cluster] = self._clusters
        self._drafted: GatewayConfig = config
        self._view: View | None = None
        self._endpoints: dict[str, Endpoint] = {}
        self._starting: dict[str, SlowStart] = {}  # endpoints whose weight still grows
        self._ready: frozenset[str] | None = None  # who could be asked, by the last view

    def __iter__(self) -> Iterator[Cluster]:
        return iter(self._clusters.values())

    @property
    def endpoints(self) -> tuple[Endpoint, ...]:
        return tuple(self._endpoints.values())

    def draft(self, config: GatewayConfig) -> None:
        """The clusters that are asked for from now on are those of another configuration."""
        self._drafted = config
        self._next = {}

    def adopt(self, now: float) -> None:
        """They hold now. What nobody asked for is given up; requests under way finish there."""
        for key, cluster in self._next.items():
            before = self._clusters.get(key)
            if before is not None and before is not cluster:
                cluster.inherit(before)
        self._clusters, self._config = self._next, self._drafted
        for endpoint in self._endpoints.values():
            self._retune(endpoint)
        if self._view is not None:
            self.update(self._view, now)

    def cluster(self, service: str, constraint: Constraint) -> Cluster:
        """The one cluster of a service and a constraint."""
        key = (service, constraint.text)
        found = self._next.get(key)
        if found is None:
            config = self._drafted.upstreams_of(service)
            found = self._clusters.get(key)
            if found is None or found.config != config:
                found = Cluster(
                    service, constraint, config, self._drafted.zone, self._rng, self._observer
                )
            self._next[key] = found
        return found

    def _retune(self, endpoint: Endpoint) -> None:
        """Settings of its service may have changed; connections and requests stay."""
        config = self._config.upstreams_of(endpoint.instance.service)
        was, endpoint.config = endpoint.config, config
        if config is was:
            return
        endpoint.limit = config.max_connections
        endpoint.idle_timeout = config.idle_timeout
        if config.instance_breaker != was.instance_breaker:
            endpoint.breaker = Breaker(config.instance_breaker, endpoint.key)
        if config.health != was.health:
            health = config.health
            endpoint.health = None if health is None else RiseFall(health.unhealthy, health.healthy)

    def nobody(self) -> Cluster:
        """A cluster without instances, of routes whose filters answer every request."""
        return Cluster("", ANY, self._config.upstreams, "", self._rng, self._observer)

    def update(self, view: View, now: float) -> None:
        """Take over what the registry knows now."""
        self._view = view
        before = self._ready
        self._ready = frozenset(
            _key(one) for one in view.instances if one.state is InstanceState.READY
        )
        if view.stale and before is None:
            self._ready = None  # whoever comes with the first real view was there before
        wanted: dict[str, Endpoint] = {}
        for cluster in self._clusters.values():
            why_empty = ""
            instances: tuple[Instance, ...] = ()
            try:
                instances = resolve(view.instances, cluster.service, cluster.constraint)
            except NoInstance as none:
                why_empty = f"{none}{' (the registry cannot be reached)' if view.stale else ''}"
            endpoints = tuple(
                self._endpoint(instance, wanted, before, now) for instance in instances
            )
            cluster.update(endpoints, why_empty, now)
        for endpoint in self._endpoints.values():
            if wanted.get(endpoint.key) is not endpoint:
                endpoint.retire()
        self._endpoints = wanted
        for key in self._starting.keys() - wanted.keys():
            del self._starting[key]

    def _endpoint(
        self,
        instance: Instance,
        wanted: dict[str, Endpoint],
        before: frozenset[str] | None,
        now: float,
    ) -> Endpoint:
        key = _key(instance)
        endpoint = wanted.get(key) or self._endpoints.get(key)
        if endpoint is None or endpoint.instance.address != instance.address:
            config = self._config.upstreams_of(instance.service)
            endpoint = Endpoint(instance, config, self._dialer)
            if config.health is not None:
                endpoint.health = RiseFall(config.health.unhealthy, config.health.healthy)
            if before is not None and key not in before:
                self._begin(endpoint, config, now)
        endpoint.instance = instance
        self._weigh(endpoint, now)
        wanted[key] = endpoint
        return endpoint

    def _begin(self, endpoint: Endpoint, config: Upstreams, now: float) -> None:
        """A newcomer, or one that is well again: little by little, if that is wanted."""
        if config.slow_start is not None:
            endpoint.since = now
            self._starting[endpoint.key] = config.slow_start

    def _weigh(self, endpoint: Endpoint, now: float) -> None:
        whole = float(endpoint.instance.weight)
        start = self._starting.get(endpoint.key)
        if start is None:
            endpoint.weight = whole
            return
        endpoint.weight = start.weight(whole, endpoint.since, now)
        if endpoint.weight == whole:
            del self._starting[endpoint.key]
            endpoint.since = ALWAYS

    def checked(self, endpoint: Endpoint, passed: bool, reason: str, now: float) -> None:
        """An active check of an instance has ended."""
        verdict = endpoint.health
        if verdict is None or endpoint.retired or not verdict.checked(passed):
            return
        if passed:
            self._begin(endpoint, self._config.upstreams_of(endpoint.instance.service), now)
            self._weigh(endpoint, now)
        for cluster in self._clusters.values():
            if endpoint in cluster.endpoints:
                cluster.settle(now)
        self._observer(HealthChanged(endpoint.key, passed, reason, now))

    def turn(self, now: float) -> None:
        """Let ejected instances come back when their time is up, and weights grow."""
        if self._starting:
            for key in tuple(self._starting):
                self._weigh(self._endpoints[key], now)
            for cluster in self._clusters.values():
                cluster.weigh()
        for cluster in self._clusters.values():
            if cluster.ejected:
                cluster.settle(now)

    def close(self) -> None:
        for endpoint in self._endpoints.values():
            endpoint.retire()


def _key(instance: Instance) -> str:
    return f"{instance.service}/{instance.instance_id}/{instance.incarnation}"
