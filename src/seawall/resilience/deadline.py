"""How long the caller still waits, and how it is told to the next service.

The header carries what *remains*, never a time of day: two hosts' clocks disagree by more than
a call takes. Each hop subtracts what it used and an allowance for the wire.
"""

from dataclasses import dataclass

HEADER = "x-deadline-ms"

# What one hop's network and scheduling take, so that the callee gives up before we do.
ALLOWANCE = 0.005  # seconds

# Nobody waits an hour for an answer: a larger number is a mistake or an attack, and is cut.
MAX_REMAINING = 3600.0  # seconds

# More digits cannot matter below MAX_REMAINING; the bound keeps `int` from a megabyte of them.
_MAX_DIGITS = 16


@dataclass(frozen=True, slots=True)
class Deadline:
    """The moment, on this process's monotonic clock, after which nobody wants the answer."""

    at: float

    @classmethod
    def after(cls, seconds: float, now: float) -> "Deadline":
        return cls(now + seconds)

    def remaining(self, now: float) -> float:
        """Seconds left; 0.0 once it has passed."""
        return max(0.0, self.at - now)

    def expired(self, now: float) -> bool:
        return now >= self.at

    def to_header(self, now: float, allowance: float = ALLOWANCE) -> str:
        """The value of `HEADER` for the next hop, in whole milliseconds, rounded down."""
        return str(int(max(0.0, self.at - now - allowance) * 1000))

    @classmethod
    def from_header(cls, text: str, now: float) -> "Deadline | None":
        """Read `HEADER`. What is no whole number of milliseconds is as good as absent: `None`."""
        if not (text.isascii() and text.isdigit() and len(text) <= _MAX_DIGITS):
            return None
        return cls(now + min(MAX_REMAINING, int(text) / 1000))


def tightest(a: Deadline | None, b: Deadline | None) -> Deadline | None:
    """The earlier of two; `None` means none."""
    if a is None or b is None:
        return a or b
    return a if a.at <= b.at else b
