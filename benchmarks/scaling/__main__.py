"""Measures, prints tables, and writes their rows to `build/bench/scaling.json`."""

import argparse
import os
from pathlib import Path

from benchmarks.report import Row, machine, table, versions, write
from benchmarks.scaling import decisions, many, overload, real, step

DECISIONS = ("decision", "us", "least", "most")
REAL = (
    *("strategy", "start_s", "hours", "of_hpa", "short_%", "extra_%", "shed_%"),
    *("turns/h", "changes/h"),
)


STEP = (
    *("replicas", "wait_s", "runs", "void", "p50_s", "p99_s", "decided_p99_s", "requests"),
    *("shed_%", "answered_p99_s", "failed"),
)


OVERLOAD = (
    *("gateway", "admission", "most/s", "offered/s", "goodput_%", "critical_%", "p99_s"),
    *("503_p99_s", "other", "back_s", "lag_p99_s"),
)


MANY = ("strategy", "services", "hours", "cores", "s", "cpu_s", "replica_hours")


def main() -> None:
    chosen = arguments()
    print(machine())
    rows: list[Row] = []
    for part in chosen.only:
        title, columns, found = PARTS[part](chosen)
        if found:
            print(f"\n{table(f'{part}: {title}', columns, found)}", flush=True)
        rows += [{"part": part, **row} for row in found]
    print(write("scaling", rows, versions(["seawall"])))


Found = tuple[str, tuple[str, ...], list[Row]]


def _decisions(chosen: argparse.Namespace) -> Found:
    found = decisions.measure(3, 200) if chosen.quick else decisions.measure()
    return "microseconds of a look at 50 replicas", DECISIONS, found


def _real(chosen: argparse.Namespace) -> Found:
    if chosen.trace is None:
        print(f"\nreal: left out, for there is no trace (--trace FILE, or {real.PLACE}=FILE)")
        return "", REAL, []
    seconds = real.DAY / 4 if chosen.quick else real.WEEK
    found = real.measure(chosen.trace, seconds)
    return f"the last {seconds / real.DAY:g} days of {chosen.trace.name}", REAL, found


def _step(chosen: argparse.Namespace) -> Found:
    found = step.measure(3 if chosen.quick else chosen.runs)
    return "ten times the load at once, on replicas that wait", STEP, found


def _overload(chosen: argparse.Namespace) -> Found:
    kinds = ("none", "gradient2") if chosen.quick else overload.KINDS
    found = overload.measure(4.0 if chosen.quick else chosen.seconds, kinds)
    return "ten times more than two cores can do", OVERLOAD, found


def _many(chosen: argparse.Namespace) -> Found:
    found = many.measure(20, many.DAY / 24) if chosen.quick else many.measure(1000)
    return "seconds of the simulator", MANY, found


PARTS = {
    "decisions": _decisions,
    "many": _many,
    "real": _real,
    "step": _step,
    "overload": _overload,
}


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scaling")
    place = os.environ.get(real.PLACE)
    parser.add_argument("--quick", action="store_true", help="little of each: does it work?")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--runs", type=int, default=50, help="of a step with each wait, 9 s each")
    parser.add_argument("--seconds", type=float, default=60.0, help="of an overload")
    parser.add_argument("--trace", type=Path, default=Path(place) if place else None)
    return parser.parse_args()


if __name__ == "__main__":
    main()
