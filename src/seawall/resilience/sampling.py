"""Windowed sampling: many answers become one sample for a concurrency limit.

A single answer time is noise, and an algorithm that moved at each would move with the noise. As in
`WindowedLimit` of Netflix's concurrency-limits.
"""

import math
from dataclasses import dataclass

from seawall.errors import Misconfigured
from seawall.resilience.adaptive import ConcurrencyLimit


@dataclass(frozen=True, kw_only=True, slots=True)
class WindowConfig:
    """Raises `Misconfigured`."""

    shortest: float = 1.0  # seconds
    longest: float = 1.0  # seconds; between them, twice the fastest answer of the last window
    samples: int = 10  # a window with fewer says nothing, and is dropped
    fastest: float = 100e-6  # seconds; a faster answer did no work

    def __post_init__(self) -> None:
        if not 0.1 <= self.shortest <= self.longest:
            raise Misconfigured("a window takes 0.1 seconds or more, the longest the most")
        if self.samples < 10:
            raise Misconfigured(f"samples is 10 or more, not {self.samples}")


class Windowed:
    """Gives an algorithm one sample a window: mean time, most in flight, whether any dropped."""

    __slots__ = ("_config", "_count", "_dropped", "_ends", "_least", "_limit", "_most", "_sum")

    def __init__(self, limit: ConcurrencyLimit, config: WindowConfig = WindowConfig()) -> None:
        self._limit: ConcurrencyLimit = limit
        self._config: WindowConfig = config
        self._ends: float = -math.inf
        self._count: int = 0
        self._sum: float = 0.0
        self._least: float = math.inf
        self._most: int = 0
        self._dropped: bool = False

    @property
    def limit(self) -> int:
        return self._limit.limit

    def sample(self, seconds: float, in_flight: int, dropped: bool, now: float) -> int | None:
        """A call ended `now`. Returns the limit if this ended a window that counts."""
        if seconds < self._config.fastest:
            return None
        self._count += 1
        self._sum += seconds
        if seconds < self._least:
            self._least = seconds
        if in_flight > self._most:
            self._most = in_flight
        if dropped:
            self._dropped = True
        return self._end(now) if now > self._ends else None

    def __repr__(self) -> str:
        return f"<Windowed {type(self._limit).__name__} {self.limit}>"

    def _end(self, now: float) -> int | None:
        config = self._config
        self._ends = now + min(max(2.0 * self._least, config.shortest), config.longest)
        mean, most, dropped = self._sum / self._count, self._most, self._dropped
        counts = self._count >= config.samples
        self._clear()
        return self._limit.sample(mean, most, dropped) if counts else None

    def _clear(self) -> None:
        self._count = self._most = 0
        self._sum = 0.0
        self._least = math.inf
        self._dropped = False
