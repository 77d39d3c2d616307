"""`seawall scale simulate`: what each strategy of scaling would have cost, and whom failed."""

import argparse
import math
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from importlib import import_module
from pathlib import Path
from random import Random
from types import ModuleType

from seawall.cli.failure import USAGE, Failure
from seawall.cli.screen import GREY, Paint, coloured, duration, print_json, table
from seawall.cli.simulate_cores import Tell, Tick, play_on_all_cores
from seawall.scaling.page import page
from seawall.scaling.picture import sparkline, svg
from seawall.scaling.pilots import PILOTS, FixedPilot
from seawall.scaling.simulate import Model, Pilot, Run, Score, check, play
from seawall.scaling.together import Together
from seawall.scaling.trace import SHAPES, Trace, parse

# A trace is a few bytes a row: a year of minutes, or of a day's minutes of some thousand services.
MOST_BYTES = 256 * 1024 * 1024

WORST_SHOWN = 5  # services below a chart

# What a step and a look cost, about: who takes longest begins first.
STEP_COSTS, LOOK_COSTS = 1.5e-6, 1.2e-5  # seconds

HEADINGS = (
    *("STRATEGY", "HOURS", "SHORT", "EXTRA", "SHED", "LATE", "P99", "LONGEST", "PEAK"),
    *("CHANGES/H", "TURNS/H", "REPLICAS"),
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    load = parser.add_mutually_exclusive_group()
    load.add_argument(
        "--trace",
        action="append",
        metavar="FILE",
        help="CSV: second or minute, count; a folder of them, or several, are so many services",
    )
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
    traces = _traces(options)
    model = Model(
        capacity=options.capacity,
        utilization=options.utilization,
        start=options.start,
        queue=options.queue,
    )
    longest = max(trace.seconds for trace in traces.values())
    step = options.step or (0.5 if longest <= 7200 else 1.0)
    names = _names(options.policy)
    if len(traces) == 1:
        (trace,) = traces.values()
        title, found = trace.name, dict[str, Together]()
        runs = _played(trace, names, model, step, options)
    else:
        title = f"{len(traces):,} services"
        found = _played_together(traces, names, model, step, options)
        runs = {name: each.run(traces) for name, each in found.items()}
    _draw(title, runs, found, options)
    if getattr(options, "json", False):
        print_json(_told_of_many(traces, runs, found) if found else _told(title, longest, runs))
        return 0
    paint = Paint(coloured(options, sys.stdout))
    print(paint(f"{title}, {duration(longest)}", GREY))
    headings = (*HEADINGS, "SHORT MOST") if found else HEADINGS
    rows = [[*_row(name, each), *_worst(found.get(name))] for name, each in runs.items()]
    print(table(headings, rows, paint))
    if not found and all(each.score.peak <= 1 for each in runs.values()):
        hint = "one replica did it all: --scale multiplies the load, --capacity is what one bears"
        print(paint(f"\n{hint}", GREY))
    return 0


def _draw(
    title: str, runs: Mapping[str, Run], found: Mapping[str, Together], options: argparse.Namespace
) -> None:
    if options.svg:
        Path(options.svg).write_text(svg(title, runs), encoding="utf-8")
    if options.html:
        notes = {
            name: "short the most: " + ", ".join(f"{n} {s.under_time:.2%}" for n, s in worst)
            for name, each in found.items()
            if (worst := each.worst(WORST_SHOWN))
        }
        Path(options.html).write_text(page(title, runs, notes), encoding="utf-8")


def _traces(options: argparse.Namespace) -> dict[str, Trace]:
    """By the name of the service: that of its file."""
    if options.trace is None:
        length = 1200.0 if options.seconds is None else options.seconds
        trace = SHAPES[options.shape](options.base, options.factor, length)
        return {trace.name: trace}
    paths = [path for said in options.trace for path in _files(Path(said))]
    stems = [path.stem for path in paths]
    is_unique = len(set(stems)) == len(stems)
    size, traces = 0, dict[str, Trace]()
    for path in paths:
        try:
            size += path.stat().st_size
            if size > MOST_BYTES:
                raise Failure(f"{path} is too large for a trace", fix="a part of it", status=USAGE)
            trace = parse(path.name, path.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError) as exc:
            raise Failure(f"{path} cannot be read", why=str(exc), status=USAGE) from exc
        traces[path.stem if is_unique else str(path)] = _part(trace, options)
    return traces


def _files(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    files = sorted(path.glob("*.csv"))
    if not files:
        raise Failure(f"{path} has no trace in it", fix="files *.csv", status=USAGE)
    return files


def _part(trace: Trace, options: argparse.Namespace) -> Trace:
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


@dataclass(frozen=True, slots=True)
class Alone:
    """One service under one strategy."""

    strategy: str
    trace: Trace
    model: Model
    minimum: int
    seed: int
    step: float

    @property
    def steps(self) -> int:
        return int(self.trace.seconds / self.step)

    @property
    def costs(self) -> float:
        return self.steps * STEP_COSTS + self.trace.seconds / self._pilot().every * LOOK_COSTS

    def play(self, tick: Tick) -> Run:
        """Each begins with the same chance, so that they meet the same load."""
        most = self._most() if self.strategy == "fixed" else 0
        pilot, chance = self._pilot(), Random(self.seed)
        return play(self.trace, self.model, pilot, chance, self.step, most, tick)

    def _pilot(self) -> Pilot:
        if self.strategy == "fixed":
            return FixedPilot(self._most())
        return PILOTS[self.strategy](self.model, self.minimum)

    def _most(self) -> int:
        return max(1, self.model.needed(max(self.trace.rates)))


def _played(
    trace: Trace, names: Sequence[str], model: Model, step: float, options: argparse.Namespace
) -> dict[str, Run]:
    check(trace, model, step)
    parts = [Alone(name, trace, model, options.minimum, options.seed, step) for name in names]
    with _progress(f"of {trace.name}") as tell:
        return dict(zip(names, play_on_all_cores(parts, tell), strict=True))


def _played_together(
    traces: Mapping[str, Trace],
    names: Sequence[str],
    model: Model,
    step: float,
    options: argparse.Namespace,
) -> dict[str, Together]:
    with _progress(f"of {len(traces):,} services") as tell:
        found: dict[str, Together] = _arrays().play_all(
            *(traces, names, model),
            minimum=options.minimum,
            seed=options.seed,
            step=step,
            tell=tell,
        )
        return found


@contextmanager
def _progress(what: str) -> Iterator[Tell]:
    """A line that a terminal shows meanwhile, and then no more."""
    is_shown = sys.stderr.isatty()

    def tell(share: float) -> None:
        if is_shown:
            print(f"\r{share:4.0%} {what}", end="", file=sys.stderr, flush=True)

    try:
        yield tell
    finally:
        if is_shown:
            print("\r\x1b[K", end="", file=sys.stderr)


def _arrays() -> ModuleType:
    try:
        return import_module("seawall.cli.simulate_many")
    except ModuleNotFoundError as exc:
        if (exc.name or "").partition(".")[0] != "numpy":
            raise
        raise Failure(
            "several services cannot be simulated at once",
            why="they are played in arrays, and NumPy is not installed",
            fix="pip install 'seawall[simulate]', or one --trace at a time",
            status=USAGE,
        ) from exc


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


def _worst(each: Together | None) -> Iterator[str]:
    if each is not None:
        shown = (f"{name} {score.under_time:.2%}" for name, score in each.worst(1))
        yield next(shown, "-")


def _told(name: str, seconds: float, runs: Mapping[str, Run]) -> dict[str, object]:
    return {
        "schema": "seawall.simulation/1",
        "trace": name,
        "seconds": seconds,
        "runs": {name: _figures(each.score) for name, each in runs.items()},
    }


def _told_of_many(
    traces: Mapping[str, Trace], runs: Mapping[str, Run], found: Mapping[str, Together]
) -> dict[str, object]:
    return {
        "schema": "seawall.simulations/1",
        "runs": {name: _figures(each.score) for name, each in runs.items()},
        "services": {
            service: {
                "seconds": trace.seconds,
                "runs": {name: _figures(each.scores[service]) for name, each in found.items()},
            }
            for service, trace in traces.items()
        },
    }


def _figures(score: Score) -> dict[str, float | int]:
    return {
        key: round(value, 6) if isinstance(value, float) else value
        for key, value in asdict(score).items()
    }
