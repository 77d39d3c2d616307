"""Measures, prints tables, and writes their rows to `build/bench/runtime.json`."""

import argparse
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from benchmarks.report import Row, machine, table, versions, write
from benchmarks.runtime.many import many
from benchmarks.runtime.peers import PEERS, lacking, used
from benchmarks.runtime.reloads import Load, reloads
from benchmarks.runtime.starts import crashes, starts, wakes


@dataclass(frozen=True, slots=True)
class Run:
    """How much is measured, and where."""

    folder: Path
    quick: bool
    peers: tuple[str, ...]
    wakes: int
    load: Load


@dataclass(frozen=True, slots=True)
class Section:
    title: str
    columns: tuple[str, ...]
    measure: Callable[[Run], list[Row]]


_TIMES = ("samples", "p50_ms", "p99_ms", "max_ms", "of_seawall")

SECTIONS: Mapping[str, Section] = {
    "starts": Section(
        "from asking for another replica to its first 200",
        _TIMES,
        lambda run: with_ratios(starts(run.folder, 5 if run.quick else 100), "p50_ms"),
    ),
    "wakes": Section(
        "from a request to a service that sleeps to its answer",
        (*_TIMES, "lost"),
        lambda run: with_ratios(wakes(run.folder, 5 if run.quick else run.wakes), "p50_ms"),
    ),
    "crashes": Section(
        "from kill -9 of the only process to the first 200 of its successor",
        _TIMES,
        lambda run: with_ratios(crashes(run.folder, 5 if run.quick else 50, run.peers), "p50_ms"),
    ),
    "reloads": Section(
        "all processes replaced under load; half the connections kept, half new",
        ("reloads", "requests", "failed", "failed_pct", "streams", "cut", "p99_ms", "lag_ms"),
        lambda run: reloads(run.folder, Load(2, 100.0) if run.quick else run.load, run.peers),
    ),
    "many": Section(
        "what the supervisor costs",
        ("supervisor_cpu_pct", "supervisor_rss_mb", "supervisor_pss_mb", "each_replica_pss_mb"),
        lambda run: many(run.folder, *((20, 1) if run.quick else (100, 6))),
    ),
}


def with_ratios(rows: list[Row], column: str) -> list[Row]:
    """Each beside the first row, which is ours."""
    first = float(rows[0][column])
    return [{**row, "of_seawall": float(row[column]) / first} for row in rows]


def main() -> None:
    chosen = arguments()
    missing = lacking()
    for peer in chosen.peers:
        if peer in missing:
            print(f"{peer} is left out: {missing[peer]}")
    peers = tuple(peer for peer in chosen.peers if peer not in missing)
    print(f"{machine()}")
    rows: list[Row] = []
    # A short path: the sockets of a project have to fit into 100 bytes.
    with tempfile.TemporaryDirectory(prefix="sw-") as folder:
        load = Load(chosen.reloads, chosen.rate, chosen.requests)
        run = Run(Path(folder), chosen.quick, peers, chosen.wakes, load)
        for name, section in SECTIONS.items():
            if name in chosen.only:
                found = section.measure(run)
                columns = ("subject", "load", *section.columns)
                print(f"\n{table(f'{name}: {section.title}', columns, found)}", flush=True)
                rows += found
    packages = ("seawall", "fastapi", "uvicorn", "uvloop", "gunicorn")
    print(write("runtime", rows, {**versions(packages), **used()}))


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.runtime")
    parser.add_argument("--quick", action="store_true", help="a few of each: does it work?")
    parser.add_argument("--only", nargs="+", choices=SECTIONS, default=list(SECTIONS))
    parser.add_argument("--peers", nargs="*", choices=PEERS, default=list(PEERS))
    parser.add_argument("--wakes", type=int, default=40, help="of services that sleep")
    parser.add_argument("--reloads", type=int, default=40, help="of each subject")
    parser.add_argument("--rate", type=float, default=300.0, help="requests a second meanwhile")
    parser.add_argument(
        "--requests", type=int, default=0, help="at least, over which reloads are spread"
    )
    return parser.parse_args()


if __name__ == "__main__":
    main()
