"""The first 200 of a new replica, and of the one that follows a replica that was killed."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence, Set
from pathlib import Path

from benchmarks.report import Row
from benchmarks.runtime.asking import asked, until_answered
from benchmarks.runtime.peers import PEERS
from benchmarks.runtime.project import SERVICE, UNFORKABLE, running
from seawall.load.report import quantile
from tests.support.servers import free_port

# What dies younger than this had failed to start, and waits before it is tried again; and only
# what ran for ten seconds is replaced at once a second time.
OLD_ENOUGH = 5.5  # seconds

# PM2 gives up what dies sixteen times without having lived a second.
_PAUSE = 1.2  # seconds

# Each replica has a port of its own from here on, so that it can be asked before it is ready.
FIRST_PORT = 31000


# Sleeps after a second without requests.
_SLEEPER = """
[[gateway.routes]]
path = "/{name}"
service = "{name}"
[services.{name}]
module = "{name}:service"
replicas = {{ min = 0, max = 1 }}
drain = 1.0
{more}
[[services.{name}.scale]]
metric = "requests"
target = 1000
window = 1.0
"""

MOST_SLEEPERS = 50

# Between two looks at who sleeps: each takes the supervisor some milliseconds.
_DROWSE = 0.3  # seconds


def declared(replicas: int, gateway: int | None = None, more: str = "") -> str:
    """A project of one service, whose replicas listen on FIRST_PORT and those that follow, and
    of a gateway on that port."""
    return f"""
[gateway]
port = {gateway or 0}
replicas = {0 if gateway is None else 1}
[[gateway.routes]]
path = "/"
service = "hello"
[services.hello]
module = "hello:service"
port = {FIRST_PORT}
replicas = {replicas}
drain = 1.0
{more}
"""


def figures(subject: str, load: str, seconds: Sequence[float]) -> Row:
    taken = sorted(seconds)
    return {
        "subject": subject,
        "load": load,
        "samples": len(taken),
        "p50_ms": quantile(taken, 0.5) * 1e3,
        "p99_ms": quantile(taken, 0.99) * 1e3,
        "max_ms": taken[-1] * 1e3,
    }


def starts(folder: Path, samples: int) -> list[Row]:
    """From `scale +1` to the first 200 of the replica that came.

    What cannot be forked once it is imported is imported by each replica, in a fork of the
    parent that has the libraries; uvicorn alone imports those too.
    """
    standby = _scaled_out(folder / "standby", samples, more="standbys = 1")
    few = max(3, samples // 3)
    unforkable = _scaled_out(folder / "unforkable", few, UNFORKABLE)
    return [
        figures("seawall (zygote)", "first 200", _scaled_out(folder / "zygote", samples)),
        figures("seawall (standby)", "first 200", standby),
        figures("seawall (unforkable)", "first 200", unforkable),
        figures("uvicorn (a process)", "first 200", _alone(few)),
    ]


def _scaled_out(folder: Path, samples: int, module: str = SERVICE, more: str = "") -> list[float]:
    taken = []
    with running(folder, declared(1, more=more), module) as project:
        project.until_ready("hello", 1)
        for _ in range(samples):
            project.until_waiting("hello", 1 if more else 0)
            began = time.perf_counter()
            asking = threading.Thread(target=project.scale, args=("hello", 2))
            asking.start()
            taken.append(until_answered(FIRST_PORT + 1, began))
            asking.join()
            project.until_ready("hello", 2)
            project.scale("hello", 1)
    return taken


def _alone(samples: int) -> list[float]:
    """A process of its own, as `uvicorn hello:app` starts it."""
    taken = []
    for _ in range(samples):
        port = free_port()
        command = [sys.executable, "-m", "uvicorn", "--port", str(port), "--log-level", "error"]
        began = time.perf_counter()
        process = subprocess.Popen([*command, "benchmarks.peers.runtime.hello:app"])
        try:
            taken.append(until_answered(port, began))
        finally:
            process.terminate()
            process.wait(10)
    return taken


def crashes(folder: Path, samples: int, peers: Sequence[str]) -> list[Row]:
    """From `kill -9` of the only process that answers on a port to the first 200 of another."""
    rows = [figures("seawall", "kill -9", _killed(folder / "killed", samples))]
    rows += [figures(name, "kill -9", _killed_peer(folder / name, name, samples)) for name in peers]
    return rows


def wakes(folder: Path, samples: int) -> list[Row]:
    """From a request to a service of which nothing runs to its answer, through the gateway.

    Of many wakes each service takes its part: one that was woken sleeps again after some seconds.
    """
    return [
        _wakes("seawall (zygote)", folder / "wake-zygote", samples),
        _wakes("seawall (standby)", folder / "wake-standby", samples, "standbys = 1"),
    ]


def _wakes(subject: str, folder: Path, samples: int, more: str = "") -> Row:
    taken = _woken(folder, samples, more)
    answered = [seconds for seconds in taken if seconds is not None]
    return {**figures(subject, "wake", answered), "lost": len(taken) - len(answered)}


def _woken(folder: Path, samples: int, more: str) -> list[float | None]:
    """The seconds of each wake, one after the other; None for a request that was lost."""
    gateway, sleepers = free_port(), min(MOST_SLEEPERS, max(1, samples // 10))
    names = [f"hello{number}" for number in range(sleepers)]
    declared = f"[gateway]\nport = {gateway}\n" + "".join(
        _SLEEPER.format(name=name, more=more) for name in names
    )
    modules = {
        name: SERVICE.replace('"hello"', f'"{name}"').replace('"/"', f'"/{name}"') for name in names
    }
    taken: list[float | None] = []
    with running(folder, declared, more=modules) as project:
        while len(taken) < samples:
            time.sleep(_DROWSE)
            asleep = project.asleep()
            for name in [each for each in names if each in asleep][: samples - len(taken)]:
                if more:
                    project.until_waiting(name, 1)
                began = time.perf_counter()
                body = asked(gateway, f"/{name}")
                taken.append(None if body is None else time.perf_counter() - began)
    return taken


def _killed(folder: Path, samples: int) -> list[float]:
    """Each of many replicas once: one that worked for a while is what a crash ends."""
    with running(folder, declared(samples)) as project:
        project.until_ready("hello", samples)
        time.sleep(OLD_ENOUGH)
        pids = [int(row["pid"]) for row in project.instances("hello")]
        return [_killed_at(FIRST_PORT + number, {pid}) for number, pid in enumerate(pids)]


def _killed_peer(folder: Path, name: str, samples: int) -> list[float]:
    with PEERS[name](folder, 1) as peer:
        taken = []
        for _ in range(samples):
            time.sleep(_PAUSE)
            taken.append(_killed_at(peer.port, peer.workers()))
        return taken


def _killed_at(port: int, victims: Set[int]) -> float:
    began = time.perf_counter()
    for victim in victims:
        os.kill(victim, signal.SIGKILL)
    return until_answered(port, began, lambda body: int(body) not in victims)
