"""Knative's pod autoscaler as a kernel, to the bit: a stable window, a panic window, and zero.

Followed, of knative/serving at 98e5ef90: pkg/autoscaler/scaling/autoscaler.go (`Scale`),
pkg/autoscaler/aggregation/max (the delay before scaling in), and for the last replica the order
of pkg/reconciler/autoscaling/kpa/scaler.go (`handleScaleToZero`). Its test cases are data in
tests/unit/scaling. Whoever calls it decides how often: Knative looks each 2 seconds.

Two things are simpler than there. The activator, which holds requests while there is nobody to
take them, is in the path whenever the excess burst capacity is below zero, without a probe. And
what is scaled is always reachable unless `reachable` says that no route leads to it any more.
"""

import math
from dataclasses import dataclass, replace
from typing import TypeGuard

from seawall.errors import Misconfigured
from seawall.scaling.decision import MOST, Decision, Limit

TICK = 2.0  # seconds between two looks of Knative's, and the width of a bucket of the delay

# (number of the bucket, its highest count): falling counts, rising numbers.
Buckets = tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class KpaSamples:
    """Concurrency or requests a second of all replicas: means of the two windows.

    None where there is no data, or where nobody could count.
    """

    ready: int | None
    stable: float | None
    panic: float | None


@dataclass(frozen=True, slots=True)
class KpaState:
    """Since when it panics and the most it then wanted; and since when the last one idles."""

    begun: bool = False
    panic_at: float | None = None
    most_in_panic: int = 0
    lately: Buckets = ()
    active_at: float | None = None
    zero_at: float | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class KpaDecision(Decision):
    """A decision, with what is left of the burst that is to be borne without the activator."""

    excess_burst: int = 0

    @property
    def needs_activator(self) -> bool:
        return self.excess_burst < 0 or self.desired == 0


@dataclass(frozen=True, kw_only=True, slots=True)
class Kpa:
    """Defaults are those of Knative's config-autoscaler, and 100 requests at once a replica."""

    target: float = 70.0  # of each replica: 70 % of what it bears
    capacity: float = 100.0  # what each replica bears
    max_up: float = 1000.0  # times as many replicas in one look
    max_down: float = 2.0
    panic_threshold: float = 2.0  # times what the ready replicas bear
    stable_window: float = 60.0  # seconds
    burst: float = 200.0  # what is borne at once without the activator; below 0: any, 0: none
    activation_scale: int = 1
    scale_down_delay: float = 0.0  # seconds
    reachable: bool = True
    minimum: int = 0
    maximum: int = 0  # 0: as many as it takes
    scale_to_zero: bool = True
    grace: float = 30.0  # seconds that the activator stands in before the last replica goes
    retention: float = 0.0  # seconds that the last replica stays in any case

    def __post_init__(self) -> None:
        if not (self.target > 0 and self.max_up > 1 and self.max_down > 1):
            raise Misconfigured(
                f"target {self.target}, up {self.max_up}, down {self.max_down}",
                fix="a target above 0, and rates above 1",
            )
        if self.minimum < 0 or (self.maximum and self.maximum < max(1, self.minimum)):
            raise Misconfigured(f"between {self.minimum} and {self.maximum} replicas")

    def begin(self) -> KpaState:
        return KpaState()

    def decide(
        self, state: KpaState, samples: KpaSamples, now: float
    ) -> tuple[KpaState, KpaDecision]:
        ready = samples.ready
        if not state.begun:
            state = self._begun(ready or 0, now)
        if ready is None or not _is_known(samples.stable) or not _is_known(samples.panic):
            # What is not known, or makes no sense, changes nothing.
            held = KpaDecision(ready or 0, "no data to scale on", (Limit.NO_DATA,))
            return state, held
        state, scaled = self.scale(state, ready, samples.stable, samples.panic, now)
        burst = self.excess_burst(ready, samples.panic)
        desired = self._within(scaled.desired)
        if desired != scaled.desired:
            limit = Limit.TOO_FEW if desired > scaled.desired else Limit.TOO_MANY
            limits = (*scaled.limits, limit)
            scaled = Decision(desired, scaled.reason, limits, scaled.proposed)
        state, scaled = self._kept_for_zero(state, scaled, ready, burst, now)
        return state, KpaDecision(
            scaled.desired, scaled.reason, scaled.limits, scaled.proposed, excess_burst=burst
        )

    def _begun(self, ready: int, now: float) -> KpaState:
        """In panic if there are several: without a history it would scale in at once."""
        panic_at = now if ready > 1 else None
        return KpaState(True, panic_at, ready, active_at=now if ready else None)

    def scale(
        self, state: KpaState, ready: int, stable: float, panic: float, now: float
    ) -> tuple[KpaState, Decision]:
        """What Knative's autoscaler itself answers, before bounds and the way to zero."""
        counted = float(max(1, ready))
        wants_stable = math.ceil(stable / self.target)
        wants_panic = math.ceil(panic / self.target)
        # Up rounded up and down rounded down: a low rate must not hold a small fleet where it is.
        most = math.ceil(self.max_up * counted)
        least = math.floor(counted / self.max_down) if self.reachable else 0
        desired = self._activated(wants_stable, min(max(wants_stable, least), most))
        in_panic = self._activated(wants_panic, min(max(wants_panic, least), most))
        state = self._panicked(state, wants_panic / counted >= self.panic_threshold, now)
        limits: tuple[Limit, ...] = ()
        reason = f"{stable:g} in {self.stable_window:g} s, {self.target:g} each"
        if state.panic_at is not None:
            highest = max(state.most_in_panic, desired, in_panic)
            state = replace(state, most_in_panic=highest)
            desired, limits = highest, (Limit.PANIC,)
            reason = f"panic: {panic:g} lately, {self.target:g} each"
        if self.reachable and self.scale_down_delay > 0:
            lately = recorded(state.lately, self._buckets, int(now // TICK), desired)
            state = replace(state, lately=lately)
            if lately[0][1] != desired:
                desired, limits = lately[0][1], (*limits, Limit.DELAYED)
        proposed = min(MOST, max(wants_stable, wants_panic))
        return state, Decision(min(MOST, desired), reason, limits, proposed)

    def _activated(self, wanted: int, desired: int) -> int:
        return max(desired, self.activation_scale) if wanted > 0 else desired

    def _panicked(self, state: KpaState, is_over: bool, now: float) -> KpaState:
        """Panic begins above the threshold, and ends a stable window after it was last there."""
        if is_over:
            return replace(state, panic_at=now)
        if state.panic_at is not None and state.panic_at + self.stable_window < now:
            return replace(state, panic_at=None, most_in_panic=0)
        return state

    @property
    def _buckets(self) -> int:
        return math.ceil(self.scale_down_delay / TICK)

    def excess_burst(self, ready: int, panic: float) -> int:
        """What the ready ones could still bear beyond the burst; below 0 it is not enough."""
        if self.burst == 0:
            return 0
        if self.burst < 0:
            return -1
        return math.floor(ready * self.capacity - self.burst - panic)

    def _within(self, desired: int) -> int:
        if desired < self.minimum:
            return self.minimum
        return min(desired, self.maximum) if self.maximum else desired

    def _kept_for_zero(
        self, state: KpaState, scaled: Decision, ready: int, burst: int, now: float
    ) -> tuple[KpaState, Decision]:
        """The last replica goes after a stable window of service and the activator's grace."""
        if scaled.desired != 0:
            if state.active_at is None or state.zero_at is not None:
                state = replace(state, active_at=now, zero_at=None)
            return state, scaled
        if not self.scale_to_zero:
            return state, replace(scaled, desired=1, limits=(*scaled.limits, Limit.TOO_FEW))
        if state.active_at is None:
            return state, scaled  # it never ran
        kept = replace(scaled, desired=1, limits=(*scaled.limits, Limit.GRACE))
        if state.zero_at is None:
            if now - state.active_at < self.stable_window:
                return state, kept
            state = replace(state, zero_at=now)
        stands_in = 0.0 if burst < 0 else self.grace  # else it is there already
        if now - (state.zero_at or 0.0) < max(stands_in, self.retention):
            return state, replace(kept, desired=max(1, ready))
        return replace(state, active_at=None, zero_at=None), scaled


def _is_known(value: float | None) -> TypeGuard[float]:
    return value is not None and 0 <= value < math.inf


def recorded(lately: Buckets, size: int, index: int, count: int) -> Buckets:
    """The highest counts of the last `size` buckets: those that a later, higher one hides are gone.

    Two looks into one bucket leave the higher of them.
    """
    kept = [(at, highest) for at, highest in lately if count < highest and index - at < size]
    if kept and kept[-1][0] == index:
        count = max(count, kept.pop()[1])
    return (*kept, (index, count))
