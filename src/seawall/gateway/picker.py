"""Which instance of a service is asked, wherever that takes more than two draws among equals.

`settle` lays out groups of candidates (priorities, zones, panic) whenever membership, health or
weights change; `pick` takes a group and lets the service's balancer choose in it. Both are pure
but for the balancer's own memory, which outlives every change of the groups.
"""

from collections.abc import Callable, Sequence
from hashlib import blake2b
from random import Random
from typing import Final

from seawall.gateway.config import Upstreams
from seawall.gateway.upstream import Endpoint
from seawall.resilience.balancer import (
    Balancer,
    LeastRequest,
    RoundRobin,
    Weighted,
    WeightedLeastRequest,
)
from seawall.resilience.balancing import Balancing
from seawall.resilience.consistent_hash import ConsistentHash
from seawall.resilience.locality import LocalityConfig, Member, Plan, plan
from seawall.resilience.peak_ewma import PeakEwma

# To peak EWMA a failure counts as an answer that took at least so long: refusing is fast, and an
# instance that refuses must not look like the fastest of all.
FAILED_AS: Final = 1.0  # seconds

_STARTS: Final = 1 << 16  # gateways begin their rounds at one of so many places


def load(endpoint: Endpoint) -> float:
    """How busy an instance is for its size."""
    return (endpoint.in_flight + 1) / (endpoint.weight or 1.0)


def busy(endpoint: Endpoint) -> float:
    """How busy it is, whatever its size: what moves with a weight would move keys."""
    return endpoint.in_flight + 1.0


def weight(endpoint: Endpoint) -> float:
    return endpoint.weight or 1.0


def name(endpoint: Endpoint) -> str:
    return endpoint.instance.instance_id


class Picker:
    """The candidates of one cluster, and its balancers."""

    __slots__ = (
        "_balancers", "_bound", "_even", "_kind", "_locality", "_plan", "_random", "_rng",
        "_sticky", "_uneven", "ewma", "plain", "tokens",
    )  # fmt: skip

    def __init__(self, config: Upstreams, locality: LocalityConfig, rng: Random) -> None:
        self._kind: Balancing = config.balancing
        self._bound: float = config.hash_bound
        self._locality: LocalityConfig = locality
        self._rng: Random = rng
        self._random: Callable[[], float] = rng.random
        self._plan: Plan[Endpoint] = Plan([], False)
        self._even: LeastRequest = LeastRequest(rng)
        self._uneven: bool = False  # whether weights differ
        self._balancers: list[Balancer[Endpoint]] = []  # one a group, or one for all
        self._sticky: bool = config.sticky is not None
        # Whether the least requested of `usable` is all that there is to it.
        self.plain: bool = False
        self.ewma: PeakEwma[Endpoint] | None = None
        self.tokens: dict[str, Endpoint] = {}  # whom a sticky cookie may name
        if self._kind is Balancing.PEAK_EWMA:
            self.ewma = PeakEwma(rng)

    @property
    def panic(self) -> bool:
        return self._plan.panic

    def settle(self, endpoints: Sequence[Endpoint], out: frozenset[str]) -> list[Endpoint]:
        """Lay out the groups anew; `out` are the keys of those who are not well. Returns all who
        may be asked."""
        members = [
            Member(one, one.key not in out, one.instance.priority, one.instance.zone)
            for one in endpoints
        ]
        # Who weighs nothing is asked only if nobody else is well, or by a cookie.
        heavy = [member for member in members if member.one.instance.weight]
        if any(member.healthy for member in heavy) or not any(m.healthy for m in members):
            members = heavy or members
        self._plan = plan(members, self._locality)
        usable = [one for _, ones in self._plan.groups for one in ones]
        if self._sticky:
            named = [one for one in endpoints if one.key not in out or one in usable]
            self.tokens = {one.token: one for one in named}
        self.weigh(usable)
        return usable

    def weigh(self, usable: Sequence[Endpoint]) -> None:
        """Weights may have changed."""
        self._uneven = len({one.weight for one in usable}) > 1
        self.plain = (
            self._kind is Balancing.LEAST_REQUEST
            and not self._uneven
            and not self._sticky
            and len(self._plan.groups) < 2
        )

    def pick(self, avoid: Sequence[Endpoint], key: str) -> Endpoint:
        """One who may be asked; there must be somebody."""
        if self._sticky:
            named = self.tokens.get(key)
            if named is not None and named not in avoid:
                return named
            key = ""
        groups = self._plan.groups
        place = 0
        if len(groups) > 1:
            # A key's group is the key's own, or it would be at home in every group.
            place = self._plan.place(_chance(key) if key else self._random())
        candidates = groups[place][1]
        measure = busy if self._kind is Balancing.CONSISTENT_HASH else load
        return self._balancer(place).pick(candidates, measure, avoid, key)

    def _balancer(self, place: int) -> Balancer[Endpoint]:
        kind = self._kind
        if kind is Balancing.LEAST_REQUEST and not self._uneven:
            return self._even
        # A ring is laid out for one group of candidates, and a round goes through one.
        if kind is not Balancing.CONSISTENT_HASH and kind is not Balancing.ROUND_ROBIN:
            place = 0
        while len(self._balancers) <= place:
            self._balancers.append(self._made())
        return self._balancers[place]

    def _made(self) -> Balancer[Endpoint]:
        rng = self._rng
        match self._kind:
            case Balancing.ROUND_ROBIN:
                return RoundRobin(rng.randrange(_STARTS))
            case Balancing.WEIGHTED:
                return Weighted(weight)
            case Balancing.LEAST_REQUEST:
                return WeightedLeastRequest(rng, weight)
            case Balancing.PEAK_EWMA:
                assert self.ewma is not None
                return self.ewma
            case Balancing.CONSISTENT_HASH:
                return ConsistentHash(rng, name, self._bound)

    def failed(self, endpoint: Endpoint, seconds: float, now: float) -> None:
        """The instance did not answer, or badly, after so long."""
        if self.ewma is not None:
            self.ewma.observe(endpoint, max(seconds, FAILED_AS), now)

    def forget(self, endpoint: Endpoint) -> None:
        """The instance is gone."""
        if self.ewma is not None:
            self.ewma.forget(endpoint)

    def __repr__(self) -> str:
        return f"<Picker {self._kind} {self._plan!r}>"


def _chance(key: str) -> float:
    """A number in [0, 1) that is the key's own, in every process, and none of its ring's."""
    digest = blake2b(key.encode(), digest_size=6, person=b"group").digest()
    return int.from_bytes(digest, "big") / 2.0**48
