"""Target tracking, as AWS does it: keep a proportional metric at its target.

A metric is proportional when twice the replicas halve it: CPU, requests or backlog of each
replica. Latency and the length of a whole queue are not. Out is quick and in is slow: three
points in a row above the target scale out, fifteen below nine tenths of it scale in. These counts
are what AWS's alarms are seen to have; its documents name none. Replicas that are still warming up
count as capacity, and while there are any, nothing scales in.

What the documents do say is followed: during the cooldown after scaling out, what was added counts
as capacity of the next decision; during the one after scaling in nothing else leaves, but out goes
at once; of several policies any one scales out, and all must agree to scale in (`combine`).
"""

import math
from dataclasses import dataclass, replace

from seawall.errors import Misconfigured
from seawall.scaling.decision import MOST, Decision, Limit


@dataclass(frozen=True, slots=True)
class TrackingSamples:
    """The metric as the mean of a point's time; None if there was none."""

    replicas: int
    value: float | None
    warming: int = 0  # of the replicas, those that do not serve yet


@dataclass(frozen=True, slots=True)
class TrackingState:
    above: int = 0  # points in a row
    below: int = 0
    went_in_at: float = -math.inf


@dataclass(frozen=True, kw_only=True, slots=True)
class TargetTracking:
    target: float
    minimum: int = 1
    maximum: int
    points_out: int = 3
    points_in: int = 15
    low: float = 0.9  # of the target, below which it scales in
    cooldown_in: float = 300.0  # seconds between two steps in
    scales_in: bool = True

    def __post_init__(self) -> None:
        if not self.target > 0:
            raise Misconfigured(f"a target above 0, not {self.target}")
        if not 0 <= self.minimum <= self.maximum or self.maximum < 1:
            raise Misconfigured(f"between {self.minimum} and {self.maximum} replicas")
        if not 0 < self.low <= 1 or min(self.points_out, self.points_in) < 1:
            raise Misconfigured(
                f"in below {self.low} of the target",
                fix="low is above 0 and at most 1, and every direction takes at least one point",
            )

    def begin(self) -> TrackingState:
        return TrackingState()

    def decide(
        self, state: TrackingState, samples: TrackingSamples, now: float
    ) -> tuple[TrackingState, Decision]:
        """Called once a point: a minute, at AWS."""
        current, value = samples.replicas, samples.value
        if value is None or not 0 <= value < math.inf:
            # Missing data is neither above nor below: whatever was counted begins anew.
            unknown = Decision(current, "no data", (Limit.NO_DATA,))
            return replace(state, above=0, below=0), self._within(unknown)
        above = state.above + 1 if value > self.target else 0
        below = state.below + 1 if value < self.target * self.low else 0
        state = replace(state, above=above, below=below)
        reason = f"{value:g}, target {self.target:g}"
        if above >= self.points_out:
            # Those that warm up do not lower the metric yet: it is that of the others.
            serving = max(1, current - samples.warming)
            wanted = min(MOST, math.ceil(serving * value / self.target))
            return state, self._within(Decision(max(current, wanted), reason, (), wanted))
        if below >= self.points_in:
            wanted = min(current, math.ceil(current * value / self.target))
            return self._inward(state, Decision(wanted, reason, (), wanted), samples, now)
        return state, self._within(Decision(current, reason, (), current))

    def _inward(
        self, state: TrackingState, decision: Decision, samples: TrackingSamples, now: float
    ) -> tuple[TrackingState, Decision]:
        limit: Limit | None = None
        if not self.scales_in:
            limit = Limit.DISABLED
        elif samples.warming:
            limit = Limit.WARM_UP
        elif now - state.went_in_at < self.cooldown_in:
            limit = Limit.COOLDOWN
        if limit is not None:
            held = replace(decision, desired=samples.replicas, limits=(limit,))
            return state, self._within(held)
        decision = self._within(decision)
        if decision.desired < samples.replicas:
            state = replace(state, went_in_at=now, below=0)
        return state, decision

    def _within(self, decision: Decision) -> Decision:
        if decision.desired < self.minimum:
            limits = (*decision.limits, Limit.TOO_FEW)
            return replace(decision, desired=self.minimum, limits=limits)
        if decision.desired > self.maximum:
            limits = (*decision.limits, Limit.TOO_MANY)
            return replace(decision, desired=self.maximum, limits=limits)
        return decision
