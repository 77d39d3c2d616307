"""`seawall scale simulate`: what each strategy of scaling would have cost, and whom failed."""

import argparse
import math
import sys
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from random import Random

from seawall.cli.failure import USAGE, Failure
from seawall.cli.screen import GREY, Paint, coloured, duration, print_json, table
from seawall.scaling.page import page
from seawall.scaling.picture import sparkline, svg
from seawall.scaling.pilots import PILOTS, FixedPilot
from seawall.scaling.simulate import Model, Run, play
from seawall.scaling.trace import SHAPES, Trace, parse

# A trace is a few bytes a row; a year of minutes is below ten of these.
MOST_BYTES = 256 * 1024 * 1024

HEADINGS = (
    *("STRATEGY", "HOURS", "SHORT", "EXTRA", "SHED", "LATE", "P99", "LONGEST", "PEAK"),
    *("CHANGES/H", "TURNS/H", "REPLICAS"),
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    load = parser.add_mutually_exclusive_group()
    load.add_argument("--trace", metavar="FILE", help="CSV: second or minute, count")
    load.add_argument("--shape", choices=sorted(SHAPES), default="step", help="made-up load")
    add = parser.add_argument
    add("--policy", metavar="NAMES", default="all", help=f"of {', '.join((*PILOTS, 'fixed'))}")
    add("--base", type=_amount, default=700.0, metavar="RATE", help="of a shape: requests a second")
    add("--factor", type=_amount, default=10.0, help="of a shape: how many times as much")
    add("--seconds", type=_amount, metavar="S", help="length of a shape, or of the part of a file")
    add(
        "--from", type=_amount, default=0.0, metavar="S", dest="begin", help="where the part begins"
    )
    add("--scale", type=_amount, default=1.0, metavar="X", help="times the counts of a file")
    add("--capacity", type=_amount, default=100.0, metavar="RATE", help="that one replica bears")
    add("--utilization", type=_amount, default=0.7, metavar="U", help="of it, to be used")
    add("--start", type=_amount, default=10.0, metavar="S", help="until a new replica serves")
    add("--queue", type=_amount, default=0.5, metavar="S", help="of work that may wait")
    add("--minimum", type=int, default=1, metavar="N", help="replicas at least")
    add("--step", type=_amount, metavar="S", help="of the simulation: 0.5 up to two hours, else 1")
    add("--seed", type=int, default=1, help="of chance")
    add("--svg", metavar="FILE", help="write a picture")
    add("--html", metavar="FILE", help="write a page: all strategies side by side")


def _amount(said: str) -> float:
    value = float(said)
    if not 0 <= value < math.inf:
        raise argparse.ArgumentTypeError(f"{said} is no amount")
    return value


def run(options: argparse.Namespace) -> int:
    trace = _trace(options)
    model = Model(
        capacity=options.capacity,
        utilization=options.utilization,
        start=options.start,
        queue=options.queue,
    )
    step = options.step or (0.5 if trace.seconds <= 7200 else 1.0)
    runs = {name: _played(name, trace, model, step, options) for name in _names(options.policy)}
    if options.svg:
        Path(options.svg).write_text(svg(trace.name, runs), encoding="utf-8")
    if options.html:
        Path(options.html).write_text(page(trace.name, runs), encoding="utf-8")
    if getattr(options, "json", False):
        print_json({"schema": "seawall.simulation/1", **_told(trace, runs)})
        return 0
    paint = Paint(coloured(options, sys.stdout))
    print(paint(f"{trace.name}, {duration(trace.seconds)}", GREY))
    print(table(HEADINGS, [_row(name, each) for name, each in runs.items()], paint))
    return 0


def _trace(options: argparse.Namespace) -> Trace:
    if options.trace is None:
        length = 1200.0 if options.seconds is None else options.seconds
        return SHAPES[options.shape](options.base, options.factor, length)
    path = Path(options.trace)
    try:
        if path.stat().st_size > MOST_BYTES:
            raise Failure(f"{path} is too large for a trace", fix="a part of it", status=USAGE)
        trace = parse(path.name, path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as exc:
        raise Failure(f"{path} cannot be read", why=str(exc), status=USAGE) from exc
    if options.begin or options.seconds is not None:
        rest = trace.seconds - options.begin
        trace = trace.part(options.begin, min(rest, options.seconds or rest))
    return trace.scaled(options.scale)


def _names(said: str) -> list[str]:
    names = [*PILOTS] if said == "all" else [name.strip() for name in said.split(",")]
    for name in names:
        if name not in PILOTS and name != "fixed":
            raise Failure(
                f"there is no strategy {name!r}",
                fix=f"some of {', '.join((*PILOTS, 'fixed'))}, with commas",
                status=USAGE,
            )
    return names


def _played(name: str, trace: Trace, model: Model, step: float, options: argparse.Namespace) -> Run:
    """Each begins with the same chance, so that they meet the same load."""
    most = max(1, model.needed(max(trace.rates)))
    if name == "fixed":
        return play(trace, model, FixedPilot(most), Random(options.seed), step, begin=most)
    pilot = PILOTS[name](model, options.minimum)
    return play(trace, model, pilot, Random(options.seed), step)


def _row(name: str, each: Run) -> list[str]:
    score = each.score
    return [
        name,
        f"{score.hours:.1f}",
        f"{score.under_time:.2%}",
        f"{score.over_share:.1%}",
        f"{score.shed:.3%}",
        f"{score.violations:.3%}",
        f"{score.p99:.2f} s",
        duration(score.longest_under),
        str(score.peak),
        f"{score.changes:.1f}",
        f"{score.reversals:.1f}",
        sparkline(each.ready),
    ]


def _told(trace: Trace, runs: Mapping[str, Run]) -> dict[str, object]:
    scores = {
        name: {
            key: round(value, 6) if isinstance(value, float) else value
            for key, value in asdict(each.score).items()
        }
        for name, each in runs.items()
    }
    return {"trace": trace.name, "seconds": trace.seconds, "runs": scores}
