"""The parts of the benchmark. Each starts what it measures, and returns its rows."""

import json
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

from benchmarks.gateway.closed import CONNECTIONS, Figures, Load, interleaved, measure, medians
from benchmarks.gateway.crowd import keeping_quiet
from benchmarks.gateway.process import LOAD_CORE, Process
from benchmarks.gateway.subjects import OURS, Ground
from benchmarks.report import Row
from seawall.identity.signing import SigningKey
from seawall.identity.tokens import TokenIssuer

PLAIN = Load(name="plain", varied=False)
VARIED = Load(name="varied")
LOADS = (PLAIN, VARIED, Load(name="varied-both", answers_vary=True))

# Enough that no user asks twice in a row, and fewer than a gateway remembers (10,000).
USERS = 100


@dataclass(frozen=True, slots=True)
class Run:
    """What was asked for: for how long, and of whom."""

    ground: Ground
    seconds: int
    rounds: int
    subjects: Sequence[str]
    idle: int  # connections

    @property
    def ours(self) -> str:
        """The build of ours that the smaller parts measure."""
        return next((name for name in OURS if name in self.subjects), OURS[-1])


Part = Callable[[Run], list[Row]]


def main_table(run: Run) -> list[Row]:
    """Everybody, under each load."""
    rows: list[Row] = []
    with ExitStack() as stack:
        started = {name: stack.enter_context(run.ground.subject(name)) for name in run.subjects}
        for load in LOADS:
            rows += _compared(run, started, load)
    return rows


def few_connections(run: Run) -> list[Row]:
    """At 8 connections: httpx2's pool costs more the more there are, which 64 make look worse."""
    wanted = [name for name in ("nginx", run.ours, "fastapi-httpx2") if name in run.subjects]
    with ExitStack() as stack:
        started = {name: stack.enter_context(run.ground.subject(name)) for name in wanted}
        return _compared(run, started, Load(name="plain-8", varied=False, connections=8))


def _compared(run: Run, started: Mapping[str, Process], load: Load) -> list[Row]:
    turns = {name: (process, load) for name, process in started.items()}
    taken = interleaved(turns, run.seconds, run.rounds)
    rows: list[Row] = []
    for name, figures in taken.items():
        ratios: Figures = {}
        for peer in ("nginx", "envoy"):
            if peer in taken:
                ratios |= _of(figures, taken[peer], peer)
        rows.append(_row(name, load.name, load.connections, figures | ratios))
    return rows


def _row(subject: str, load: str, connections: int, figures: Figures) -> Row:
    return {"subject": subject, "load": load, "connections": connections, **figures}


def _of(figures: Figures, other: Figures, name: str) -> Figures:
    """By requests, and by CPU: what the first would be on a machine that nobody else uses."""
    return {
        f"of_{name}": figures["requests_per_s"] / other["requests_per_s"],
        f"cpu_of_{name}": other["cpu_us"] / figures["cpu_us"],
    }


def tokens(run: Run) -> list[Row]:
    """With a JWT (ES256) checked on each request, cached by token, beside the same without."""
    key, words = run.ground.folder / "key.json", run.ground.folder / "tokens"
    issuer = TokenIssuer(
        SigningKey.load_or_create(key), issuer="https://users", audience="shop", lifetime=3600
    )
    now = time.time()
    words.write_text("".join(issuer.issue(f"user-{n}", now) + "\n" for n in range(USERS)))
    with (
        run.ground.subject(run.ours) as without,
        run.ground.subject(run.ours, "--key", str(key)) as checked,
    ):
        return _beside(
            run,
            {
                "without-token": (without, VARIED),
                "with-token": (checked, Load(name="with-token", tokens=words)),
            },
        )


def routes(run: Run) -> list[Row]:
    """Ten thousand routes beside ten, all of them asked for."""
    with (
        run.ground.subject(run.ours, "--routes", "10") as few,
        run.ground.subject(run.ours, "--routes", "10000") as many,
    ):
        return _beside(
            run,
            {
                "routes-10": (few, Load(name="routes-10", routes=10)),
                "routes-10000": (many, Load(name="routes-10000", routes=10_000)),
            },
        )


def _beside(run: Run, turns: Mapping[str, tuple[Process, Load]]) -> list[Row]:
    """Rows of ours; `of_first` compares with the first of them."""
    taken = interleaved(turns, run.seconds, run.rounds)
    first = next(iter(taken.values()))
    return [
        _row(run.ours, label, CONNECTIONS, figures | _of(figures, first, "first"))
        for label, figures in taken.items()
    ]


def half(run: Run) -> list[Row]:
    """The tail where it matters: nginx and ours at the same rate, half of what ours can do."""
    with run.ground.subject("nginx") as nginx, run.ground.subject(run.ours) as ours:
        rate = measure(ours, VARIED, run.seconds)["requests_per_s"] / 2
        taken: dict[str, list[Figures]] = {"nginx": [], run.ours: []}
        for _ in range(run.rounds):
            for name, process in (("nginx", nginx), (run.ours, ours)):
                taken[name].append(_paced(process, rate, run.seconds))
    found = {name: medians(figures) for name, figures in taken.items()}
    for figures in found.values():
        figures["p99_of_nginx"] = figures["p99_ms"] / found["nginx"]["p99_ms"]
    return [_row(name, "half", CONNECTIONS, figures) for name, figures in found.items()]


def _paced(process: Process, rate: float, seconds: int) -> Figures:
    before = process.cpu()
    pace = [sys.executable, "-m", "benchmarks.gateway.paced"]
    out = subprocess.run(
        ["taskset", "-c", LOAD_CORE, *pace, str(process.port), str(rate), str(seconds)],
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    ).stdout
    cpu = process.cpu() - before
    said: Figures = json.loads(out)
    requests = said.pop("requests")
    return {
        "requests_per_s": requests / seconds,
        "cpu_us": cpu / max(requests, 1) * 1e6,
        "rss_mb": process.rss() / 1e6,
        **said,
    }


def idle(run: Run) -> list[Row]:
    """Memory of a worker that has served, without and with many clients that keep quiet."""
    with run.ground.subject(run.ours) as process:
        measure(process, VARIED, run.seconds)
        before = process.rss()
        with keeping_quiet(process.port, run.idle):
            during = process.rss()
            measure(process, VARIED, run.seconds)
            served = process.rss()
    crowd = {
        "rss_mb": during / 1e6,
        "kb_each": (during - before) / run.idle / 1e3,
        "rss_served_mb": served / 1e6,
    }
    return [
        _row(run.ours, "idle-0", 0, {"rss_mb": before / 1e6}),
        _row(run.ours, f"idle-{run.idle}", run.idle, crowd),
    ]


_COMPARED = ("requests_per_s", "cpu_us", "p50_ms", "p99_ms", "rss_mb")
_RATIOS = ("of_nginx", "cpu_of_nginx", "of_envoy", "cpu_of_envoy", "errors")
_OF_NGINX = ("of_nginx", "cpu_of_nginx", "errors")
_FIRST = ("of_first", "cpu_of_first", "errors")


@dataclass(frozen=True, slots=True)
class Section:
    """A part with its title and the columns that it has beside subject and load."""

    title: str
    measure: Part
    columns: Sequence[str]


SECTIONS: Mapping[str, Section] = {
    "table": Section("all, one worker each", main_table, (*_COMPARED, *_RATIOS)),
    "few": Section("8 connections", few_connections, (*_COMPARED, *_OF_NGINX)),
    "tokens": Section("JWT, cached by token", tokens, (*_COMPARED, *_FIRST)),
    "routes": Section("10 and 10,000 routes", routes, (*_COMPARED, *_FIRST)),
    "half": Section(
        "at half of ours' saturation, in an open loop",
        half,
        (*_COMPARED, "p99_of_nginx", "lag_ms", "errors"),
    ),
    "idle": Section("idle connections", idle, ("rss_mb", "kb_each", "rss_served_mb")),
}
