"""Balancers by name."""

from collections.abc import Callable
from enum import StrEnum
from random import Random
from typing import TypeVar

from seawall.resilience.balancer import Balancer, LeastRequest, RoundRobin, Weighted
from seawall.resilience.consistent_hash import ConsistentHash
from seawall.resilience.peak_ewma import PeakEwma

T = TypeVar("T")

# Callers start their rounds at one of so many places.
_STARTS = 1 << 16


class Balancing(StrEnum):
    """The value is the name in a configuration."""

    ROUND_ROBIN = "round-robin"
    WEIGHTED = "weighted"
    LEAST_REQUEST = "least-request"
    PEAK_EWMA = "peak-ewma"
    CONSISTENT_HASH = "consistent-hash"


def balancer(
    kind: Balancing, rng: Random, weight: Callable[[T], float], name: Callable[[T], str]
) -> Balancer[T]:
    """A balancer of that kind, with a state of its own.

    `weight` is asked by `weighted` (the others see it in `load`), `name` by `consistent-hash`.
    Who asks for `peak-ewma` must also `observe` each answer.
    """
    match kind:
        case Balancing.ROUND_ROBIN:
            return RoundRobin(rng.randrange(_STARTS))
        case Balancing.WEIGHTED:
            return Weighted(weight)
        case Balancing.LEAST_REQUEST:
            return LeastRequest(rng)
        case Balancing.PEAK_EWMA:
            return PeakEwma(rng)
        case Balancing.CONSISTENT_HASH:
            return ConsistentHash(rng, name)
