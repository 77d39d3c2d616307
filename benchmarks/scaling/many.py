"""How long the simulator takes for a day of many services, on all cores.

A part of them is played, and what a thousand would take is reckoned from it: each is played alone.
"""

import math
import os
import time
from multiprocessing import get_context
from random import Random

from benchmarks.report import Row
from seawall.scaling.pilots import PILOTS
from seawall.scaling.simulate import Model, play
from seawall.scaling.trace import made

DAY = 86_400.0

SERVICES = 1000

STRATEGIES = ("hpa-cpu", "kpa", "surge")


def measure(services: int, seconds: float = DAY) -> list[Row]:
    cores = os.cpu_count() or 1
    rows: list[Row] = []
    with get_context("fork").Pool(cores) as pool:
        for name in STRATEGIES:
            began = time.perf_counter()
            pool.starmap(_day, [(name, number, seconds) for number in range(services)], chunksize=1)
            taken = time.perf_counter() - began
            each = taken / services * DAY / seconds
            rows.append(
                {
                    "strategy": name,
                    "played": services,
                    "hours": seconds / 3600,
                    "cores": cores,
                    "s": taken,
                    "thousand_days_s": each * SERVICES,
                }
            )
    return rows


def _day(name: str, number: int, seconds: float) -> float:
    """A day as days are: more at noon than at night, for each service a little otherwise."""
    base = 200.0 + number

    def shape(at: float) -> float:
        return base * (1.5 + math.sin(2 * math.pi * at / DAY))

    model, trace = Model(), made("day", seconds, shape)
    return play(trace, model, PILOTS[name](model, 1), Random(number)).score.hours
