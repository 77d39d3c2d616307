"""When requests start, decided before the first one does. Pure and seeded.

A closed loop (a fixed number of clients that wait for their answers) slows down with the system
it measures and so hides its worst moments: coordinated omission. Here the arrivals are those of
many independent people, a Poisson process, whatever the system does.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random


@dataclass(frozen=True, slots=True)
class Phase:
    """`rate` requests a second on average, for `seconds`."""

    rate: float
    seconds: float

    def __post_init__(self) -> None:
        if self.rate < 0 or self.seconds < 0:
            raise ValueError(f"rate and seconds are not negative: {self}")


def spike(rate: float, seconds: float, *, factor: float = 10, share: float = 0.2) -> list[Phase]:
    """Steady, then `factor` times the load for `share` of the time in the middle, then steady."""
    calm = seconds * (1 - share) / 2
    return [Phase(rate, calm), Phase(rate * factor, seconds * share), Phase(rate, calm)]


def arrivals(phases: Sequence[Phase], rng: Random) -> list[float]:
    """Start times in seconds from the beginning, ascending."""
    times: list[float] = []
    begin = 0.0
    for phase in phases:
        end = begin + phase.seconds
        at = begin
        while phase.rate > 0 and (at := at + rng.expovariate(phase.rate)) < end:
            times.append(at)
        begin = end
    return times
