"""A service under a trace: what each strategy would have cost, and whom it would have failed.

A fluid model: in each step requests arrive, ready replicas serve what they can, the rest waits, and
what does not fit into the queue is shed. Replicas take time to start and are paid from then on;
those that leave do so at once. Load is spread perfectly and the metric is never wrong, so figures
are best cases, for every strategy alike. Time and chance are arguments: the same seed gives the
same figures.

How many were needed is not what a strategy thinks: it is the rate of the trace divided by what a
replica bears at the wanted utilization.
"""

import heapq
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Protocol

from seawall.errors import Misconfigured
from seawall.scaling.decision import Decision
from seawall.scaling.trace import Trace

# Points of a picture of a run: more than a screen is wide would not be seen.
POINTS = 400

# Beyond it a trace or a capacity is wrong, and a machine would be busy with nothing else.
MOST_REPLICAS = 10_000

# A step of half a second for a year; a run of as many takes minutes.
MOST_STEPS = 64_000_000

# Waits are counted in hundredths of a second up to this many seconds; longer ones are as bad.
LONGEST_WAIT = 10


@dataclass(frozen=True, kw_only=True, slots=True)
class Model:
    """One service, and the machine it runs on."""

    capacity: float = 100.0  # requests a second that one replica bears
    utilization: float = 0.7  # of it, above which the service level is not kept
    took: float = 0.05  # seconds that a request takes
    queue: float = 0.5  # seconds of work that wait, before requests are shed
    parked: float = 1000.0  # requests that wait while no replica is there
    start: float = 10.0  # seconds until a new replica serves
    spread: float = 0.2  # of the start: how much one differs from another
    late: float = 0.25  # seconds of waiting that count as a violation
    noise: bool = True  # requests come by chance

    def __post_init__(self) -> None:
        if not (self.capacity > 0 and 0 < self.utilization <= 1 and self.took > 0):
            raise Misconfigured(
                f"capacity {self.capacity}, utilization {self.utilization}, took {self.took}",
                fix="above 0, and a utilization of at most 1",
            )
        if min(self.queue, self.parked, self.start, self.late) < 0 or not 0 <= self.spread <= 1:
            raise Misconfigured("a time below 0, or a spread that is not from 0 to 1")

    def needed(self, rate: float) -> int:
        return math.ceil(rate / (self.capacity * self.utilization) - 1e-9)


@dataclass(slots=True)
class Totals:
    """Everything since the beginning; a mean of a window is a difference of two."""

    offered: float = 0.0
    served: float = 0.0
    shed: float = 0.0
    busy: float = 0.0  # replica-seconds of work
    ready: float = 0.0  # replica-seconds
    inside: float = 0.0  # request-seconds under way or waiting

    def copy(self) -> "Totals":
        return Totals(self.offered, self.served, self.shed, self.busy, self.ready, self.inside)


@dataclass(slots=True)
class Fleet:
    """Replicas: when each became ready, or will be."""

    ready: list[float] = field(default_factory=list)
    starting: list[float] = field(default_factory=list)  # a heap

    @property
    def wanted(self) -> int:
        return len(self.ready) + len(self.starting)

    def progress(self, now: float) -> None:
        while self.starting and self.starting[0] <= now:
            self.ready.append(heapq.heappop(self.starting))

    def become(self, wanted: int, model: Model, rng: Random, now: float) -> None:
        """Start what is missing; or drop those that are starting, then the youngest."""
        while self.wanted > wanted and self.starting:
            self.starting.remove(max(self.starting))
            heapq.heapify(self.starting)
        del self.ready[max(0, wanted) :]
        for _ in range(wanted - self.wanted):
            delay = model.start * (1 + model.spread * rng.uniform(-1, 1))
            heapq.heappush(self.starting, now + delay)


@dataclass(frozen=True, slots=True)
class Seen:
    """What a strategy may look at."""

    fleet: Fleet
    totals: Totals
    waiting: float


class Pilot(Protocol):
    """A strategy at work: it remembers what it measured, and is asked each `every` seconds."""

    every: float

    def look(self, seen: Seen, now: float) -> Decision:
        """How many replicas there are to be."""


@dataclass(frozen=True, slots=True)
class Score:
    """What a run cost and whom it failed. Shares are of 1; see docs/scaling.md for each."""

    hours: float  # of replicas
    under_time: float
    under_share: float
    over_share: float
    shed: float
    violations: float
    p99: float  # seconds
    longest_under: float  # seconds
    peak: int
    changes: float  # an hour
    reversals: float  # an hour


@dataclass(frozen=True, slots=True)
class Run:
    score: Score
    seconds: float
    needed: tuple[int, ...]  # for a picture: the most of equal parts of the time
    ready: tuple[int, ...]


def play(
    trace: Trace, model: Model, pilot: Pilot, rng: Random, step: float = 1.0, begin: int = 0
) -> Run:
    """The trace, served by what the pilot asks for; it begins with `begin` replicas, ready.

    0 begins with as many as the first second needs.
    """
    check(trace, model, step)
    fleet = Fleet([-math.inf] * (begin or max(1, model.needed(trace.rate(0.0)))))
    totals, waiting, next_look = Totals(), 0.0, pilot.every
    tally = _Tally(model, step, trace.seconds)
    for number in range(int(trace.seconds / step)):
        now = number * step
        rate = trace.rate(now)
        fleet.progress(now)
        ready = len(fleet.ready)
        arriving = _arriving(rate * step, model, rng)
        able = ready * model.capacity * step
        served = min(waiting + arriving, able)
        left = waiting + arriving - served
        room = ready * model.capacity * model.queue if ready else model.parked
        shed = max(0.0, left - room)
        tally.count(rate, fleet, arriving, shed, waiting, now)
        waiting = left - shed
        totals.offered += arriving
        totals.served += served
        totals.shed += shed
        totals.busy += served / model.capacity
        totals.ready += ready * step
        totals.inside += served * model.took + waiting * step
        if now + step >= next_look:
            decision = pilot.look(Seen(fleet, totals, waiting), now + step)
            next_look += pilot.every
            tally.moved(decision.desired - fleet.wanted)
            fleet.become(decision.desired, model, rng, now + step)
    return tally.run(totals)


def check(trace: Trace, model: Model, step: float) -> None:
    if not step > 0 or trace.seconds / step > MOST_STEPS:
        raise Misconfigured(
            f"{trace.seconds} s in steps of {step} s", fix="steps of half a second are plenty"
        )
    highest = max(trace.rates)
    most = MOST_REPLICAS * model.capacity * model.utilization
    if not highest <= most:
        raise Misconfigured(
            f"{highest:g} a second are more than {MOST_REPLICAS} replicas bear",
            fix=f"at most {most:g}, or replicas that bear more",
        )


def _arriving(mean: float, model: Model, rng: Random) -> float:
    """Of many independent requests as many as chance brings: normal, as Poisson nearly is."""
    if not model.noise or mean <= 0:
        return mean
    return max(0.0, rng.gauss(mean, math.sqrt(mean)))


class _Tally:
    """Adds up a run."""

    def __init__(self, model: Model, step: float, seconds: float) -> None:
        self._model = model
        self._step = step
        self._seconds = seconds
        self._steps = 0
        self._paid = 0.0
        self._under_time = self._under = self._over = 0.0
        self._late = 0.0
        self._waits = [0.0] * (LONGEST_WAIT * 100 + 1)
        self._under_since: float | None = None
        self._longest_under = 0.0
        self._peak = 0
        self._changes = self._reversals = 0
        self._direction = 0
        self._every = max(1, math.ceil(seconds / step / POINTS))
        self._needed: list[int] = []
        self._ready: list[int] = []

    def count(
        self, rate: float, fleet: Fleet, arriving: float, shed: float, waiting: float, now: float
    ) -> None:
        needed, ready, step = self._model.needed(rate), len(fleet.ready), self._step
        self._paid += fleet.wanted * step
        self._peak = max(self._peak, fleet.wanted)
        if ready < needed:
            self._under_time += step
            self._under += (needed - ready) / needed * step
            self._under_since = now if self._under_since is None else self._under_since
            self._longest_under = max(self._longest_under, now + step - self._under_since)
        else:
            self._under_since = None
            self._over += (ready - needed) / max(1, needed) * step
        wait = waiting / (ready * self._model.capacity) if ready else LONGEST_WAIT
        wait = wait if waiting > 0 else 0.0
        self._waits[min(int(wait * 100), LONGEST_WAIT * 100)] += arriving - shed
        self._late += shed + (arriving - shed if wait > self._model.late else 0.0)
        self._picture(needed, ready)

    def moved(self, by: int) -> None:
        if by == 0:
            return
        self._changes += 1
        direction = 1 if by > 0 else -1
        self._reversals += self._direction not in (0, direction)
        self._direction = direction

    def run(self, totals: Totals) -> Run:
        seconds, hours = self._seconds, self._seconds / 3600
        offered = max(totals.offered, 1e-9)
        score = Score(
            hours=self._paid / 3600,
            under_time=self._under_time / seconds,
            under_share=self._under / seconds,
            over_share=self._over / seconds,
            shed=totals.shed / offered,
            violations=self._late / offered,
            p99=self._model.took + quantile(self._waits, 0.99) / 100,
            longest_under=self._longest_under,
            peak=self._peak,
            changes=self._changes / hours,
            reversals=self._reversals / hours,
        )
        return Run(score, seconds, tuple(self._needed), tuple(self._ready))

    def _picture(self, needed: int, ready: int) -> None:
        if self._steps % self._every == 0:
            self._needed.append(needed)
            self._ready.append(ready)
        else:
            self._needed[-1] = max(self._needed[-1], needed)
            self._ready[-1] = max(self._ready[-1], ready)
        self._steps += 1


def quantile(counts: Sequence[float], share: float) -> int:
    """The first place up to which `share` of all is."""
    left = sum(counts) * share
    for place, count in enumerate(counts):
        left -= count
        if left <= 0:
            return place
    return len(counts) - 1
