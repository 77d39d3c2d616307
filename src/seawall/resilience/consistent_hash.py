"""Balancing by key: consistent hashing with bounded loads.

Instances and keys are hashed onto a ring, and a key goes to the instance that follows it (Karger
et al. 1997): when an instance comes or goes, only its keys move. An instance that already has
`bound` times the average load is passed over for the next on the ring (Mirrokni, Thorup and
Zadimoghaddam, "Consistent Hashing with Bounded Loads", 2016), so one hot key fills one instance
and no more.

The hash is BLAKE2b and not `hash()`, which differs from process to process: every gateway sends
a key to the same instance.
"""

import sys
from bisect import bisect
from collections.abc import Callable, Container, Sequence
from hashlib import blake2b
from random import Random
from typing import Generic, TypeVar

from seawall.errors import Misconfigured
from seawall.resilience.balancer import LeastRequest, willing

T = TypeVar("T")

# Of each instance, on the ring. The shares of the instances then differ by about a twelfth
# (1/sqrt(160)); ketama and nginx use 160 too.
POINTS = 160

_PER_DIGEST = 8  # points of 8 bytes in a digest of 64


class ConsistentHash(Generic[T]):
    """The same `key` to the same instance, as far as membership and load allow.

    Requests without a key go by least request. `name` says who an instance is: it must outlive
    a restart if keys are to come back to it. Weights act through `load` alone: were points
    given by weight, each change of a weight would move keys.
    """

    __slots__ = ("_bound", "_hashes", "_keyless", "_members", "_name", "_owners", "_seen")

    def __init__(self, rng: Random, name: Callable[[T], str] = str, bound: float = 1.25) -> None:
        if not bound > 1.0:
            raise Misconfigured(f"bound is above 1 (times the average load), not {bound}")
        self._keyless: LeastRequest = LeastRequest(rng)
        self._name: Callable[[T], str] = name
        self._bound: float = bound
        self._seen: Sequence[T] | None = None
        self._members: list[T] = []
        self._hashes: list[int] = []
        self._owners: list[T] = []

    def pick(
        self,
        candidates: Sequence[T],
        load: Callable[[T], float],
        avoid: Container[T] = (),
        key: str = "",
    ) -> T:
        """See `Balancer`. Without ties to load, `avoid` moves a key as if those were gone."""
        if not key:
            return self._keyless.pick(candidates, load, avoid)
        left = willing(candidates, avoid)
        if len(left) == 1:
            return left[0]
        if candidates is not self._seen:
            self._take(candidates)
        # An infinite load is that of an instance which should get nothing.
        limit = min(self._bound * sum(map(load, left)) / len(left), sys.float_info.max)
        if len(left) == len(candidates):
            avoid = ()
        owners, count = self._owners, len(self._owners)
        start = bisect(self._hashes, _hash(key.encode()))
        for step in range(start, start + count):
            owner = owners[step % count]
            if load(owner) <= limit and (not avoid or owner not in avoid):
                return owner
        return self._keyless.pick(left, load)

    def __repr__(self) -> str:
        return f"<ConsistentHash of {len(self._members)}, bound {self._bound:g}>"

    def _take(self, candidates: Sequence[T]) -> None:
        """Lay out the ring anew, unless it is the same instances in another sequence object."""
        self._seen = candidates
        members = list(candidates)
        if members == self._members:
            return
        self._members = members
        points = [
            (point, name, index)
            for index, name in enumerate(map(self._name, members))
            for point in _points(name)
        ]
        points.sort()
        self._hashes = [point for point, _, _ in points]
        self._owners = [members[index] for _, _, index in points]


def _hash(data: bytes) -> int:
    return int.from_bytes(blake2b(data, digest_size=8).digest(), "big")


def _points(name: str) -> list[int]:
    points: list[int] = []
    for number in range(POINTS // _PER_DIGEST):
        digest = blake2b(f"{name}#{number}".encode()).digest()
        points += [int.from_bytes(digest[at : at + 8], "big") for at in range(0, 64, 8)]
    return points
