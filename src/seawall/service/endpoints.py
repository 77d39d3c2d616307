"""Instances that a client may call: their pools, breakers, and which one is next.

One endpoint for each incarnation of an instance, made when it is first seen and closed when it
leaves the view. Picking is power of two choices over requests under way, among those that are
neither ejected nor have just refused a connection; if that leaves none, among all.
"""

from collections.abc import Iterator, Sequence
from random import Random

from seawall.clock import SYSTEM, Clock
from seawall.errors import NoInstance
from seawall.facts import Observer
from seawall.resilience.balancer import LeastRequest
from seawall.resilience.breaker import Breaker, BreakerConfig, State
from seawall.resilience.outlier import Outliers
from seawall.topology import Instance
from seawall.transport.pool import Pool, PoolConfig
from seawall.transport.tls import Secured

# An instance that refuses connections is gone or restarting: the registry says so within a
# lease, and until then nobody is sent there.
AWAY_FOR = 3.0  # seconds

# Opens on failures in a row, at one instance only; the others go on.
INSTANCE_BREAKER = BreakerConfig(open_for=5.0, growth=2.0, open_for_max=60.0, jitter=0.2)


class Endpoint:
    """One instance, as this client sees it."""

    __slots__ = ("away_until", "breaker", "instance", "key", "picks", "pool")

    def __init__(self, instance: Instance, pool: Pool, breaker: Breaker) -> None:
        self.key = f"{instance.instance_id}/{instance.incarnation}"
        self.instance = instance
        self.pool = pool
        self.breaker = breaker
        self.away_until = float("-inf")
        self.picks = 0

    def __repr__(self) -> str:
        return f"<Endpoint {self.key} {self.breaker.state.value} {self.pool!r}>"


class Endpoints:
    """The endpoints of one service."""

    def __init__(
        self,
        service: str,
        pool: PoolConfig,
        *,
        rng: Random,
        observer: Observer,
        tls: Secured | None = None,
        clock: Clock = SYSTEM,
    ) -> None:
        self._service = service
        self._pool = pool
        self._tls = tls
        self._rng = rng
        self._observer = observer
        self._clock = clock
        self._known: dict[str, Endpoint] = {}
        self._outliers = Outliers()
        self._balancer = LeastRequest(rng)
        self._seen: Sequence[Instance] = ()
        self._current: list[Endpoint] = []

    def pick(self, instances: Sequence[Instance], avoid: Sequence[str]) -> Endpoint:
        """One of `instances` to ask, and none of the keys in `avoid` if there is another.

        Raises `NoInstance`.
        """
        if instances is not self._seen:  # the watcher returns the same tuple until a change
            self._seen = instances
            self._current = [self._endpoint(instance) for instance in instances]
        usable = self._usable(self._current)
        if avoid:
            usable = [one for one in usable if one.key not in avoid] or usable
        if not usable:
            raise NoInstance(f"no instance of {self._service}")
        picked = self._balancer.pick(usable, _load)
        picked.picks += 1
        return picked

    def _usable(self, endpoints: list[Endpoint]) -> list[Endpoint]:
        now = self._clock.now()
        keys = [endpoint.key for endpoint in endpoints]
        kept = self._outliers.usable(keys, now)
        if kept is not keys:
            endpoints = [endpoint for endpoint in endpoints if endpoint.key in kept]
        healthy = [
            endpoint
            for endpoint in endpoints
            if endpoint.away_until <= now and not self._tripped(endpoint, now)
        ]
        return healthy or endpoints

    def _tripped(self, endpoint: Endpoint, now: float) -> bool:
        return endpoint.breaker.state is not State.CLOSED and endpoint.breaker.retry_after(now) > 0

    def _endpoint(self, instance: Instance) -> Endpoint:
        key = f"{instance.instance_id}/{instance.incarnation}"
        found = self._known.get(key)
        if found is None:
            name = f"{self._service}/{instance.instance_id}"
            breaker = Breaker(INSTANCE_BREAKER, name=name, rng=self._rng)
            pool = Pool(instance.address, self._pool, tls=self._tls, clock=self._clock)
            found = self._known[key] = Endpoint(instance, pool, breaker)
        found.instance = instance
        return found

    def __iter__(self) -> Iterator[Endpoint]:
        return iter(tuple(self._known.values()))

    def succeeded(self, endpoint: Endpoint) -> None:
        self._outliers.succeeded(endpoint.key, self._clock.now())

    def failed(self, endpoint: Endpoint) -> None:
        if (ejected := self._outliers.failed(endpoint.key, self._clock.now())) is not None:
            self._observer(ejected)

    def evict(self, endpoint: Endpoint) -> None:
        """Nobody, or somebody else, answers there: send no more, and close what is open."""
        endpoint.away_until = self._clock.now() + AWAY_FOR
        endpoint.pool.drop_idle()

    def keep_only(self, instances: Sequence[Instance]) -> None:
        """Close the connections to all others; requests under way may finish."""
        keys = {f"{instance.instance_id}/{instance.incarnation}" for instance in instances}
        for key in self._known.keys() - keys:
            self._known.pop(key).pool.close()
            self._outliers.forget(key)

    def close(self) -> None:
        self.keep_only(())


def _load(endpoint: Endpoint) -> float:
    weight = endpoint.instance.weight
    return (endpoint.pool.active + 1) / weight if weight > 0 else float("inf")
