"""Balancing by latency: peak EWMA, as in Finagle (`PeakEwma.scala`).

An instance's cost is the moving average of its answer times, except that a slower answer than
the average becomes the average at once: quick to believe bad news, slow to believe good. Of two
instances drawn at random the one with the lower `cost * load` is asked.
"""

import math
from collections.abc import Callable, Container, Sequence
from random import Random
from typing import Generic, TypeVar

from seawall.errors import Misconfigured
from seawall.resilience.balancer import LeastRequest

T = TypeVar("T")

# Above every cost, so that an instance which has not answered yet is not asked a second time
# while there is one that has (Finagle's `Penalty`).
_PENALTY = 1e9

# No answer is faster; nothing at all would mean "never answered".
_FASTEST = 1e-6  # seconds

# Instances with a history; beyond it the oldest history goes. Far more than one service has.
MAX_HISTORIES = 4096


class _History:
    __slots__ = ("at", "cost", "probe_until")

    def __init__(self, at: float, probe_until: float) -> None:
        self.cost: float = 0.0  # seconds; 0.0 before the first answer
        self.at: float = at
        self.probe_until: float = probe_until


class PeakEwma(Generic[T]):
    """Tell it of each answer with `observe`, failures and timeouts too; `pick` as any other.

    Costs fade with `decay` seconds, so that an instance which was slow is asked again. Time is
    that of the last answer of anybody: while nobody answers there is no news. A newcomer is
    asked first, once, and then again when it has answered or `decay` has passed. Candidates
    must be hashable.
    """

    __slots__ = ("_balancer", "_decay", "_histories", "_load", "_now")

    def __init__(self, rng: Random, decay: float = 10.0) -> None:
        if not decay > 0:
            raise Misconfigured(f"decay is more than 0 seconds, not {decay}")
        self._balancer: LeastRequest = LeastRequest(rng)
        self._decay: float = decay
        self._histories: dict[T, _History] = {}
        self._load: Callable[[T], float] | None = None
        self._now: float = 0.0

    def observe(self, one: T, seconds: float, now: float) -> None:
        """`one` took `seconds` to answer, or to fail."""
        history = self._histories.get(one) or self._remember(one)
        self._now = max(self._now, now)
        seconds = max(seconds, _FASTEST)
        if seconds > history.cost:
            history.cost = seconds
        else:
            kept = math.exp(-max(0.0, now - history.at) / self._decay)
            history.cost = history.cost * kept + seconds * (1.0 - kept)
        history.at = now

    def cost(self, one: T) -> float:
        """Seconds that `one` takes to answer, as far as is known; 0.0 if nothing is."""
        history = self._histories.get(one)
        return 0.0 if history is None else self._faded(history)

    def pick(
        self,
        candidates: Sequence[T],
        load: Callable[[T], float],
        avoid: Container[T] = (),
        key: str = "",
    ) -> T:
        """See `Balancer`; `key` is not asked for."""
        self._load = load
        picked = self._balancer.pick(candidates, self._weighed, avoid)
        history = self._histories.get(picked)
        if history is None:
            self._remember(picked)
        elif not history.cost:
            history.probe_until = self._now + self._decay
        return picked

    def forget(self, one: T) -> None:
        """The instance is gone."""
        self._histories.pop(one, None)

    def __repr__(self) -> str:
        return f"<PeakEwma {len(self._histories)} with a history>"

    def _weighed(self, one: T) -> float:
        load = 1.0 if self._load is None else self._load(one)
        history = self._histories.get(one)
        if history is None:
            return 0.0
        if history.cost:
            return self._faded(history) * load
        return _PENALTY + load if self._now < history.probe_until else 0.0

    def _faded(self, history: _History) -> float:
        return history.cost * math.exp(-max(0.0, self._now - history.at) / self._decay)

    def _remember(self, one: T) -> _History:
        if len(self._histories) >= MAX_HISTORIES:
            del self._histories[next(iter(self._histories))]
        history = self._histories[one] = _History(self._now, self._now + self._decay)
        return history
