"""A week of a real trace, played to each strategy: hours paid, time short, turns an hour."""

import os
from multiprocessing import get_context
from pathlib import Path
from random import Random

from benchmarks.report import Row
from seawall.scaling.pilots import PILOTS
from seawall.scaling.simulate import Model, play
from seawall.scaling.trace import Trace, parse

# Where a trace is, as `seawall scale simulate --trace` reads it. None is kept here: they are
# large, and others' (see README.md beside this file).
PLACE = "SEAWALL_BENCH_TRACE"

DAY = 86_400.0
WEEK = 7 * DAY

STRATEGIES = ("hpa-cpu", "kpa", "keda", "surge")

# Kubernetes' pods start in ten seconds where the image is there, ours from a zygote in less.
STARTS = (10.0, 0.3)


def measure(path: Path, seconds: float = WEEK) -> list[Row]:
    """The last `seconds` of the trace; `of_hpa` compares the hours with those of `hpa-cpu`."""
    whole = parse(path.name, path.read_text(encoding="utf-8"))
    trace = whole.part(max(0.0, whole.seconds - seconds), seconds)
    work = [(trace, name, start) for start in STARTS for name in STRATEGIES]
    with get_context("fork").Pool(os.cpu_count()) as pool:
        rows = pool.starmap(_played, work, chunksize=1)
    hours = {row["start_s"]: row["hours"] for row in rows if row["strategy"] == "hpa-cpu"}
    return [{**row, "of_hpa": float(row["hours"]) / float(hours[row["start_s"]])} for row in rows]


def _played(trace: Trace, name: str, start: float) -> dict[str, str | int | float]:
    model = Model(start=start)
    score = play(trace, model, PILOTS[name](model, 1), Random(1)).score
    return {
        "strategy": name,
        "start_s": start,
        "hours": score.hours,
        "short_%": 100 * score.under_time,
        "extra_%": 100 * score.over_share,
        "shed_%": 100 * score.shed,
        "turns/h": score.reversals,
        "changes/h": score.changes,
    }
