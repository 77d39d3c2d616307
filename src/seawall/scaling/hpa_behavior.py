"""What a HorizontalPodAutoscaler's `behavior` allows: windows, policies, bounds.

Followed: pkg/controller/podautoscaler/horizontal.go of Kubernetes (stabilizeRecommendation with
and without behaviors, convertDesiredReplicas with rules and with behavior rate, storeScaleEvent)
and pkg/apis/autoscaling/v2/defaults.go for what is not said.

Histories are tuples of (number, time). A new entry takes the place of the last one that no window
reaches, so a history is as long as the longest window has looks.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from seawall.errors import Misconfigured
from seawall.scaling.decision import MOST, Limit

History = tuple[tuple[int, float], ...]

# Without behavior: at most twice as many at once, but four are always allowed.
UP_FACTOR = 2.0
UP_LEAST = 4

LONGEST_WINDOW = 3600.0  # seconds; the API server refuses more
LONGEST_PERIOD = 1800.0  # seconds; as above


class Unit(Enum):
    PODS = "Pods"
    PERCENT = "Percent"


class Select(Enum):
    """Which of several policies counts."""

    MAX = "Max"  # the one that allows the biggest change
    MIN = "Min"
    DISABLED = "Disabled"


@dataclass(frozen=True, slots=True)
class Policy:
    """No more than `value` pods, or per cent of pods, in `period` seconds."""

    unit: Unit
    value: int
    period: float

    def __post_init__(self) -> None:
        if self.value <= 0 or not 0 < self.period <= LONGEST_PERIOD:
            raise Misconfigured(
                f"a policy of {self.value} in {self.period} s",
                fix=f"a value above 0, a period above 0 and at most {LONGEST_PERIOD:g} s",
            )


@dataclass(frozen=True, slots=True)
class Rules:
    """What holds in one direction."""

    policies: tuple[Policy, ...]
    window: float = 0.0  # seconds; the least change asked for in it is made
    select: Select = Select.MAX

    def __post_init__(self) -> None:
        if not 0 <= self.window <= LONGEST_WINDOW:
            raise Misconfigured(
                f"a stabilization window of {self.window} s",
                fix=f"0 to {LONGEST_WINDOW:g} s",
            )
        if not self.policies:
            raise Misconfigured(
                "rules without a policy allow nothing", fix="select = Select.DISABLED says so"
            )


UP = Rules((Policy(Unit.PODS, 4, 15.0), Policy(Unit.PERCENT, 100, 15.0)))
DOWN = Rules((Policy(Unit.PERCENT, 100, 15.0),), window=300.0)


@dataclass(frozen=True, slots=True)
class Behavior:
    up: Rules = UP
    down: Rules = DOWN


def highest(history: History, proposed: int, window: float, now: float) -> int:
    """The most that was proposed in the window: what holds without behavior."""
    cutoff = now - window
    most = proposed
    for number, at in history:
        if number > most and at >= cutoff:
            most = number
    return most


def stabilized(
    history: History, current: int, proposed: int, behavior: Behavior, now: float
) -> int:
    """Between the least that was lately proposed (to go up) and the most (to go down)."""
    up_cutoff, down_cutoff = now - behavior.up.window, now - behavior.down.window
    lowest = most = proposed
    for number, at in history:
        if at > up_cutoff and number < lowest:
            lowest = number
        if at > down_cutoff and number > most:
            most = number
    return min(max(current, lowest), most)


def remembered(history: History, entry: int, cutoff: float, now: float) -> History:
    """The history with an entry more, in the place of the last one older than `cutoff`."""
    for place in range(len(history) - 1, -1, -1):
        if history[place][1] < cutoff:
            return (*history[:place], (entry, now), *history[place + 1 :])
    return (*history, (entry, now))


def longest_period(rules: Rules) -> float:
    return max(policy.period for policy in rules.policies)


def changed(history: History, period: float, now: float) -> int:
    """By how many replicas in the period."""
    cutoff = now - period
    return sum(number for number, at in history if at > cutoff)


def bounded(current: int, proposed: int, least: int, most: int) -> tuple[int, Limit]:
    """Within the bounds, and not too many at once, where there is no behavior."""
    limit = int(max(UP_FACTOR * current, UP_LEAST))
    if proposed < least:
        return least, Limit.TOO_FEW
    if proposed > min(most, limit):
        return (limit, Limit.SCALE_UP) if most > limit else (most, Limit.TOO_MANY)
    return proposed, Limit.WITHIN_RANGE


def paced(
    current: int,
    proposed: int,
    bounds: tuple[int, int],
    behavior: Behavior,
    changes: tuple[History, History],
    now: float,
) -> tuple[int, Limit]:
    """Within the bounds, and no faster than the policies allow; `changes` are those up and down."""
    least, most = bounds
    if proposed > current:
        limit = max(current, up_limit(current, behavior.up, changes, now))
        if proposed > min(most, limit):
            return (limit, Limit.SCALE_UP) if most > limit else (most, Limit.TOO_MANY)
    elif proposed < current:
        limit = min(current, down_limit(current, behavior.down, changes, now))
        if proposed < max(least, limit):
            return (limit, Limit.SCALE_DOWN) if least < limit else (least, Limit.TOO_FEW)
    return proposed, Limit.WITHIN_RANGE


def up_limit(current: int, rules: Rules, changes: tuple[History, History], now: float) -> int:
    """How many replicas the policies allow at most."""
    if rules.select is Select.DISABLED:
        return current
    proposals = [
        start + policy.value
        if policy.unit is Unit.PODS
        # Rounded up: a small fleet would never grow.
        else math.ceil(start * (1 + policy.value / 100))
        for policy, start in _starts(current, rules.policies, changes, now)
    ]
    return min(MOST, (min if rules.select is Select.MIN else max)(proposals))


def down_limit(current: int, rules: Rules, changes: tuple[History, History], now: float) -> int:
    """How many replicas the policies allow at least."""
    if rules.select is Select.DISABLED:
        return current
    proposals = [
        start - policy.value if policy.unit is Unit.PODS else int(start * (1 - policy.value / 100))
        for policy, start in _starts(current, rules.policies, changes, now)
    ]
    return (max if rules.select is Select.MIN else min)(proposals)


def _starts(
    current: int, policies: Sequence[Policy], changes: tuple[History, History], now: float
) -> list[tuple[Policy, int]]:
    """With each policy, how many replicas there were when its period began."""
    ups, downs = changes
    return [
        (policy, current - changed(ups, policy.period, now) + changed(downs, policy.period, now))
        for policy in policies
    ]
