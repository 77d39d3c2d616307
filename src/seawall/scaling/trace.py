"""Load over time: read from a CSV of counts, or made up.

A trace is a row of mean rates, one for each `step` seconds. Real ones of the web are gentle; what
hurts (a step, a herd, a flash crowd) has to be made.
"""

import csv
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from seawall.errors import Misconfigured

# What the first column counts, in seconds.
UNITS = {"second": 1.0, "minute": 60.0, "hour": 3600.0}

# A year of seconds: a longer file is no trace of load.
LONGEST = 366 * 86_400


@dataclass(frozen=True, slots=True)
class Trace:
    name: str
    step: float  # seconds that each rate holds
    rates: tuple[float, ...]  # requests or items a second

    def __post_init__(self) -> None:
        if not self.rates or not self.step > 0:
            raise Misconfigured(f"{self.name} has no load in it", fix="at least one row")

    @property
    def seconds(self) -> float:
        return self.step * len(self.rates)

    def rate(self, at: float) -> float:
        """The rate `at` seconds after the beginning, between two rows in proportion."""
        place = at / self.step - 0.5  # a row tells the mean of its time: it holds in its middle
        if place <= 0:
            return self.rates[0]
        below = int(place)
        if below >= len(self.rates) - 1:
            return self.rates[-1]
        one, other = self.rates[below], self.rates[below + 1]
        return one + (other - one) * (place - below)

    def scaled(self, factor: float) -> "Trace":
        return Trace(self.name, self.step, tuple(rate * factor for rate in self.rates))

    def part(self, begin: float, seconds: float) -> "Trace":
        """`seconds` of it, from `begin` on."""
        first = int(begin / self.step)
        last = first + max(1, math.ceil(seconds / self.step))
        return Trace(self.name, self.step, self.rates[first:last])


def parse(name: str, text: str) -> Trace:
    """A trace from CSV: a header, of which the first column is second, minute or hour."""
    rows = csv.reader(text.splitlines())
    header = next(rows, [])
    unit = header[0].strip().lower() if header else ""
    if len(header) < 2 or unit not in UNITS:
        raise Misconfigured(
            f"{name} begins with {','.join(header)!r}",
            fix="a first line such as minute,requests, then a count for each minute",
        )
    step = UNITS[unit]
    rates: list[float] = []
    for number, row in enumerate(rows, start=2):
        if len(rates) * step > LONGEST:
            raise Misconfigured(f"{name} is longer than a year", fix="a part of it")
        rates.append(_count(name, number, row) / step)
    return Trace(name, step, tuple(rates))


def _count(name: str, number: int, row: Sequence[str]) -> float:
    try:
        count = float(row[1])
    except (IndexError, ValueError):
        count = math.nan
    if not 0 <= count < math.inf:
        raise Misconfigured(f"{name}, line {number}: {','.join(row)!r} is no count")
    return count


def made(name: str, seconds: float, shape: Callable[[float], float]) -> Trace:
    """A trace of one rate a second."""
    if not 1 <= seconds <= LONGEST:
        raise Misconfigured(f"{seconds} s of load", fix="a second at least, and a year at most")
    return Trace(name, 1.0, tuple(shape(at + 0.5) for at in range(int(seconds))))


def step(base: float, factor: float = 10.0, seconds: float = 1200.0) -> Trace:
    """`factor` times as much, from a quarter to three quarters of the time."""
    return made(
        "step",
        seconds,
        lambda at: base * factor if seconds / 4 <= at < seconds * 3 / 4 else base,
    )


def ramp(base: float, factor: float = 10.0, seconds: float = 1200.0, rise: float = 30.0) -> Trace:
    """As a step, that takes `rise` seconds."""

    def shape(at: float) -> float:
        up = min(1.0, max(0.0, (at - seconds / 4) / rise))
        down = min(1.0, max(0.0, (at - seconds * 3 / 4) / rise))
        return base * (1 + (factor - 1) * (up - down))

    return made("ramp", seconds, shape)


def sawtooth(
    base: float, factor: float = 10.0, seconds: float = 1200.0, period: float = 120.0
) -> Trace:
    """Up slowly and down at once, each `period` seconds."""
    return made("sawtooth", seconds, lambda at: base * (1 + (factor - 1) * (at % period) / period))


def spikes(
    base: float, factor: float = 10.0, seconds: float = 1200.0, period: float = 300.0
) -> Trace:
    """Ten seconds of much, each `period` seconds."""
    return made(
        "spikes",
        seconds,
        lambda at: base * factor if at % period >= period - 10 else base,
    )


def flash(base: float, factor: float = 10.0, seconds: float = 1200.0) -> Trace:
    """A crowd that comes in ten seconds, and leaves by and by."""
    begin = seconds / 4

    def shape(at: float) -> float:
        if at < begin:
            return base
        risen = min(1.0, (at - begin) / 10)
        faded = math.exp(-max(0.0, at - begin - 10) / (seconds / 6))
        return base * (1 + (factor - 1) * risen * faded)

    return made("flash", seconds, shape)


def herd(base: float, factor: float = 10.0, seconds: float = 1200.0) -> Trace:
    """After a minute without anything, all who waited come at once, and more again."""
    begin = seconds / 2

    def shape(at: float) -> float:
        if begin - 60 <= at < begin:
            return 0.0
        back = at - begin
        return base * (1 + (factor - 1) * math.exp(-back / 20)) if back >= 0 else base

    return made("herd", seconds, shape)


SHAPES: dict[str, Callable[[float, float, float], Trace]] = {
    "step": step,
    "ramp": ramp,
    "sawtooth": sawtooth,
    "spikes": spikes,
    "flash": flash,
    "herd": herd,
}
