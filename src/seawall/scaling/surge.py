"""Ours: up at once on what is offered, down quietly on what was needed.

Others scale on what a saturated fleet still does: CPU stops at 100 % and concurrency at the limit,
so a tenfold load takes them several rounds. `surge` goes by offered load, shed requests among it,
and by backlog: both say at once how much is asked for.

- Up: the load that will be when a new replica is ready, from a level and its trend, or what the
  last second says if that is more than chance explains. Backlog is to be gone in `drain` seconds.
- Down: to the most that was needed in a whole window, and only if that is well below what there is,
  a share at a time. Not while it is still calming down after it went up.
- Capacity: what a replica bears is learnt where it can be seen, from how much the busy ones serve.
- What is not known holds: without figures nothing scales in.

The level is an exponential mean, so a state is a handful of numbers whatever the load.
"""

import math
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import NamedTuple

from seawall.errors import Misconfigured
from seawall.scaling.decision import MOST, Decision, Limit

# More than this many standard deviations above the level is no chance. With 3.7, which a normal
# distribution exceeds once in an hour of two looks a second, real traces turned 2.2 times an hour,
# with 5 they turn 1.9 times; a tenfold step is hundreds of them.
SURPRISE = 5.0

# A trend is followed if its two means differ by more than that many. On real traces two gave 2.9
# turns an hour and three 2.4; four left it short for twice as long.
TREND = 3.0

SLACK = 0.005  # of a replica, for which none is started

BUCKETS = 30  # of the window down, so that its maxima are few

# How far what was learnt may be from what was configured, either way.
LEARNT = 4.0

# Below this share of its time a replica shows little of what it bears.
LEARNS_FROM = 0.3

LEARNS = 0.05  # of the way to what was shown, at each look


class SurgeSamples(NamedTuple):
    """Since the last look. None where it is not known."""

    replicas: int  # wanted until now, starting ones among them
    ready: int
    offered: float | None  # requests or items a second, shed ones among them
    backlog: float | None = 0.0  # of them, those that wait
    served: float | None = None  # a second, by all ready ones
    busy: float | None = None  # 0 to 1: how much of the ready ones' time


class SurgeState(NamedTuple):
    at: float | None = None  # of the last look; None before the first
    fast: float = 0.0
    level: float = 0.0
    slow: float = 0.0
    variance: float = 0.0  # of what is offered in one look
    capacity: float = 0.0  # learnt, a second and replica; 0: nothing yet
    needs: tuple[tuple[int, int], ...] = ()  # (bucket, most needed): falling needs, rising buckets
    out_at: float = -math.inf
    in_at: float = -math.inf
    seen_at: float = -math.inf  # when there was last anything to do


class _Load(NamedTuple):
    """What is expected, and the means it comes from."""

    expected: float
    fast: float
    level: float
    slow: float
    variance: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Surge:
    capacity: float  # requests or items a second that one replica bears
    maximum: int
    minimum: int = 1
    utilization: float = 0.7  # of the capacity, to be used
    lead: float = 1.0  # seconds until a new replica serves
    drain: float = 5.0  # seconds in which a backlog is to be gone
    fast: float = 1.0  # seconds: what is new
    steady: float = 6.0  # seconds: what is the level
    window: float = 150.0  # seconds whose needs are kept when scaling in
    band: float = 0.04  # of the replicas: below that much too many nothing happens
    hold: float = 0.2  # of a replica: what is left between the window's most and one fewer
    spare: float = 0.0  # of the load: room for more of it than is expected
    share: float = 0.1  # of the replicas, to leave at once
    pace: float = 30.0  # seconds between two steps in
    calm: float = 150.0  # seconds after a step out without one in
    idle: float = 60.0  # seconds without anything before the last one leaves
    useful: int | None = None  # replicas above which more do not help: cores, mostly
    learns: bool = True

    def __post_init__(self) -> None:
        if not 0 <= self.minimum <= self.maximum or self.maximum < 1:
            raise Misconfigured(f"between {self.minimum} and {self.maximum} replicas")
        if not (self.capacity > 0 and 0 < self.utilization <= 1 and self.drain > 0):
            raise Misconfigured(
                f"capacity {self.capacity}, utilization {self.utilization}, drain {self.drain}",
                fix="a capacity and a drain above 0, a utilization above 0 and at most 1",
            )
        if not 0 < self.fast < self.steady or not 0 < self.share <= 1 or not 0 <= self.band < 1:
            raise Misconfigured(
                f"fast {self.fast}, steady {self.steady}, share {self.share}, band {self.band}",
                fix="fast is below steady, share above 0 and at most 1, band below 1",
            )
        if not 0 <= self.hold < 1 or not 0 <= self.spare <= 1:
            raise Misconfigured(
                f"hold {self.hold}, spare {self.spare}",
                fix="hold is from 0 and below 1, spare from 0 to 1",
            )

    def begin(self) -> SurgeState:
        return SurgeState()

    def decide(
        self, state: SurgeState, samples: SurgeSamples, now: float
    ) -> tuple[SurgeState, Decision]:
        offered, backlog = samples.offered, samples.backlog
        if offered is None or backlog is None or not _is_sane(offered) or not _is_sane(backlog):
            held = Decision(samples.replicas, "no figures", (Limit.NO_DATA,))
            return state, self._within(held)
        current = samples.replicas
        load, is_surge = self._load(state, offered, now)
        seen_at = now if offered > 0 or backlog > 0 else state.seen_at
        capacity = self._learnt(state.capacity or self.capacity, samples)
        each = capacity * self.utilization
        room = (1 + self.spare) / each
        needed = min(MOST, _replicas((load.expected + backlog / self.drain) * room))
        # The last one stays for a while after it was used.
        needed = max(1, needed) if now - seen_at < self.idle else 0
        # A surprise or a trend is no need of a window: only the level that came of it is. Where it
        # nearly needs one more, that one stays: a load that hovers there would turn for ever.
        settled = min(max(needed, current), _replicas(load.level * room + self.hold))
        needs = self._needs(state.needs, max(settled, 1) if needed else 0, now)
        told = "surge" if is_surge else "load"
        reason = f"{told}: {load.expected:.4g}/s and {backlog:.4g} waiting, {each:.4g}/s each"
        if needed > current:
            decision = self._within(Decision(needed, reason, (), needed))
        else:
            decision = self._inward(state, current, needed, needs[0][1], reason, now)
        went = decision.desired - current
        return SurgeState(
            now,
            load.fast,
            load.level,
            load.slow,
            load.variance,
            capacity,
            needs,
            now if went > 0 else state.out_at,
            now if went < 0 else state.in_at,
            seen_at,
        ), decision

    def _learnt(self, before: float, samples: SurgeSamples) -> float:
        """With what busy replicas show they bear; idle ones show nothing."""
        served, busy = samples.served, samples.busy
        if not self.learns or served is None or busy is None or samples.ready == 0:
            return before
        if not (LEARNS_FROM <= busy <= 1.0 and 0 < served < math.inf):
            return before
        shown = served / samples.ready / busy
        shown = min(max(shown, self.capacity / LEARNT), self.capacity * LEARNT)
        return before + LEARNS * (shown - before)

    def _load(self, state: SurgeState, offered: float, now: float) -> tuple[_Load, bool]:
        """The load when a new replica is ready, and whether it came as a surprise."""
        if state.at is None:
            return _Load(offered, offered, offered, offered, 0.0), False
        elapsed = max(1e-3, now - state.at)
        # Requests that come by chance vary by as much as their number; real ones by more.
        variance = max(state.variance, state.level / elapsed, 1e-9)
        new, newer, newest = _weights(elapsed, self.steady, self.fast)
        fast = state.fast + newer * (offered - state.fast)
        chance = SURPRISE * math.sqrt(variance * newer / (2 - newer))
        is_surge = fast > state.level + chance
        level = state.level + new * (offered - state.level)
        slow = state.slow + newest * (offered - state.slow)
        off = offered - state.level
        deviation = min(off * off, 9 * variance)
        expected = level
        trend = (level - slow) / (2 * self.steady)
        if trend > 0 and level - slow > TREND * math.sqrt(variance * new / (2 - new)):
            # A mean lags behind a trend by its own length.
            expected += trend * (self.steady + self.lead)
        if is_surge:
            # What is new is the level from now on: that the means catch up is no trend.
            expected = max(expected, fast, offered)
            level, slow = max(level, fast), max(slow, fast)
        spread = state.variance + newest * (deviation - state.variance)
        return _Load(expected, fast, level, slow, spread), is_surge

    def _needs(
        self, before: tuple[tuple[int, int], ...], needed: int, now: float
    ) -> tuple[tuple[int, int], ...]:
        """What was most needed in the window, as falling maxima: at most one for each bucket."""
        bucket = int(now // (self.window / BUCKETS)) if self.window > 0 else 0
        if self.window > 0 and before and before[-1] == (bucket, needed):
            return before
        kept = tuple(
            each
            for each in before
            if each[1] > needed and bucket - each[0] <= BUCKETS and self.window > 0
        )
        return kept if kept and kept[-1][0] == bucket else (*kept, (bucket, needed))

    def _inward(
        self, state: SurgeState, current: int, needed: int, most: int, reason: str, now: float
    ) -> Decision:
        if most >= current:
            limits = (Limit.SCALE_DOWN_STABILIZED,) if needed < current else ()
            return self._within(Decision(current, reason, limits, needed))
        if most > 0 and current - most <= current * self.band:
            return self._within(Decision(current, reason, (Limit.HYSTERESIS,), needed))
        if now - state.out_at < self.calm:
            return self._within(Decision(current, reason, (Limit.PANIC,), needed))
        if now - state.in_at < self.pace:
            return self._within(Decision(current, reason, (Limit.COOLDOWN,), needed))
        least = current - max(1, math.floor(current * self.share))
        limits = (Limit.SCALE_DOWN,) if least > most else ()
        return self._within(Decision(max(most, least), reason, limits, needed))

    def _within(self, decision: Decision) -> Decision:
        if decision.desired < self.minimum:
            limits = (*decision.limits, Limit.TOO_FEW)
            return replace(decision, desired=self.minimum, limits=limits)
        if self.useful is not None and self.minimum <= self.useful < decision.desired:
            told = f"{decision.reason}; more than {self.useful} would not help"
            limits = (*decision.limits, Limit.CAPACITY)
            decision = replace(decision, desired=self.useful, reason=told, limits=limits)
        if decision.desired > self.maximum:
            limits = (*decision.limits, Limit.TOO_MANY)
            return replace(decision, desired=self.maximum, limits=limits)
        return decision


def _is_sane(value: float) -> bool:
    return 0 <= value < math.inf


def _replicas(share: float) -> int:
    """Whole ones: a mean that comes down to a number reaches it only in the end."""
    return math.ceil(share - SLACK)


@lru_cache(maxsize=64)  # a simulator looks at one distance, millions of times
def _weights(elapsed: float, steady: float, fast: float) -> tuple[float, float, float]:
    """Of a new value in the exponential means of the level, of what is new, and of the trend."""
    return (
        -math.expm1(-elapsed / steady),
        -math.expm1(-elapsed / fast),
        -math.expm1(-elapsed / (3 * steady)),
    )
