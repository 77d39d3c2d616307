"""Many services for `seawall scale simulate`: in arrays, on all cores. It needs NumPy.

What chance brings to a service depends on the seed and on which services are played with it, never
on how many cores there are: the same traces and seed give the same figures everywhere.
"""

import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import numpy as np

from seawall.errors import Misconfigured
from seawall.scaling.helms import HELMS, FixedHelm
from seawall.scaling.many import STEPS, Counts, Drawn, Floats, Helm, play_many
from seawall.scaling.simulate import POINTS, Model, Score, check
from seawall.scaling.together import Together
from seawall.scaling.trace import Trace

# So many are in one array. A step costs hardly more for 500 services than for 125; with more of
# them two cores would have no work for each.
AT_ONCE = 500

# What one step costs, and what each service adds to it, for an estimate.
STEP_COSTS, SERVICE_COSTS = 1.5e-4, 1.5e-7  # seconds

# Other processes have to be started first: for less than this they are not worth it.
WORTH = 3.0  # seconds

# How often it is told how far it is.
PAUSE = 0.2  # seconds
STEPS_BETWEEN = 500

Tell = Callable[[float], None]
"""Told the share of everything that is done."""


@dataclass(frozen=True, slots=True)
class Part:
    """Services whose traces are as long as each other, under one strategy."""

    strategy: str
    names: tuple[str, ...]
    traces: tuple[Trace, ...]
    model: Model
    minimum: int
    seed: tuple[int, int]
    step: float
    longest: float  # seconds, of all parts

    @property
    def steps(self) -> int:
        return int(self.traces[0].seconds / self.step)

    @property
    def costs(self) -> float:
        return self.steps * (STEP_COSTS + SERVICE_COSTS * len(self.traces))


@dataclass(frozen=True, slots=True)
class Played:
    scores: list[Score]
    needed: Floats
    ready: Floats


def play_all(
    traces: Mapping[str, Trace],
    strategies: Sequence[str],
    model: Model,
    *,
    minimum: int,
    seed: int,
    step: float,
    tell: Tell,
) -> dict[str, Together]:
    """Of each strategy what all services together come to. Raises `Misconfigured`."""
    if step not in STEPS:
        raise Misconfigured(f"several services in steps of {step:g} s", fix="0.5 or 1")
    for trace in traces.values():
        check(trace, model, step)
    longest = max(trace.seconds for trace in traces.values())
    parts = [
        Part(strategy, names, tuple(traces[n] for n in names), model, minimum, s, step, longest)
        for strategy in strategies
        for s, names in _groups(traces, seed)
    ]
    played = _played(sorted(parts, key=lambda part: -part.costs), tell)
    return {name: _together(name, played, longest) for name in strategies}


def _groups(
    traces: Mapping[str, Trace], seed: int
) -> Iterator[tuple[tuple[int, int], tuple[str, ...]]]:
    """Names that are played at once, each with its chance."""
    number = 0
    shapes = {name: (trace.step, len(trace.rates)) for name, trace in traces.items()}
    for _, alike in groupby(sorted(traces, key=lambda name: (shapes[name], name)), shapes.get):
        names = tuple(alike)
        for first in range(0, len(names), AT_ONCE):
            yield (seed, number), names[first : first + AT_ONCE]
            number += 1


def _played(parts: Sequence[Part], tell: Tell) -> list[tuple[Part, Played]]:
    whole = sum(part.steps * len(part.traces) for part in parts)
    cores = min(os.cpu_count() or 1, len(parts))
    if cores == 1 or sum(part.costs for part in parts) < WORTH:
        done = 0

        def tick(steps: int) -> None:
            nonlocal done
            done += steps
            tell(done / whole)

        return [(part, play(part, tick)) for part in parts]
    # Not forked: who runs us may have threads, and macOS does not like it.
    context = multiprocessing.get_context("spawn")
    count = context.Value("q", 0)
    with context.Pool(cores, _begin, (count,)) as pool:
        result = pool.map_async(_play, parts, chunksize=1)
        while not result.ready():
            tell(count.value / whole)
            result.wait(PAUSE)
        return list(zip(parts, result.get(), strict=True))


_COUNT: Any = None  # of a process of the pool


def _begin(count: Any) -> None:
    global _COUNT
    _COUNT = count
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # who began this process ends it


def _play(part: Part) -> Played:
    def tick(steps: int) -> None:
        with _COUNT.get_lock():
            _COUNT.value += steps

    return play(part, tick)


def play(part: Part, tick: Callable[[int], None]) -> Played:
    """`tick` is told now and then how many steps of how many services were taken."""
    film = _Film(part, tick)
    scores = play_many(
        part.traces,
        part.model,
        _helm(part),
        Drawn(part.seed),
        part.step,
        _fixed(part) if part.strategy == "fixed" else None,
        film,
    )
    film.end()
    return Played(scores, film.mean(film.needed), film.mean(film.ready))


def _helm(part: Part) -> Helm:
    if part.strategy == "fixed":
        return FixedHelm()
    return HELMS[part.strategy](part.model, part.minimum)


def _fixed(part: Part) -> Counts:
    """As many as each needs at most."""
    return np.array([max(1, part.model.needed(max(trace.rates))) for trace in part.traces])


class _Film:
    """What all services of a part need and have, over time."""

    def __init__(self, part: Part, tick: Callable[[int], None]) -> None:
        points = max(1, min(POINTS, int(part.longest / part.step)))
        self.needed, self.ready, self._steps = np.zeros((3, points))
        self._each = part.longest / points
        self._services = len(part.traces)
        self._tick, self._untold = tick, 0

    def __call__(self, now: float, needed: Floats, ready: Counts) -> None:
        place = min(int(now / self._each), len(self._steps) - 1)
        self.needed[place] += needed.sum()
        self.ready[place] += ready.sum()
        self._steps[place] += 1
        self._untold += 1
        if self._untold == STEPS_BETWEEN:
            self.end()

    def end(self) -> None:
        self._tick(self._untold * self._services)
        self._untold = 0

    def mean(self, added: Floats) -> Floats:
        return np.asarray(added / np.maximum(self._steps, 1))


def _together(strategy: str, played: Sequence[tuple[Part, Played]], longest: float) -> Together:
    mine = [(part, each) for part, each in played if part.strategy == strategy]
    scores = {
        name: score
        for part, each in mine
        for name, score in zip(part.names, each.scores, strict=True)
    }
    needed = tuple(np.sum([each.needed for _, each in mine], axis=0).tolist())
    ready = tuple(np.sum([each.ready for _, each in mine], axis=0).tolist())
    return Together(scores, longest, needed, ready)
