"""Rate limit by sliding window: so many calls in any window, as near as two counts can tell.

The sliding window counter (as Cloudflare described it): the calls of the last window count for
the part of it that the sliding window still covers, as if they had come evenly, rounded down.
Unlike a fixed window it does not admit twice the limit around every boundary, and unlike a token
bucket it is told in the words of a plan: "1000 an hour". Where the calls did not come evenly the
guess is off: at worst twice `limit` fit in a window, once, and never more than `limit` in one that
begins at a multiple of `window`.
"""

import math
from collections import OrderedDict

from seawall.errors import Misconfigured
from seawall.resilience.limiter import MAX_KEYS, Verdict

# As in `limiter`: who waits as long as told must be admitted, although the sum was rounded.
_ROUNDING = 1e-6  # seconds


class _Counts:
    __slots__ = ("before", "here", "window")

    def __init__(self, window: int) -> None:
        self.window: int = window  # number of the window that `here` counts
        self.before: int = 0
        self.here: int = 0


class KeyedWindow:
    """`limit` calls in `window` seconds for each key, for at most `max_keys` keys.

    Asked like `KeyedLimiter`, and forgets like it: a key that was quiet for two windows at no
    loss; when all are in use, the one least used of a few; never one that is over its limit, for
    which newcomers share one count instead.
    """

    __slots__ = ("_counts", "_crowd", "_max_keys", "_rounding", "quota", "window")

    def __init__(self, limit: int, window: float, max_keys: int = MAX_KEYS) -> None:
        if not 0 < window < math.inf:
            raise Misconfigured(f"no limit: {limit} calls in {window} s")
        if max_keys < 1:
            raise Misconfigured(f"max_keys is 1 or more, not {max_keys}")
        self.window: float = window
        self._max_keys: int = max_keys
        self.replace(limit)
        self._counts: OrderedDict[str, _Counts] = OrderedDict()
        self._crowd: _Counts = _Counts(0)

    def acquire(self, key: str, now: float) -> Verdict:
        """Count one call of `key`, if it has one left."""
        place = now / self.window
        window = math.floor(place + self._rounding / self.quota)
        counts = self._counts.get(key)
        if counts is None:
            counts = self._newcomer(key, window)
        if window > counts.window:
            counts.before = counts.here if window == counts.window + 1 else 0
            counts.here = 0
            counts.window = window
        # A clock that steps back stays where it was.
        gone = max(0.0, place - counts.window)
        before = counts.before * (1.0 - gone) - self._rounding
        left = self.quota - counts.here - (int(before) if before > 0.0 else 0)
        if left <= 0:
            return Verdict(False, 0, self._wait(counts, gone), self._reset(counts, gone))
        counts.here += 1
        return Verdict(True, left - 1, 0.0, self._reset(counts, gone))

    def give_back(self, key: str, now: float) -> None:
        """Undo an `acquire` of this moment that was allowed: the call is not made after all."""
        counts = self._counts.get(key)
        if counts is None:
            counts = self._crowd
        counts.here -= 1

    def replace(self, limit: int) -> None:
        """Become another limit over the same window: what was counted counts there."""
        if limit < 1:
            raise Misconfigured(f"no limit: {limit} calls in {self.window} s")
        self.quota: int = limit
        # In calls; a hundredth at most, and never so little that it is lost beside `limit`.
        self._rounding: float = max(min(_ROUNDING * limit / self.window, 0.01), 1e-12 * limit)

    def __len__(self) -> int:
        return len(self._counts)

    def __repr__(self) -> str:
        return (
            f"<KeyedWindow {self.quota} in {self.window:g} s, {len(self)} of {self._max_keys} keys>"
        )

    def _wait(self, counts: _Counts, gone: float) -> float:
        """Seconds until one more call fits."""
        if counts.here < self.quota:  # in this window, when enough of the last one is gone
            at = 1.0 - (self.quota - counts.here) / counts.before
        else:
            at = 2.0 - self.quota / counts.here
        return max(0.0, at - gone) * self.window

    def _reset(self, counts: _Counts, gone: float) -> float:
        """Seconds until nothing counts any more."""
        return ((2.0 if counts.here else 1.0) - gone) * self.window

    def _newcomer(self, key: str, window: int) -> _Counts:
        if not self._make_room(window):
            return self._crowd
        counts = self._counts[key] = _Counts(window)
        return counts

    def _make_room(self, window: int) -> bool:
        """See `KeyedLimiter`: the oldest few are looked at, the idle ones forgotten."""
        table = self._counts
        least: str | None = None
        least_used = self.quota
        for _ in range(min(8 if len(table) >= self._max_keys else 2, len(table))):
            key, counts = table.popitem(last=False)
            if counts.window < window - 1:
                continue
            table[key] = counts
            used = counts.here + counts.before
            if used < least_used:
                least, least_used = key, used
        if len(table) < self._max_keys:
            return True
        if least is None:
            return False
        del table[least]
        return True
