"""A thousand services at once, as `simulate.play` plays one: the same figures in a hundredth of it.

Each step is taken for all services together, in arrays. The arithmetic is that of `simulate`, in
the same order, so that with the same chance each service scores to the bit what it scores alone;
tests compare the two. It needs NumPy (`seawall[simulate]`), and nothing else imports it.

Replicas that start are counted by the step in which they are ready. The one that leaves is the
youngest, so that of a count and of when it was lower follows how many are older than some time.
"""

import math
from collections.abc import Callable, Sequence
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

from seawall.errors import Misconfigured
from seawall.scaling.simulate import LONGEST_WAIT, Model, Score, check, quantile
from seawall.scaling.trace import Trace

Floats = NDArray[np.float64]
Counts = NDArray[np.int64]

# With these a time is a sum without rounding, and falls on the looks of every strategy.
STEPS: Final = (0.5, 1.0)


class Chance(Protocol):
    """What happens by chance to each service."""

    def normal(self, means: Floats) -> Floats:
        """A number of the normal distribution for each service, those of mean 0 excepted."""

    def uniform(self, counts: Counts) -> Floats:
        """From -1 to 1, as many for each service as it counts, one service after the other."""


class Drawn:
    """Chance from one seed."""

    def __init__(self, seed: int | Sequence[int]) -> None:
        self._rng = np.random.default_rng(seed)

    def normal(self, means: Floats) -> Floats:
        return self._rng.standard_normal(len(means))

    def uniform(self, counts: Counts) -> Floats:
        return self._rng.uniform(-1.0, 1.0, int(counts.sum()))


class Totals:
    """Everything since the beginning, of each service: see `simulate.Totals`."""

    def __init__(self, services: int) -> None:
        self.seen = np.zeros((4, services))  # the first four, together
        self.offered, self.served, self.busy, self.ready = self.seen
        self.shed, self.inside = np.zeros((2, services))


class Fleets:
    """Replicas of each service: those that are ready, and when others will be."""

    def __init__(self, ready: Counts, model: Model, step: float) -> None:
        self.ready = ready
        self.starting = np.zeros_like(ready)
        self._model = model
        self._step = step
        ahead = math.ceil(model.start * (1 + model.spread) / step) + 2
        self._due = np.zeros((ahead, len(ready)), dtype=np.int64)
        self._marks: dict[int, Counts] = {}

    @property
    def wanted(self) -> Counts:
        return self.ready + self.starting

    def progress(self, number: int) -> None:
        due = self._due[number % len(self._due)]
        if due.any():
            self.ready = self.ready + due
            self.starting = self.starting - due
            due[:] = 0

    def mark(self, at: int, keep: int) -> None:
        """Remember who is there, for `since`, and for `keep` seconds."""
        self._marks = {then: count for then, count in self._marks.items() if then >= at - keep}
        self._marks[at] = self.ready.copy()

    def since(self, at: int) -> Counts:
        """How many were there then already."""
        return self._marks[at]

    def become(self, desired: Counts, chance: Chance, number: int) -> None:
        """Start what is missing; or drop those that are starting, then the youngest."""
        more = desired - self.wanted
        if not more.any():
            return
        for service in np.flatnonzero((more < 0) & (self.starting > 0)):
            self._drop(int(service), -int(more[service]), number)
        self.ready = np.minimum(self.ready, np.maximum(desired, 0))
        for count in self._marks.values():
            np.minimum(count, self.ready, out=count)
        added = np.maximum(more, 0)
        if added.any():
            model, now = self._model, number * self._step
            delays = model.start * (1 + model.spread * chance.uniform(added))
            due = np.maximum(number, np.ceil((now + delays) / self._step)).astype(np.int64)
            services = np.repeat(np.arange(len(added)), added)
            np.add.at(self._due, (due % len(self._due), services), 1)
            self.starting = self.starting + added

    def _drop(self, service: int, count: int, number: int) -> None:
        """Of one service, those that would be ready last."""
        ahead = len(self._due)
        for later in range(ahead - 1, -1, -1):
            place = (number + later) % ahead
            dropped = min(count, int(self._due[place, service]))
            self._due[place, service] -= dropped
            self.starting[service] -= dropped
            count -= dropped
            if count == 0:
                return


class Helm(Protocol):
    """A strategy at the controls of all services: see `simulate.Pilot`."""

    every: float

    def look(self, fleets: Fleets, totals: Totals, waiting: Floats, now: float) -> Counts:
        """How many replicas there are to be of each."""

    def step(self, fleets: Fleets, now: float) -> None:
        """Called in each step, before it: for what is to be seen between two looks."""


Watch = Callable[[float, Floats, Counts], None]
"""Called in each step: when it is, and how many replicas each service needs and has ready."""


def play_many(
    traces: Sequence[Trace],
    model: Model,
    helm: Helm,
    chance: Chance,
    step: float = 1.0,
    begin: Counts | None = None,
    watch: Watch | None = None,
) -> list[Score]:
    """Each trace is one service's; they are as long as each other, and in the same steps. Without
    `begin` each service begins with as many replicas as the first second needs."""
    rates = _rates(traces, model, step)
    seconds, row = traces[0].seconds, traces[0].step
    first = np.maximum(1, _needed(rates[0], model)) if begin is None else begin
    fleets = Fleets(first.astype(np.int64), model, step)
    totals, tally = Totals(len(traces)), _Tally(model, step, seconds, len(traces))
    waiting, next_look = np.zeros(len(traces)), helm.every
    for number in range(int(seconds / step)):
        now = number * step
        rate = _rate(rates, now / row - 0.5)
        fleets.progress(number)
        helm.step(fleets, now)
        ready = fleets.ready
        mean = rate * step
        arriving = _arriving(mean, chance) if model.noise else mean
        bears = ready * model.capacity
        there = waiting + arriving
        served = np.minimum(there, bears * step)
        left = there - served
        room = np.where(ready > 0, bears * model.queue, model.parked)
        shed = np.maximum(0.0, left - room)
        needed = _needed(rate, model)
        tally.count(needed, fleets, arriving, shed, waiting)
        if watch is not None:
            watch(now, needed, ready)
        waiting = left - shed
        totals.offered += arriving
        totals.served += served
        totals.shed += shed
        totals.busy += served / model.capacity
        totals.ready += ready * step
        totals.inside += served * model.took + waiting * step
        if now + step >= next_look:
            desired = helm.look(fleets, totals, waiting, now + step)
            next_look += helm.every
            tally.moved(desired - fleets.wanted)
            fleets.become(desired, chance, number + 1)
    return tally.scores(totals)


def _rates(traces: Sequence[Trace], model: Model, step: float) -> Floats:
    """A row for each of the traces' steps."""
    if not traces or step not in STEPS:
        raise Misconfigured(
            f"{len(traces)} services in steps of {step} s", fix=f"one or more, in {STEPS}"
        )
    shapes = {(trace.step, len(trace.rates)) for trace in traces}
    if len(shapes) > 1:
        raise Misconfigured("traces of different lengths", fix="as many rows in each")
    for trace in traces:
        check(trace, model, step)
    return np.array([trace.rates for trace in traces]).T.copy()


def _needed(rate: Floats, model: Model) -> Floats:
    """As `Model.needed`."""
    return np.asarray(np.ceil(rate / (model.capacity * model.utilization) - 1e-9))


def _rate(rates: Floats, place: float) -> Floats:
    """As `Trace.rate`."""
    below = int(place)
    if place <= 0:
        return np.asarray(rates[0])
    if below >= len(rates) - 1:
        return np.asarray(rates[-1])
    one = rates[below]
    return np.asarray(one + (rates[below + 1] - one) * (place - below))


def _arriving(mean: Floats, chance: Chance) -> Floats:
    return np.maximum(0.0, mean + chance.normal(mean) * np.sqrt(mean))


class _Tally:
    """Adds up a run, as that of `simulate`."""

    def __init__(self, model: Model, step: float, seconds: float, services: int) -> None:
        self._model, self._step, self._seconds = model, step, seconds
        self._paid, self._late = np.zeros(services), np.zeros(services)
        self._under_time, self._under = np.zeros(services), np.zeros(services)
        self._over = np.zeros(services)
        self._waits = np.zeros((LONGEST_WAIT * 100 + 1, services))
        self._short_for, self._longest = np.zeros(services), np.zeros(services)
        self._peak = np.zeros(services, dtype=np.int64)
        self._changes = np.zeros(services, dtype=np.int64)
        self._reversals = np.zeros(services, dtype=np.int64)
        self._direction = np.zeros(services, dtype=np.int64)

    def count(
        self, needed: Floats, fleets: Fleets, arriving: Floats, shed: Floats, waiting: Floats
    ) -> None:
        model, step, ready, wanted = self._model, self._step, fleets.ready, fleets.wanted
        self._paid += wanted * step
        np.maximum(self._peak, wanted, out=self._peak)
        beyond = (ready - needed) / np.maximum(1, needed) * step
        self._over += np.maximum(beyond, 0.0)
        short = beyond < 0.0
        if short.any():
            self._under += np.maximum(-beyond, 0.0)
            self._under_time += short * step
            self._short_for = np.where(short, self._short_for + step, 0.0)
            np.maximum(self._longest, self._short_for, out=self._longest)
        else:
            self._short_for[:] = 0.0
        taken = arriving - shed
        late = shed
        queued = np.flatnonzero(waiting > 0)
        if len(queued):
            there = ready[queued]
            bears = np.where(there > 0, there * model.capacity, 1.0)
            wait = np.where(there > 0, waiting[queued] / bears, float(LONGEST_WAIT))
            place = np.minimum((wait * 100).astype(np.int64), LONGEST_WAIT * 100)
            self._waits[place, queued] += taken[queued]
            late = shed.copy()
            late[queued] += np.where(wait > model.late, taken[queued], 0.0)
            taken[queued] = 0.0
        self._late += late
        self._waits[0] += taken

    def moved(self, by: Counts) -> None:
        if not by.any():
            return
        direction = np.sign(by)
        self._changes += by != 0
        self._reversals += direction * self._direction < 0
        self._direction = np.where(by != 0, direction, self._direction)

    def scores(self, totals: Totals) -> list[Score]:
        return [self._score(totals, service) for service in range(len(self._paid))]

    def _score(self, totals: Totals, at: int) -> Score:
        seconds, hours = self._seconds, self._seconds / 3600
        offered = max(float(totals.offered[at]), 1e-9)
        return Score(
            hours=float(self._paid[at]) / 3600,
            under_time=float(self._under_time[at]) / seconds,
            under_share=float(self._under[at]) / seconds,
            over_share=float(self._over[at]) / seconds,
            shed=float(totals.shed[at]) / offered,
            violations=float(self._late[at]) / offered,
            p99=self._model.took + quantile(self._waits[:, at].tolist(), 0.99) / 100,
            longest_under=float(self._longest[at]),
            peak=int(self._peak[at]),
            changes=int(self._changes[at]) / hours,
            reversals=int(self._reversals[at]) / hours,
        )
