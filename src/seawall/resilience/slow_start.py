"""Slow start: an instance that has just come gets its share of the traffic little by little.

A cold process (empty caches, no connections, nothing compiled) given its full share answers late,
and is then ejected for it. The ramp is Envoy's (`slow_start.rst`):
`weight * max(floor, (age / window) ** (1 / aggression))`, with an age of at least a second.
"""

from dataclasses import dataclass

from seawall.errors import Misconfigured

_FIRST_STEP = 1.0  # second; below it Envoy does not look


@dataclass(frozen=True, kw_only=True, slots=True)
class SlowStart:
    """How long the ramp is, and its shape. Raises `Misconfigured`.

    An `aggression` of 1 is a straight line; above it the share grows faster at first.
    """

    window: float = 30.0  # seconds
    aggression: float = 1.0
    floor: float = 0.1  # of the weight; with less, a newcomer of a small service hears nothing

    def __post_init__(self) -> None:
        if not (self.window > 0 and self.aggression > 0):
            raise Misconfigured("window and aggression are more than 0")
        if not 0 < self.floor <= 1:
            raise Misconfigured(f"floor is in (0, 1], not {self.floor}")

    def weight(self, weight: float, since: float, now: float) -> float:
        """What `weight` counts at `now`, for an instance that has been there from `since` on."""
        age = now - since
        if age >= self.window:
            return weight
        share: float = min(1.0, max(age, _FIRST_STEP) / self.window) ** (1.0 / self.aggression)
        return weight * max(self.floor, share)
