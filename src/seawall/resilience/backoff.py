"""How long to wait before the next try: full jitter.

Waits that only double keep the callers of a failed server in step, and they come back together;
full jitter spreads them over the whole interval (AWS Architecture Blog, "Exponential Backoff And
Jitter").
"""

from collections.abc import Iterator
from random import Random


def ceiling(attempt: int, base: float, cap: float) -> float:
    """The longest wait, in seconds, after try number `attempt` (from 1) failed."""
    # 2 ** 64 is far beyond every cap, and a large power of two overflows a float.
    return min(cap, base * 2.0 ** min(attempt - 1, 64))


def jittered(attempt: int, base: float, cap: float, rng: Random) -> float:
    """A wait, in seconds, after try number `attempt` (from 1) failed."""
    return rng.uniform(0.0, ceiling(attempt, base, cap))


def full_jitter(base: float, cap: float, rng: Random) -> Iterator[float]:
    """Waits without end: anything between nothing and a ceiling that doubles up to `cap`."""
    attempt = 0
    while True:
        attempt += 1
        yield jittered(attempt, base, cap, rng)
