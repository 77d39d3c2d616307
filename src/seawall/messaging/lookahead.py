"""How many messages a consumer holds beside those that it handles. Pure.

Few where handlers are slow: what waits here waits behind them, while another member of the group
may be idle. Many where they are quick: each fetch costs a round trip.
"""

import math
from collections.abc import Sequence

# What is held is to be handled within this time: an idle member gets its share as soon.
AHEAD = 1.0  # seconds

# Weight of the newest batch in the mean: some ten batches are remembered.
WEIGHT = 0.2


class Lookahead:
    """Follows how long handlers take; between `concurrency` and `most` messages are held."""

    def __init__(self, concurrency: int, most: int, rate: float = math.inf) -> None:
        self._concurrency = concurrency
        self._most = most
        self._rate = rate  # a second; more are not handled
        self._mean: float | None = None  # seconds a message

    def note(self, seconds: Sequence[float]) -> None:
        """Messages were handled; each took so long."""
        if not seconds:
            return
        mean = sum(seconds) / len(seconds)
        self._mean = mean if self._mean is None else self._mean + (mean - self._mean) * WEIGHT

    @property
    def held(self) -> int:
        """How many to hold; all that are allowed until something is known."""
        rate = self._rate
        if self._mean is not None and self._mean > 0:
            rate = min(rate, self._concurrency / self._mean)
        if rate * AHEAD >= self._most:
            return self._most
        return min(self._most, self._concurrency + math.ceil(rate * AHEAD))

    def __repr__(self) -> str:
        return f"<Lookahead {self.held} of {self._most}>"
