"""Step scaling, as AWS does it: the further the metric is beyond the alarm, the bigger the step.

Bounds of a step count from the alarm's threshold: with a threshold of 60, a step from 10 to 20
holds from 70 to below 80. Followed are AWS's documents: percentages above one are cut to whole
replicas and those between nothing and one count as one; a minimum magnitude lifts them; while
replicas warm up, a bigger breach adds only what is missing to its step, and nothing scales in.
"""

import math
from dataclasses import dataclass, replace
from enum import Enum
from itertools import pairwise

from seawall.errors import Misconfigured
from seawall.scaling.decision import Decision, Limit


class Adjustment(Enum):
    """What the number of a step means."""

    CHANGE = "replicas more or fewer"
    EXACT = "replicas"
    PERCENT = "per cent more or fewer"


@dataclass(frozen=True, slots=True)
class Step:
    """From `lower` to below `upper` beyond the threshold; None has no end."""

    lower: float | None
    upper: float | None
    by: float

    def holds(self, breach: float) -> bool:
        return (self.lower is None or breach >= self.lower) and (
            self.upper is None or breach < self.upper
        )


@dataclass(frozen=True, slots=True)
class StepSamples:
    replicas: int
    value: float | None
    warming: int = 0


@dataclass(frozen=True, slots=True)
class StepState:
    breached: int = 0  # points in a row


@dataclass(frozen=True, kw_only=True, slots=True)
class StepScaling:
    """One alarm with its steps. `above`: it sounds above the threshold, else below."""

    threshold: float
    steps: tuple[Step, ...]
    minimum: int = 1
    maximum: int
    adjustment: Adjustment = Adjustment.CHANGE
    magnitude: int = 1  # replicas at least, of a step in per cent
    points: int = 1  # in a row beyond the threshold, before it sounds
    above: bool = True

    def __post_init__(self) -> None:
        if not self.steps:
            raise Misconfigured("an alarm without a step changes nothing", fix="Step(0, None, 1)")
        if not 0 <= self.minimum <= self.maximum or self.maximum < 1:
            raise Misconfigured(f"between {self.minimum} and {self.maximum} replicas")
        ordered = sorted(self.steps, key=lambda step: _low(step.lower))
        for one, other in pairwise(ordered):
            if one.upper is None or one.upper != other.lower:
                raise Misconfigured(
                    f"steps to {one.upper} and from {other.lower}",
                    fix="steps meet: each begins where the one before it ends",
                )

    def begin(self) -> StepState:
        return StepState()

    def decide(
        self, state: StepState, samples: StepSamples, now: float
    ) -> tuple[StepState, Decision]:
        """Called once a point; when is not asked."""
        current, value = samples.replicas, samples.value
        if value is None or not math.isfinite(value):
            return StepState(), Decision(current, "no data", (Limit.NO_DATA,))
        breach = value - self.threshold
        is_beyond = breach >= 0 if self.above else breach <= 0
        state = StepState(state.breached + 1 if is_beyond else 0)
        reason = f"{value:g}, threshold {self.threshold:g}"
        step = next((each for each in self.steps if each.holds(breach)), None)
        if state.breached < self.points or step is None:
            return state, Decision(current, reason, (), current)
        serving = current - samples.warming
        wanted = self._stepped(serving, step)
        if wanted > serving:
            # What warms up is a part of the step already.
            return state, self._within(Decision(max(current, wanted), reason, (), wanted))
        if samples.warming:
            return state, Decision(current, reason, (Limit.WARM_UP,), wanted)
        return state, self._within(Decision(wanted, reason, (), wanted))

    def _stepped(self, serving: int, step: Step) -> int:
        if self.adjustment is Adjustment.EXACT:
            return max(0, int(step.by))
        if self.adjustment is Adjustment.CHANGE:
            return max(0, serving + int(step.by))
        change = serving * step.by / 100
        if change == 0:
            return serving
        size = max(self.magnitude, int(abs(change)), 1)
        return max(0, serving + (size if change > 0 else -size))

    def _within(self, decision: Decision) -> Decision:
        bounded = min(max(decision.desired, self.minimum), self.maximum)
        if bounded == decision.desired:
            return decision
        limit = Limit.TOO_FEW if bounded > decision.desired else Limit.TOO_MANY
        return replace(decision, desired=bounded, limits=(*decision.limits, limit))


def _low(bound: float | None) -> float:
    return -math.inf if bound is None else bound
