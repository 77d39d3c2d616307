"""Which of those that waited too long to drop: CoDel, controlled delay (RFC 8289).

A queue that is long for a moment is fine, one that never gets short is only delay. CoDel looks
at how long each item waited: once none waited less than `target` for a whole `interval`, it
drops one, and the next ones sooner and sooner (`interval / sqrt(count)`), until waits are short.
"""

import math

from seawall.errors import Misconfigured

# RFC 8289, 4.2 and 4.3: 5 ms and 100 ms, a twentieth of the slowest usual round trip.
TARGET = 0.005  # seconds
INTERVAL = 0.1  # seconds


class CoDel:
    """Asked about each item as it leaves the queue; keeps five numbers, whatever the queue."""

    __slots__ = (
        "_count",
        "_drop_from",
        "_drop_next",
        "_dropping",
        "_last_count",
        "interval",
        "target",
    )

    def __init__(self, target: float = TARGET, interval: float = INTERVAL) -> None:
        if not 0 < target < interval:
            raise Misconfigured(f"target {target} is above 0 and below interval {interval}")
        self.target: float = target
        self.interval: float = interval
        self._drop_from: float = math.inf  # an interval after waits became long
        self._dropping: bool = False
        self._drop_next: float = 0.0
        self._count: int = 0
        self._last_count: int = 0

    def drops(self, waited: float, now: float, last: bool = False) -> bool:
        """Whether to drop an item that waited `waited` seconds; `last`: none waits behind it.

        The last one is never dropped: without a queue there is nothing to shorten.
        """
        if waited < self.target or last:
            self._drop_from = math.inf
            self._dropping = False
            return False
        if self._drop_from == math.inf:
            self._drop_from = now + self.interval
        if self._dropping:
            if now < self._drop_next:
                return False
            self._count += 1
            self._drop_next += self._pause()
            return True
        if now < self._drop_from:
            return False
        self._begin(now)
        return True

    def __repr__(self) -> str:
        return f"<CoDel {'dropping' if self._dropping else 'calm'}, {self._count} lately>"

    def _begin(self, now: float) -> None:
        """Drop the first one; at the former pace if that was needed a moment ago."""
        lately = self._count - self._last_count
        recent = now - self._drop_next < 16.0 * self.interval
        self._count = lately if lately > 1 and recent else 1
        self._last_count = self._count
        self._dropping = True
        self._drop_next = now + self._pause()

    def _pause(self) -> float:
        return self.interval / math.sqrt(self._count)
