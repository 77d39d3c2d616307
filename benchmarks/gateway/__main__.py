"""Measures, prints tables, and writes their rows to `build/bench/gateway.json`."""

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path

from benchmarks.gateway.crowd import allow
from benchmarks.gateway.parts import SECTIONS, Run
from benchmarks.gateway.subjects import SUBJECTS, ground, lacking, used
from benchmarks.report import Row, machine, table, write

IDLE = 10_000  # connections


def main() -> None:
    chosen = arguments()
    missing = lacking()
    for subject, why in missing.items():
        if subject in chosen.subjects:
            print(f"{subject} is left out: {why}")
    # Ratios are to nginx, so it is always there.
    wanted = {"nginx", *chosen.subjects} - missing.keys()
    idle = IDLE // 10 if chosen.quick else IDLE
    if "idle" in chosen.only:
        allow(idle)
    with tempfile.TemporaryDirectory(prefix="seawall-bench-") as folder, ground(Path(folder)) as at:
        run = Run(
            ground=at,
            seconds=1 if chosen.quick else chosen.seconds,
            rounds=1 if chosen.quick else chosen.rounds,
            subjects=[subject for subject in SUBJECTS if subject in wanted],
            idle=idle,
        )
        rows = _measured(run, chosen.only)
    print(write("gateway", rows, used()))


def _measured(run: Run, parts: Sequence[str]) -> list[Row]:
    print(f"{machine()}, {run.rounds} rounds of {run.seconds} s")
    rows: list[Row] = []
    for name, section in SECTIONS.items():
        if name in parts:
            found = section.measure(run)
            columns = ("subject", "load", *section.columns)
            print(f"\n{table(f'{name}: {section.title}', columns, found)}", flush=True)
            rows += found
    return rows


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gateway")
    parser.add_argument("--quick", action="store_true", help="one round of a second: does it work?")
    parser.add_argument("--seconds", type=int, default=3, help="of a round")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", nargs="+", choices=SECTIONS, default=list(SECTIONS))
    parser.add_argument("--subjects", nargs="+", choices=SUBJECTS, default=list(SUBJECTS))
    return parser.parse_args()


if __name__ == "__main__":
    main()
