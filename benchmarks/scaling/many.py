"""How long the simulator takes for a day of many services, on all cores: all at once in arrays."""

import math
import os
import time
from multiprocessing import get_context

from benchmarks.report import Row
from seawall.scaling.helms import HELMS
from seawall.scaling.many import Drawn, play_many
from seawall.scaling.simulate import Model
from seawall.scaling.trace import Trace

DAY = 86_400.0

STRATEGIES = ("hpa-cpu", "keda", "kpa", "surge")

MINUTE = 60.0  # a row of a trace


def measure(services: int, seconds: float = DAY) -> list[Row]:
    cores = os.cpu_count() or 1
    rows: list[Row] = []
    with get_context("fork").Pool(cores) as pool:
        for name in STRATEGIES:
            parts = [(name, range(core, services, cores), seconds) for core in range(cores)]
            began = time.perf_counter()
            played = pool.starmap(_days, parts, chunksize=1)
            rows.append(
                {
                    "strategy": name,
                    "services": services,
                    "hours": seconds / 3600,
                    "cores": cores,
                    "s": time.perf_counter() - began,
                    "cpu_s": sum(cpu for cpu, _ in played),
                    "replica_hours": round(sum(hours for _, hours in played)),
                }
            )
    return rows


def _days(name: str, numbers: range, seconds: float) -> tuple[float, float]:
    """CPU seconds that it took, and hours of replicas."""
    began, model = time.process_time(), Model()
    traces = [_day(number, seconds) for number in numbers]
    scores = play_many(traces, model, HELMS[name](model, 1), Drawn(numbers.start))
    return time.process_time() - began, sum(score.hours for score in scores)


def _day(number: int, seconds: float) -> Trace:
    """A day as days are: more at noon than at night, for each service a little otherwise."""
    base, middles = 200.0 + number, (MINUTE * (row + 0.5) for row in range(int(seconds / MINUTE)))
    rates = (base * (1.5 + math.sin(2 * math.pi * at / DAY)) for at in middles)
    return Trace(f"day {number}", MINUTE, tuple(rates))
