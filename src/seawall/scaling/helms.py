"""Strategies at the controls of many services: those of `pilots`, each for all of them at once.

The kernels of `hpa`, `keda`, `kpa` and `surge` in arrays, with the settings that `pilots` gives
them, and what each pilot would see. Every line stands for one there: whoever changes a kernel
changes it here too, and the tests that play both say whether it was done.
"""

import math
from collections.abc import Callable
from typing import Final

import numpy as np

from seawall.scaling.hpa_behavior import UP_FACTOR, UP_LEAST
from seawall.scaling.hpa_metrics import Tolerances
from seawall.scaling.kpa import Kpa
from seawall.scaling.many import Counts, Fleets, Floats, Helm, Totals
from seawall.scaling.pilots import KUBELET, SCRAPE, SPARE
from seawall.scaling.simulate import MOST_REPLICAS, Model
from seawall.scaling.surge import (
    BUCKETS,
    LEARNS,
    LEARNS_FROM,
    LEARNT,
    SLACK,
    SURPRISE,
    TREND,
    Surge,
)
from seawall.scaling.tracking import TargetTracking, TrackingSamples, TrackingState

WINDOW: Final = 300.0  # seconds that a HorizontalPodAutoscaler remembers

TOLERANCES: Final = Tolerances()

# Of a moment that did not come: a panic, or a step out or in.
NEVER: Final = -math.inf


class Past:
    """A total at the last looks; before the first there was nothing."""

    def __init__(self, looks: int) -> None:
        self._keep = looks + 1
        self._seen: list[tuple[float, Floats | float]] = [(0.0, 0.0)]

    def note(self, total: Floats, now: float) -> None:
        self._seen.append((now, total.copy()))
        del self._seen[: -self._keep]

    def rate(self, begin: int, end: int = 0) -> Floats:
        """Of what grew since `begin` looks ago, or since the beginning, until `end` looks ago."""
        first, then = self._seen[max(0, len(self._seen) - 1 - begin)]
        last, later = self._seen[max(0, len(self._seen) - 1 - end)]
        return np.asarray((later - then) / (last - first))


class _Hpa:
    """What follows a proposal: the highest of the window, and no more than twice as many."""

    every = 15.0

    def __init__(self, minimum: int) -> None:
        self._minimum = minimum
        self._proposals: list[Counts] = []

    def step(self, fleets: Fleets, now: float) -> None:
        pass

    def decided(self, current: Counts, proposed: Counts, known: "np.ndarray | bool") -> Counts:
        """Where nothing is known there is no proposal, and nothing changes."""
        if not self._proposals:
            self._proposals.append(current)
        steady = np.maximum(proposed, np.maximum.reduce(self._proposals))
        limit = np.maximum((UP_FACTOR * current).astype(np.int64), UP_LEAST)
        desired = np.minimum(steady, np.minimum(MOST_REPLICAS, limit))
        desired = np.maximum(desired, self._minimum)
        self._proposals.append(np.where(known, proposed, 0))
        del self._proposals[: -int(WINDOW // self.every)]
        desired = np.where(known, desired, current)
        desired = np.where(current < self._minimum, self._minimum, desired)
        return np.asarray(desired, dtype=np.int64)


def _holds(ratio: Floats) -> "np.ndarray":
    return (ratio >= 1.0 - TOLERANCES.down) & (ratio <= 1.0 + TOLERANCES.up)


def _second(current: Counts, first: Floats, ratio: Floats, counted: Counts) -> Counts:
    turned = ((first < 1.0) & (ratio > 1.0)) | ((ratio < 1.0) & (first > 1.0))
    replicas = _ceil(ratio * counted)
    against = ((ratio < 1.0) & (replicas > current)) | ((ratio > 1.0) & (replicas < current))
    return np.where(turned | _holds(ratio) | against, current, replicas)


def _ceil(number: Floats) -> Counts:
    return np.asarray(np.ceil(number).astype(np.int64))


class HpaCpuHelm(_Hpa):
    """As `HpaCpuPilot`: pods are told apart only by when they were ready."""

    def __init__(self, model: Model, minimum: int = 1) -> None:
        super().__init__(minimum)
        self._target = float(round(100 * model.utilization))
        looks = int((KUBELET + 2 * SCRAPE) // self.every) + 1
        self._busy, self._ready = Past(looks), Past(looks)

    def step(self, fleets: Fleets, now: float) -> None:
        if now % SCRAPE == 0:
            fleets.mark(int(now), int(KUBELET + 3 * SCRAPE))

    def look(self, fleets: Fleets, totals: Totals, waiting: Floats, now: float) -> Counts:
        self._busy.note(totals.busy, now)
        self._ready.note(totals.ready, now)
        current, ready = fleets.wanted, fleets.ready
        end = (now - KUBELET) // SCRAPE * SCRAPE
        if end <= 0:  # nothing was scraped yet
            return self.decided(current, current, False)
        ago, before = int((now - end) // self.every), int((now - end + SCRAPE) // self.every)
        busy, paid = self._busy.rate(before, ago), self._ready.rate(before, ago)
        known = np.minimum(fleets.since(int(end - SCRAPE)), ready)
        with_usage = np.minimum(fleets.since(int(end)), ready)
        missing = ready - with_usage
        unready = with_usage - known + fleets.starting
        tells = (paid > 0) & (known > 0)
        used = np.trunc(1000 * busy / np.where(paid > 0, paid, 1.0)).astype(np.int64)
        ratio = (used * 100 // 1000) / self._target
        rebalanced = (unready > 0) & (ratio > 1.0)
        plain = np.where(_holds(ratio), current, _ceil(ratio * known))
        assumed = np.where(ratio != 1.0, missing, 0)
        counted = np.maximum(1, known + assumed + np.where(rebalanced, unready, 0))
        total = used * known + np.where(ratio < 1.0, 1000 * missing, 0)
        again = (total * 100 // (1000 * counted)) / self._target
        second = _second(current, ratio, again, counted)
        proposed = np.where(rebalanced | (missing > 0), second, plain)
        return self.decided(current, np.where(tells, proposed, 0), tells)


class HpaRateHelm(_Hpa):
    """As `HpaRatePilot`."""

    def __init__(self, model: Model, minimum: int = 1) -> None:
        super().__init__(minimum)
        self._target = float(round(1000 * model.capacity * model.utilization))
        self._served, self._ready = Past(1), Past(1)

    def look(self, fleets: Fleets, totals: Totals, waiting: Floats, now: float) -> Counts:
        self._served.note(totals.served, now)
        self._ready.note(totals.ready, now)
        served, paid = self._served.rate(1), self._ready.rate(1)
        current, ready = fleets.wanted, fleets.ready
        tells = (paid > 0) & (ready > 0)
        used = np.trunc(1000 * served / np.where(paid > 0, paid, 1.0)).astype(np.int64)
        ratio = used / self._target
        rebalanced = (fleets.starting > 0) & (ratio > 1.0)
        plain = np.where(_holds(ratio), current, _ceil(ratio * ready))
        counted = np.maximum(1, current)
        again = (used * ready // counted) / self._target
        proposed = np.where(rebalanced, _second(current, ratio, again, counted), plain)
        return self.decided(current, np.where(tells, proposed, 0), tells)


class KedaHelm(_Hpa):
    """As `KedaPilot`: with a minimum of one it is an HPA on what is offered."""

    def __init__(self, model: Model, minimum: int = 1) -> None:
        super().__init__(minimum)
        self._target = float(int(model.capacity * model.utilization * 1000))
        self._offered = Past(1)

    def look(self, fleets: Fleets, totals: Totals, waiting: Floats, now: float) -> Counts:
        self._offered.note(totals.offered, now)
        current = fleets.wanted
        usage = np.trunc(self._offered.rate(1) * 1000)
        ratio = usage / (self._target * current)
        wanted = _ceil(usage / self._target)
        return self.decided(current, np.where(_holds(ratio), current, wanted), True)


class KpaHelm:
    """As `KpaPilot`, above zero."""

    every = 2.0

    def __init__(self, model: Model, minimum: int = 1) -> None:
        bears = model.capacity * model.took
        self._kpa = Kpa(target=bears * model.utilization, capacity=bears, minimum=minimum)
        self._stable = int(self._kpa.stable_window // self.every)
        self._panic = int(self._kpa.stable_window / 10 // self.every)
        self._inside = Past(self._stable)
        self._panic_at: Floats | None = None
        self._most: Counts | None = None

    def step(self, fleets: Fleets, now: float) -> None:
        pass

    def look(self, fleets: Fleets, totals: Totals, waiting: Floats, now: float) -> Counts:
        self._inside.note(totals.inside, now)
        kpa, ready = self._kpa, fleets.ready
        if self._panic_at is None or self._most is None:
            self._panic_at, self._most = np.where(ready > 1, now, NEVER), ready
        counted = np.maximum(1, ready).astype(np.float64)
        wants_stable = np.ceil(self._inside.rate(self._stable) / kpa.target)
        wants_panic = np.ceil(self._inside.rate(self._panic) / kpa.target)
        most, least = np.ceil(kpa.max_up * counted), np.floor(counted / kpa.max_down)
        desired = np.minimum(np.maximum(wants_stable, least), most)
        in_panic = np.minimum(np.maximum(wants_panic, least), most)
        over = wants_panic / counted >= kpa.panic_threshold
        ended = ~over & (self._panic_at + kpa.stable_window < now)
        panic_at = np.where(over, now, np.where(ended, NEVER, self._panic_at))
        panics = panic_at > NEVER
        was = np.where(ended & (self._panic_at > NEVER), 0, self._most)
        highest = np.maximum(was, np.maximum(desired, in_panic)).astype(np.int64)
        self._panic_at, self._most = panic_at, np.where(panics, highest, was)
        wanted = np.where(panics, highest, desired.astype(np.int64))
        return np.minimum(np.maximum(wanted, kpa.minimum), MOST_REPLICAS)


class SurgeHelm:
    """As `SurgePilot` without a forecast."""

    def __init__(self, model: Model, minimum: int = 1, every: float = 0.5) -> None:
        self.every = every
        self._surge = Surge(
            capacity=model.capacity,
            utilization=model.utilization,
            lead=model.start + every,
            spare=SPARE,
            minimum=minimum,
            maximum=MOST_REPLICAS,
        )
        self._past = Past(1)
        self._at: float | None = None
        self._means: tuple[Floats, Floats, Floats, Floats] | None = None
        self._capacity = np.zeros(0)
        self._needs: list[Counts] = []  # the most needed in each bucket of the window
        self._before = self._bucket = np.zeros(0, dtype=np.int64)
        self._number = -1
        self._out_at = self._in_at = self._seen_at = np.zeros(0)

    def step(self, fleets: Fleets, now: float) -> None:
        pass

    def look(self, fleets: Fleets, totals: Totals, waiting: Floats, now: float) -> Counts:
        self._past.note(totals.seen, now)
        offered, served, busy, paid = self._past.rate(1)
        surge, current = self._surge, fleets.wanted
        if self._at is None:
            services = len(offered)
            self._capacity = np.full(services, surge.capacity)
            self._out_at, self._in_at, self._seen_at = (np.full(services, NEVER) for _ in "123")
        expected, level = self._load(offered, now)
        self._at = now
        self._seen_at = np.where((offered > 0) | (waiting > 0), now, self._seen_at)
        self._learn(fleets.ready, served, busy, paid)
        room = (1 + surge.spare) / (self._capacity * surge.utilization)
        needed = _ceil((expected + waiting / surge.drain) * room - SLACK)
        needed = np.where(now - self._seen_at < surge.idle, np.maximum(1, needed), 0)
        settled = np.minimum(np.maximum(needed, current), _ceil(level * room + surge.hold - SLACK))
        most = self._most(np.where(needed > 0, np.maximum(settled, 1), 0), now)
        desired = np.where(needed > current, needed, self._inward(current, most, now))
        desired = np.minimum(np.maximum(desired, surge.minimum), MOST_REPLICAS)
        self._out_at = np.where(desired > current, now, self._out_at)
        self._in_at = np.where(desired < current, now, self._in_at)
        return desired

    def _load(self, offered: Floats, now: float) -> tuple[Floats, Floats]:
        """What is expected, and the level."""
        surge = self._surge
        if self._at is None or self._means is None:
            self._means = offered, offered, offered, np.zeros_like(offered)
            return offered, offered
        before, level_before, slow_before, known = self._means
        elapsed = max(1e-3, now - self._at)
        variance = np.maximum(np.maximum(known, level_before / elapsed), 1e-9)
        new, newer = _weight(elapsed, surge.steady), _weight(elapsed, surge.fast)
        newest = _weight(elapsed, 3 * surge.steady)
        fast = before + newer * (offered - before)
        off = offered - level_before
        is_surge = fast > level_before + SURPRISE * np.sqrt(variance * newer / (2 - newer))
        level = level_before + new * off
        slow = slow_before + newest * (offered - slow_before)
        above = level - slow
        trend = above / (2 * surge.steady)
        rises = (trend > 0) & (above > TREND * np.sqrt(variance * new / (2 - new)))
        expected = np.where(rises, level + trend * (surge.steady + surge.lead), level)
        if is_surge.any():
            at_once = np.maximum(np.maximum(expected, fast), offered)
            expected = np.where(is_surge, at_once, expected)
            level = np.where(is_surge, np.maximum(level, fast), level)
            slow = np.where(is_surge, np.maximum(slow, fast), slow)
        spread = known + newest * (np.minimum(off * off, 9 * variance) - known)
        self._means = fast, level, slow, spread
        return expected, level

    def _learn(self, ready: Counts, served: Floats, busy: Floats, paid: Floats) -> None:
        capacity = self._surge.capacity
        share = busy / np.where(paid > 0, paid, 1.0)
        shows = (paid > 0) & (ready > 0) & (served > 0)
        shows &= (share >= LEARNS_FROM) & (share <= 1.0)
        shown = served / np.maximum(1, ready) / np.where(shows, share, 1.0)
        shown = np.minimum(np.maximum(shown, capacity / LEARNT), capacity * LEARNT)
        learnt = self._capacity + LEARNS * (shown - self._capacity)
        self._capacity = np.where(shows, learnt, self._capacity)

    def _most(self, needed: Counts, now: float) -> Counts:
        """What was most needed in the window."""
        number = int(now // (self._surge.window / BUCKETS))
        if number != self._number:
            if self._number >= 0:
                self._needs.append(self._bucket)
            del self._needs[:-BUCKETS]
            self._before = np.maximum.reduce(self._needs or [np.zeros_like(needed)])
            self._bucket, self._number = needed, number
        else:
            self._bucket = np.maximum(self._bucket, needed)
        return np.asarray(np.maximum(self._before, self._bucket))

    def _inward(self, current: Counts, most: Counts, now: float) -> Counts:
        surge = self._surge
        leaves = current - most
        stays = (leaves <= 0) | ((most > 0) & (leaves <= current * surge.band))
        stays |= (now - self._out_at < surge.calm) | (now - self._in_at < surge.pace)
        if stays.all():
            return current
        least = current - np.maximum(1, np.floor(current * surge.share)).astype(np.int64)
        return np.where(stays, current, np.maximum(most, least))


class TrackingHelm:
    """As `TrackingPilot`: a look a minute, so each service is asked by itself."""

    every = 60.0

    def __init__(self, model: Model, minimum: int = 1) -> None:
        self._tracking = TargetTracking(
            target=model.capacity * model.utilization, minimum=minimum, maximum=MOST_REPLICAS
        )
        self._states: list[TrackingState] = []
        self._offered, self._ready = Past(1), Past(1)

    def step(self, fleets: Fleets, now: float) -> None:
        pass

    def look(self, fleets: Fleets, totals: Totals, waiting: Floats, now: float) -> Counts:
        self._offered.note(totals.offered, now)
        self._ready.note(totals.ready, now)
        offered, ready = self._offered.rate(1).tolist(), self._ready.rate(1).tolist()
        wanted, starting = fleets.wanted.tolist(), fleets.starting.tolist()
        states = self._states or [self._tracking.begin()] * len(wanted)
        decided = [
            self._tracking.decide(state, TrackingSamples(count, o / r if r else None, new), now)
            for state, count, o, r, new in zip(
                states, wanted, offered, ready, starting, strict=True
            )
        ]
        self._states = [state for state, _ in decided]
        return np.array([decision.desired for _, decision in decided], dtype=np.int64)


class FixedHelm:
    """As `FixedPilot`: as many as there were in the beginning."""

    every = 3600.0

    def step(self, fleets: Fleets, now: float) -> None:
        pass

    def look(self, fleets: Fleets, totals: Totals, waiting: Floats, now: float) -> Counts:
        return fleets.wanted


def _weight(elapsed: float, constant: float) -> float:
    return -math.expm1(-elapsed / constant)


HELMS: dict[str, Callable[[Model, int], Helm]] = {
    "hpa-cpu": HpaCpuHelm,
    "hpa-rps": HpaRateHelm,
    "keda": KedaHelm,
    "kpa": KpaHelm,
    "tracking": TrackingHelm,
    "surge": SurgeHelm,
}
