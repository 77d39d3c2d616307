"""Retry budget: retries may add only so much load.

Without one, a destination that is down gets three times its traffic, and stays down. It limits
per destination, not per call, because a thousand calls that each retry twice are the storm
(Finagle `RetryBudget`, gRPC retry throttling).
"""

from seawall.errors import Misconfigured
from seawall.resilience.window import Window


class RetryBudget:
    """Within any `window` seconds at most `ratio` of the calls, plus `floor` a second, are retried.

    `deposit` at each first try, `withdraw` before each retry. The floor lets a caller with
    little traffic retry at all.
    """

    __slots__ = ("_floor", "_ratio", "tries")

    def __init__(self, ratio: float = 0.2, floor: float = 10.0, window: float = 10.0) -> None:
        if not (ratio >= 0 and floor >= 0 and window > 0):
            raise Misconfigured(f"no retry budget: ratio {ratio}, floor {floor}, window {window}")
        self._ratio: float = ratio
        self._floor: float = floor * window
        self.tries: Window = Window(window)  # good: first tries, bad: retries

    def deposit(self, now: float) -> None:
        """A call was made for the first time."""
        tries = self.tries
        if now < tries.until:
            tries.fresh += 1
        else:
            tries.add_good(now)

    def withdraw(self, now: float) -> bool:
        """True if one retry may be made; it is then taken off the budget."""
        self.tries.expire(now)
        if self.tries.bad + 1 > self._ratio * self.tries.good + self._floor:
            return False
        self.tries.add_bad(now)
        return True

    def left(self, now: float) -> float:
        """Retries that may be made now."""
        self.tries.expire(now)
        return max(0.0, self._ratio * self.tries.good + self._floor - self.tries.bad)

    def share(self, now: float) -> float:
        """The share of the retries allowed now that is left, 0 to 1."""
        left = self.left(now)
        return left / (left + self.tries.bad) if left else 0.0

    def __repr__(self) -> str:
        return f"<RetryBudget {self.tries.bad} retries for {self.tries.good} calls>"
