"""Several services under one strategy, told as one: what all of them cost, and whom it failed."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from seawall.scaling.simulate import Run, Score
from seawall.scaling.trace import Trace


@dataclass(frozen=True, slots=True)
class Together:
    """`scores` by service; `needed` and `ready` replicas of all, as means of equal parts of the
    longest trace's time."""

    scores: Mapping[str, Score]
    seconds: float
    needed: tuple[float, ...]
    ready: tuple[float, ...]

    def run(self, traces: Mapping[str, Trace]) -> Run:
        """As if they were one."""
        needed, ready = (tuple(map(round, each)) for each in (self.needed, self.ready))
        return Run(total(self.scores, traces), self.seconds, needed, ready)

    def worst(self, most: int) -> list[tuple[str, Score]]:
        """Those that were short, the longest first."""
        short = [(name, score) for name, score in self.scores.items() if score.under_time > 0]
        return sorted(short, key=lambda each: -each[1].under_time)[:most]


def total(scores: Mapping[str, Score], traces: Mapping[str, Trace]) -> Score:
    """Hours are added up; shares are of all time, and of all requests; changes are a service's
    mean; the rest is that of the service that fared worst."""
    each = [scores[name] for name in traces]
    seconds = [trace.seconds for trace in traces.values()]
    requests = [sum(trace.rates) * trace.step for trace in traces.values()]
    return Score(
        hours=sum(score.hours for score in each),
        under_time=_mean((score.under_time for score in each), seconds),
        under_share=_mean((score.under_share for score in each), seconds),
        over_share=_mean((score.over_share for score in each), seconds),
        shed=_mean((score.shed for score in each), requests),
        violations=_mean((score.violations for score in each), requests),
        p99=max(score.p99 for score in each),
        longest_under=max(score.longest_under for score in each),
        peak=max(score.peak for score in each),
        changes=_mean((score.changes for score in each), seconds),
        reversals=_mean((score.reversals for score in each), seconds),
    )


def _mean(values: Iterable[float], weights: Sequence[float]) -> float:
    weighed = sum(value * weight for value, weight in zip(values, weights, strict=True))
    return weighed / max(sum(weights), 1e-9)
