"""Load in a closed loop: wrk, whose clients each wait for their answer. It finds saturation."""

import re
import statistics
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from benchmarks.gateway.process import LOAD_CORE, Process
from benchmarks.gateway.subjects import PEERS

CONNECTIONS = 64


@dataclass(frozen=True, kw_only=True, slots=True)
class Load:
    """What wrk sends. A plain load repeats one request, which flatters whoever remembers it."""

    name: str
    varied: bool = True
    answers_vary: bool = False
    connections: int = CONNECTIONS
    routes: int = 1000
    tokens: Path | None = None  # a file of bearer tokens, one a line

    def words(self, port: int) -> list[str]:
        """Arguments of wrk."""
        words = [f"-c{self.connections}"]
        url = f"http://127.0.0.1:{port}/"
        if not self.varied:
            return [*words, url]
        cache = "no-store" if self.answers_vary else "no-cache"
        tokens = [str(self.tokens)] if self.tokens else []
        script = str(PEERS / "varied.lua")
        return [*words, "-s", script, url, "--", str(self.routes), cache, *tokens]


Figures = dict[str, float]


def interleaved(
    subjects: Mapping[str, tuple[Process, Load]], seconds: int, rounds: int
) -> dict[str, Figures]:
    """Medians by label. All take turns, so that a machine that slows down does so for all."""
    taken: dict[str, list[Figures]] = {label: [] for label in subjects}
    for _ in range(rounds):
        for label, (process, load) in subjects.items():
            taken[label].append(measure(process, load, seconds))
    return {label: medians(figures) for label, figures in taken.items()}


def medians(figures: list[Figures]) -> Figures:
    return {key: statistics.median(one[key] for one in figures) for key in figures[0]}


def measure(process: Process, load: Load, seconds: int) -> Figures:
    before = process.cpu()
    wrk = ["taskset", "-c", LOAD_CORE, "wrk", "-t1", f"-d{seconds}s", "--latency"]
    out = subprocess.run(
        [*wrk, *load.words(process.port)], check=True, capture_output=True, text=True
    ).stdout
    cpu = process.cpu() - before
    requests = int(_find(r"(\d+) requests in", out))
    return {
        "requests_per_s": float(_find(r"Requests/sec:\s+([\d.]+)", out)),
        "cpu_us": cpu / max(requests, 1) * 1e6,
        "p50_ms": _milliseconds(_find(r"^ +50% +(\S+)", out)),
        "p99_ms": _milliseconds(_find(r"^ +99% +(\S+)", out)),
        "rss_mb": process.rss() / 1e6,
        "errors": _errors(out),
    }


def _errors(out: str) -> float:
    bad = re.search(r"Non-2xx or 3xx responses: (\d+)", out)
    broken = re.search(r"Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)", out)
    return float((int(bad[1]) if bad else 0) + (sum(map(int, broken.groups())) if broken else 0))


def _find(pattern: str, text: str) -> str:
    found = re.search(pattern, text, re.MULTILINE)
    if found is None:
        raise RuntimeError(f"wrk said something else:\n{text}")
    return found[1]


def _milliseconds(text: str) -> float:
    number, unit = float(text.rstrip("mus")), text.lstrip("0123456789.")
    return number * {"us": 0.001, "ms": 1.0, "s": 1000.0}[unit]
