"""What is known of a service's figures, look after look. Pure."""

import math
from collections.abc import Collection, Sequence

from seawall.runtime.autoscaler_figures import Figures, Heard
from seawall.runtime.metrics_shapes import Value
from seawall.spec.scaling import ScaleSpec

# How long a figure to which every replica contributed stands against one in which some are
# missing. Who is saturated answers late: that must not look like less load.
WHOLE_FOR = 60.0  # seconds

# Figures that say something of a single replica.
_NOT_OF_ONE = frozenset({"queue", "age"})


class Known:
    """The figures of one service. What was not renewed for `stale` seconds is not told: nobody
    shall scale by a picture of the past."""

    def __init__(self, scale: Sequence[ScaleSpec], stale: float) -> None:
        self._scale = scale
        self._stale = stale
        self._figures = Figures(scale)
        self._pods: dict[str, Figures] = {}
        self._values: dict[str, tuple[float, Value]] = {}  # the time of the look; the figure
        self._whole: dict[str, tuple[float, float]] = {}

    def note(self, heard: Heard, unheard: Collection[str], now: float, wall: float) -> None:
        """One look: what was heard, and which ready replicas did not tell. `now` is monotonic,
        `wall` seconds since 1970."""
        pods = self._of_pods(heard, now)
        totals = self._figures.totals(heard, now)
        for place, (each, total) in enumerate(zip(self._scale, totals, strict=True)):
            if total is None or not math.isfinite(total):
                continue
            total = self._at_least(each.metric, total, bool(unheard), now)
            told = {name: known[place] for name, known in pods.items()}
            of_each = {name: value for name, value in told.items() if value is not None}
            if each.metric in _NOT_OF_ONE:
                of_each = {}
            self._values[each.metric] = (now, Value(total, wall, of_each))

    def value(self, metric: str, now: float) -> Value | None:
        at, value = self._values.get(metric, (-math.inf, None))
        return value if now - at <= self._stale else None

    def _at_least(self, metric: str, total: float, partial: bool, now: float) -> float:
        if not partial or metric in _NOT_OF_ONE:
            self._whole[metric] = (now, total)
            return total
        at, before = self._whole.get(metric, (-math.inf, 0.0))
        return max(total, before) if now - at <= WHOLE_FOR else total

    def _of_pods(self, heard: Heard, now: float) -> dict[str, tuple[float | None, ...]]:
        found = {}
        for name, told in heard.replicas.items():
            figures = self._pods.setdefault(name, Figures(self._scale))
            alone = Heard(service=heard.service, ready=1, replicas={name: told}, gateways={})
            found[name] = figures.totals(alone, now)
        for gone in self._pods.keys() - heard.replicas.keys():
            del self._pods[gone]
        return found
