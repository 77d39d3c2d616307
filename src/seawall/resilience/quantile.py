"""A quantile of the latest times: a bounded estimate, right to a few percent.

Counts in buckets that each are 10 % wider than the one before, for two spans in turn: what is
asked of is the last whole span and the one under way. Memory is two rows of 162 numbers, and
the answer is worked out once for many samples.
"""

import math

from seawall.errors import Misconfigured

_SMALLEST = 1e-4  # seconds; what is faster counts as this
_GROWTH = 1.1
_BUCKETS = 162  # up to 1e-4 * 1.1 ** 161, or seven minutes; what is slower counts as this

_SCALE = 1.0 / math.log(_GROWTH)

# The answer is worked out anew after so many samples: it then costs each of them a few ns.
_REFRESH = 64


class Quantile:
    """The `quantile` of the times of the last `span` to `2 * span` seconds."""

    __slots__ = ("_before", "_ends", "_here", "_total", "_unseen", "_value", "quantile", "span")

    def __init__(self, quantile: float, span: float = 30.0) -> None:
        if not 0 < quantile < 1:
            raise Misconfigured(f"a quantile is between 0 and 1, not {quantile}")
        if not span > 0:
            raise Misconfigured(f"span is more than 0 seconds, not {span}")
        self.quantile: float = quantile
        self.span: float = span
        self._here: list[int] = [0] * _BUCKETS
        self._before: list[int] = [0] * _BUCKETS
        self._ends: float = -math.inf
        self._value: float = 0.0
        self._total: int = 0
        self._unseen: int = 0  # samples since the value was worked out

    def add(self, seconds: float, now: float) -> None:
        if now >= self._ends:
            self._turn(now)
        bucket = int(math.log(seconds / _SMALLEST) * _SCALE) if seconds > _SMALLEST else 0
        self._here[min(bucket, _BUCKETS - 1)] += 1
        self._total += 1
        self._unseen += 1

    def value(self, least: int = 1) -> float | None:
        """Seconds, up to a tenth too many; `None` while there are fewer than `least` samples."""
        if self._total < least:
            return None
        if self._unseen >= _REFRESH or not self._value:
            self._value = self._work_out()
        return self._value

    def _work_out(self) -> float:
        self._unseen = 0
        rank = self.quantile * self._total
        seen = 0
        for bucket in range(_BUCKETS):
            seen += self._here[bucket] + self._before[bucket]
            if seen >= rank:
                break
        upper: float = _SMALLEST * _GROWTH ** (bucket + 1)
        return upper

    def _turn(self, now: float) -> None:
        quiet = now - self._ends >= self.span
        self._before = [0] * _BUCKETS if quiet else self._here
        self._here = [0] * _BUCKETS
        self._ends = now + self.span
        self._total = sum(self._before)
        self._value = 0.0
