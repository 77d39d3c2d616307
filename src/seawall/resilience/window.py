"""How often two things happened lately: a sliding window of counts, in a ring of buckets.

The window is one bucket short of exact: it covers between `span - span / buckets` and `span`
seconds. In exchange counting costs the same whatever the traffic, and memory is a few numbers.
"""

# Ten buckets make the window at most a tenth shorter than asked for (Envoy and Finagle use ten).
BUCKETS = 10


class Window:
    """Counts of good and bad over the last `span` seconds.

    `good` and `bad` are as of the last call with a `now`. A `now` that is earlier than one seen
    before counts into the newest bucket. Who counts at every request may save the call of
    `add_good`: while `now < until`, it does nothing but add 1 to `fresh`.
    """

    __slots__ = ("_at", "_bads", "_goods", "_past", "_width", "bad", "fresh", "span", "until")

    def __init__(self, span: float, buckets: int = BUCKETS) -> None:
        self.span: float = span
        self.bad: int = 0
        self.fresh: int = 0  # good ones, in the newest bucket
        self._past: int = 0  # good ones, in all others
        self._width: float = span / buckets
        self._goods: list[int] = [0] * buckets
        self._bads: list[int] = [0] * buckets
        self._at: int = 0
        self.until: float = float("-inf")  # where the newest bucket ends

    @property
    def good(self) -> int:
        return self._past + self.fresh

    def add_good(self, now: float) -> None:
        if now >= self.until:
            self._turn(now)
        self.fresh += 1

    def add_bad(self, now: float) -> None:
        if now >= self.until:
            self._turn(now)
        self.bad += 1
        self._bads[self._at] += 1

    def expire(self, now: float) -> None:
        """Forget what is older than the window."""
        if now >= self.until:
            self._turn(now)

    def clear(self) -> None:
        self.fresh = self._past = self.bad = 0
        for index in range(len(self._goods)):
            self._goods[index] = self._bads[index] = 0

    def _turn(self, now: float) -> None:
        if now - self.until >= self.span:  # nothing of the ring is left, or it is the first call
            self.clear()
            self.until = now + self._width
            return
        while now >= self.until:
            self._goods[self._at] = self.fresh
            self._past += self.fresh
            self.fresh = 0
            self._at = (self._at + 1) % len(self._goods)
            self._past -= self._goods[self._at]
            self.bad -= self._bads[self._at]
            self._goods[self._at] = self._bads[self._at] = 0
            self.until += self._width

    def __repr__(self) -> str:
        return f"<Window {self.good} good, {self.bad} bad in {self.span:g} s>"
