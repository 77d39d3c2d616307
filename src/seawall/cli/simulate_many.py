"""Many services for `seawall scale simulate`: in arrays, on all cores. It needs NumPy.

What chance brings to a service depends on the seed and on which services are played with it, never
on how many cores there are: the same traces and seed give the same figures everywhere.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np

from seawall.cli.simulate_cores import Tell, Tick, play_on_all_cores
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

# How often it is told how far it is.
STEPS_BETWEEN = 500


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
        """Of each service."""
        return self._steps * len(self.traces)

    @property
    def costs(self) -> float:
        return self._steps * (STEP_COSTS + SERVICE_COSTS * len(self.traces))

    @property
    def _steps(self) -> int:
        return int(self.traces[0].seconds / self.step)

    def play(self, tick: Tick) -> "Played":
        film = _Film(self, tick)
        scores = play_many(
            self.traces,
            self.model,
            _helm(self),
            Drawn(self.seed),
            self.step,
            _fixed(self) if self.strategy == "fixed" else None,
            film,
        )
        film.end()
        return Played(scores, film.mean(film.needed), film.mean(film.ready))


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
    played = list(zip(parts, play_on_all_cores(parts, tell), strict=True))
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


def _helm(part: Part) -> Helm:
    if part.strategy == "fixed":
        return FixedHelm()
    return HELMS[part.strategy](part.model, part.minimum)


def _fixed(part: Part) -> Counts:
    """As many as each needs at most."""
    return np.array([max(1, part.model.needed(max(trace.rates))) for trace in part.traces])


class _Film:
    """What all services of a part need and have, over time."""

    def __init__(self, part: Part, tick: Tick) -> None:
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
