"""Services as the gateway sees them: their instances now, and which of them to ask.

The registry pushes views; each becomes a new tuple of endpoints, swapped in at once. An endpoint
lives as long as its incarnation is in the view, and keeps its connections, breaker and counts
through every change around it.
"""

from collections.abc import Iterator, Sequence
from random import Random
from typing import Protocol

from seawall.errors import NoInstance
from seawall.facts import Observer
from seawall.gateway.config import Upstreams
from seawall.gateway.upstream import Dialer, Endpoint
from seawall.resilience.balancer import LeastRequest
from seawall.resilience.breaker import Breaker, Permit
from seawall.resilience.budget import RetryBudget
from seawall.resilience.outlier import Outliers
from seawall.topology import ANY, Constraint, Instance, resolve


class View(Protocol):
    """What is known of all instances."""

    @property
    def instances(self) -> tuple[Instance, ...]: ...
    @property
    def stale(self) -> bool: ...
    @property
    def read_at(self) -> float: ...


def load(endpoint: Endpoint) -> float:
    return (endpoint.in_flight + 1) / (endpoint.weight or 1)


class Cluster:
    """The instances of one service in the versions that a route allows."""

    __slots__ = (
        "_balancer",
        "_observer",
        "_outliers",
        "_usable",
        "breaker",
        "budget",
        "constraint",
        "endpoints",
        "in_flight",
        "max_requests",
        "service",
        "why_empty",
    )

    def __init__(
        self,
        service: str,
        constraint: Constraint,
        config: Upstreams,
        rng: Random,
        observer: Observer,
    ) -> None:
        self.service: str = service
        self.constraint: Constraint = constraint
        self.breaker: Breaker = Breaker(config.breaker, service)
        self.budget: RetryBudget = RetryBudget(config.retry_ratio, config.retry_floor)
        self.max_requests: int = config.max_requests
        self.in_flight: int = 0
        self.endpoints: tuple[Endpoint, ...] = ()
        self.why_empty: str = "the registry has not been read yet"
        self._usable: Sequence[Endpoint] = ()
        self._balancer: LeastRequest = LeastRequest(rng)
        self._outliers: Outliers = Outliers(config.outliers)
        self._observer: Observer = observer

    def update(self, endpoints: tuple[Endpoint, ...], why_empty: str, now: float) -> None:
        for gone in {endpoint.key for endpoint in self.endpoints} - {e.key for e in endpoints}:
            self._outliers.forget(gone)
        self.endpoints = endpoints
        self.why_empty = why_empty
        self.settle(now)

    def settle(self, now: float) -> None:
        """Find who is to be asked: not those ejected, and weight 0 only if there is no other."""
        endpoints = self.endpoints
        keys = [endpoint.key for endpoint in endpoints]
        usable = set(self._outliers.usable(keys, now))
        kept = [endpoint for endpoint in endpoints if endpoint.key in usable]
        self._usable = [endpoint for endpoint in kept if endpoint.weight] or kept

    def pick(self, now: float, avoid: Sequence[Endpoint]) -> "tuple[Endpoint, Permit] | None":
        """An instance to ask and its breaker's permit, or None if none can take a request."""
        usable = self._usable
        if not usable:
            return None
        endpoint = usable[0] if len(usable) == 1 else self._balancer.pick(usable, load, avoid)
        if endpoint.in_flight < endpoint.limit:
            permit = endpoint.breaker.admit(now)
            if permit is not None:
                return endpoint, permit
        for other in sorted(self.endpoints, key=load):
            if other is not endpoint and other not in avoid and other.in_flight < other.limit:
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
            self._outliers.succeeded(endpoint.key, now)
        if moved is not None:
            self._observer(moved)

    def failed(self, endpoint: Endpoint, permit: Permit, now: float) -> None:
        endpoint.suspect = True
        moved = endpoint.breaker.failed(permit, now)
        if moved is not None:
            self._observer(moved)
        ejected = self._outliers.failed(endpoint.key, now)
        if ejected is not None:
            self.settle(now)
            self._observer(ejected)

    def settled(self, permit: Permit, good: bool, now: float) -> None:
        """The whole exchange, retries included, ended; `permit` is the service's own breaker's."""
        moved = self.breaker.succeeded(permit, now) if good else self.breaker.failed(permit, now)
        if moved is not None:
            self._observer(moved)

    def is_ejected(self, endpoint: Endpoint) -> bool:
        return endpoint not in self._usable

    def has_outliers(self) -> bool:
        return len(self._usable) != len(self.endpoints)

    def __repr__(self) -> str:
        return f"<Cluster {self.service} {self.constraint} {len(self.endpoints)} endpoints>"


class Clusters:
    """All clusters, and the endpoints they share."""

    def __init__(self, config: Upstreams, dialer: Dialer, rng: Random, observer: Observer) -> None:
        self._config = config
        self._dialer = dialer
        self._rng = rng
        self._observer = observer
        self._clusters: dict[tuple[str, str], Cluster] = {}
        self._endpoints: dict[str, Endpoint] = {}
        self._instances: tuple[Instance, ...] = ()

    def __iter__(self) -> Iterator[Cluster]:
        return iter(self._clusters.values())

    def cluster(self, service: str, constraint: Constraint) -> Cluster:
        """The one cluster of a service and a constraint."""
        key = (service, constraint.text)
        if key not in self._clusters:
            self._clusters[key] = Cluster(
                service, constraint, self._config, self._rng, self._observer
            )
        return self._clusters[key]

    def nobody(self) -> Cluster:
        """A cluster without instances, of routes whose filters answer every request."""
        return Cluster("", ANY, self._config, self._rng, self._observer)

    def update(self, view: View, now: float) -> None:
        """Take over what the registry knows now."""
        self._instances = view.instances
        wanted: dict[str, Endpoint] = {}
        for cluster in self._clusters.values():
            why_empty = ""
            instances: tuple[Instance, ...] = ()
            try:
                instances = resolve(view.instances, cluster.service, cluster.constraint)
            except NoInstance as none:
                why_empty = f"{none}{' (the registry cannot be reached)' if view.stale else ''}"
            endpoints = tuple(self._endpoint(instance, wanted) for instance in instances)
            cluster.update(endpoints, why_empty, now)
        for key, endpoint in self._endpoints.items():
            if key not in wanted:
                endpoint.retire()
        self._endpoints = wanted

    def _endpoint(self, instance: Instance, wanted: dict[str, Endpoint]) -> Endpoint:
        key = f"{instance.service}/{instance.instance_id}/{instance.incarnation}"
        endpoint = wanted.get(key) or self._endpoints.get(key)
        if endpoint is None or endpoint.instance.address != instance.address:
            endpoint = Endpoint(instance, self._config, self._dialer)
        endpoint.instance = instance
        endpoint.weight = instance.weight
        wanted[key] = endpoint
        return endpoint

    def turn(self, now: float) -> None:
        """Let ejected instances come back when their time is up."""
        for cluster in self._clusters.values():
            if cluster.has_outliers():
                cluster.settle(now)

    def close(self) -> None:
        for endpoint in self._endpoints.values():
            endpoint.retire()
