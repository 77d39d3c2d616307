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
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import NamedTuple, Protocol

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

    @property
    def next_ready(self) -> float:
        """When the next one is; infinity if none starts."""
        return self.starting[0] if self.starting else math.inf

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


class Seen(NamedTuple):
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


Tell = Callable[[int], None]
"""Told now and then how many steps were taken since it was told last."""


def tell_nobody(steps: int) -> None:
    """For those who need no telling."""


def play(
    trace: Trace,
    model: Model,
    pilot: Pilot,
    rng: Random,
    step: float = 1.0,
    begin: int = 0,
    tell: Tell = tell_nobody,
) -> Run:
    """The trace, served by what the pilot asks for; it begins with `begin` replicas, ready.

    0 begins with as many as the first second needs.
    """
    check(trace, model, step)
    fleet = Fleet([-math.inf] * (begin or max(1, model.needed(trace.rate(0.0)))))
    totals, tally = Totals(), _Tally(model, step, trace.seconds, tell)
    capacity, took, waiting, next_look = model.capacity, model.took, 0.0, pilot.every
    # Of a month's steps nearly all are alike, so what they share is worked out when it changes.
    known, changes_at = -1, 0.0
    for number, (needed, arriving) in enumerate(_coming(trace, model, rng, step)):
        now = number * step
        if needed != known or now >= changes_at:
            fleet.progress(now)
            tally.stand(number, needed, fleet)
            ready = len(fleet.ready)
            able, paid = ready * capacity * step, ready * step
            known, changes_at = needed, min(fleet.next_ready, tally.next_point * step)
        if arriving > able or needed > ready or waiting:
            served, shed, left = _crowded(model, ready, able, waiting, arriving)
            tally.crowd(arriving, shed, waiting, now)
            waiting = left
            totals.shed += shed
            totals.inside += served * took + waiting * step
        else:
            served = arriving
            tally.at_once += arriving
            tally.over += tally.beyond
            totals.inside += arriving * took
        totals.offered += arriving
        totals.served += served
        totals.busy += served / capacity
        totals.ready += paid
        if now + step >= next_look:
            desired = pilot.look(Seen(fleet, totals, waiting), now + step).desired
            next_look += pilot.every
            if desired != fleet.wanted:
                tally.moved(desired - fleet.wanted)
                fleet.become(desired, model, rng, now + step)
                known = -1
    return tally.run(totals)


def _crowded(
    model: Model, ready: int, able: float, waiting: float, arriving: float
) -> tuple[float, float, float]:
    """What is served, shed and left to wait, where not all are served at once."""
    served = min(waiting + arriving, able)
    left = waiting + arriving - served
    room = ready * model.capacity * model.queue if ready else model.parked
    shed = max(0.0, left - room)
    return served, shed, left - shed


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


def _coming(trace: Trace, model: Model, rng: Random, step: float) -> Iterator[tuple[int, float]]:
    """For each step how many replicas its load needs, and the requests that come in it."""
    rates, row, last = trace.rates, trace.step, len(trace.rates) - 1
    each, noise, chance = model.capacity * model.utilization, model.noise, _normal(rng)
    ceil, sqrt = math.ceil, math.sqrt
    for number in range(int(trace.seconds / step)):
        # As `Trace.rate` and `Model.needed`: there are millions of steps to call them in.
        place = number * step / row - 0.5
        below = int(place)
        if place > 0 and below < last:
            rate = rates[below]
            rate += (rates[below + 1] - rate) * (place - below)
        else:
            rate = rates[0] if place <= 0 else rates[last]
        arriving = rate * step
        if noise and arriving > 0:
            # Of many independent requests as many as chance brings: normal, as Poisson nearly is.
            arriving = max(0.0, arriving + next(chance) * sqrt(arriving))
        yield ceil(rate / each - 1e-9), arriving


def _normal(rng: Random) -> Iterator[float]:
    """What `rng.gauss(0, 1)` returns again and again, in less of the time."""
    uniform, cos, sin, sqrt, log = rng.random, math.cos, math.sin, math.sqrt, math.log
    while True:
        angle, size = uniform() * math.tau, sqrt(-2.0 * log(1.0 - uniform()))
        yield cos(angle) * size
        yield sin(angle) * size


class _Tally:
    """Adds up a run."""

    def __init__(self, model: Model, step: float, seconds: float, tell: Tell) -> None:
        self._model = model
        self._step = step
        self._seconds = seconds
        self._tell = tell
        self._since = 0  # the step from which on it stands like this
        self._needed = self._ready = self._wanted = 0
        self._paid = 0  # replica-steps
        self.at_once = 0.0  # requests that did not wait
        self.beyond = self.over = 0.0  # too many: in each step, and added up
        self._under_time = self._under = 0.0
        self._late = 0.0
        self._waits = [0.0] * (LONGEST_WAIT * 100 + 1)
        self._under_since: float | None = None
        self._longest_under = 0.0
        self._peak = 0
        self._changes = self._reversals = 0
        self._direction = 0
        self._steps = int(seconds / step)
        self._every = max(1, math.ceil(seconds / step / POINTS))
        self.next_point = 0  # the step with which the next point of the picture begins
        self._told = 0
        self._most_needed: list[int] = []
        self._most_ready: list[int] = []

    def stand(self, number: int, needed: int, fleet: Fleet) -> None:
        """From this step on so many are needed, and there."""
        self._paid += self._wanted * (number - self._since)
        self._since, self._needed = number, needed
        self._ready, self._wanted = ready, wanted = len(fleet.ready), fleet.wanted
        self._peak = max(self._peak, wanted)
        self.beyond = max(0.0, (ready - needed) / max(1, needed) * self._step)
        if ready >= needed:
            self._under_since = None
        if number == self.next_point:
            self._tell_until(number)
            self.next_point += self._every
            self._most_needed.append(needed)
            self._most_ready.append(ready)
        else:
            self._most_needed[-1] = max(self._most_needed[-1], needed)
            self._most_ready[-1] = max(self._most_ready[-1], ready)

    def crowd(self, arriving: float, shed: float, waiting: float, now: float) -> None:
        """A step with fewer than are needed, or in which somebody waits or is shed."""
        needed, ready, step = self._needed, self._ready, self._step
        if ready < needed:
            self._under_time += step
            self._under += (needed - ready) / needed * step
            self._under_since = now if self._under_since is None else self._under_since
            self._longest_under = max(self._longest_under, now + step - self._under_since)
        self.over += self.beyond
        wait = waiting / (ready * self._model.capacity) if ready else LONGEST_WAIT
        wait = wait if waiting > 0 else 0.0
        place = min(int(wait * 100), LONGEST_WAIT * 100)
        if place:
            self._waits[place] += arriving - shed
        else:
            self.at_once += arriving - shed
        self._late += shed + (arriving - shed if wait > self._model.late else 0.0)

    def moved(self, by: int) -> None:
        if by == 0:
            return
        self._changes += 1
        direction = 1 if by > 0 else -1
        self._reversals += self._direction not in (0, direction)
        self._direction = direction

    def run(self, totals: Totals) -> Run:
        self._paid += self._wanted * (self._steps - self._since)
        self._tell_until(self._steps)
        self._waits[0] = self.at_once
        seconds, hours = self._seconds, self._seconds / 3600
        offered = max(totals.offered, 1e-9)
        score = Score(
            hours=self._paid * self._step / 3600,
            under_time=self._under_time / seconds,
            under_share=self._under / seconds,
            over_share=self.over / seconds,
            shed=totals.shed / offered,
            violations=self._late / offered,
            p99=self._model.took + quantile(self._waits, 0.99) / 100,
            longest_under=self._longest_under,
            peak=self._peak,
            changes=self._changes / hours,
            reversals=self._reversals / hours,
        )
        return Run(score, seconds, tuple(self._most_needed), tuple(self._most_ready))

    def _tell_until(self, number: int) -> None:
        self._tell(number - self._told)
        self._told = number


def quantile(counts: Sequence[float], share: float) -> int:
    """The first place up to which `share` of all is."""
    left = sum(counts) * share
    for place, count in enumerate(counts):
        left -= count
        if left <= 0:
            return place
    return len(counts) - 1
