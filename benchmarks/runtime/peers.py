"""Who is measured beside: how each is started, which of its processes answer, how it reloads."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import psutil

from benchmarks.runtime.asking import until_answered
from tests.support.servers import free_port

REPOSITORY = Path(__file__).parents[2]
PROGRAMS = REPOSITORY / "benchmarks" / "peers" / "runtime"
NODE = REPOSITORY / "build" / "bench" / "node-runtime"  # made by scripts/bench
PM2 = NODE / "node_modules" / "pm2"

CHANGED_WITHIN = 30.0  # seconds, of a reload
STOPPED_WITHIN = 10.0

_APP = "benchmarks.peers.runtime.hello:app"


@dataclass(frozen=True, slots=True)
class Peer:
    """A supervisor of `workers` processes that answer on `port`."""

    port: int
    workers: Callable[[], set[int]]
    reload: Callable[[], None]  # returns when all workers are others


def _signalled(pid: int, port: int, shown: str) -> Peer:
    """One that reloads at SIGHUP; `shown` is in a worker's command line."""

    def workers() -> set[int]:
        found = set()
        for child in psutil.Process(pid).children():
            try:
                is_worker = shown in " ".join(child.cmdline())
                if is_worker and child.status() != psutil.STATUS_ZOMBIE:
                    found.add(child.pid)
            except psutil.NoSuchProcess:
                continue
        return found

    def reload() -> None:
        before = workers()
        os.kill(pid, signal.SIGHUP)
        _until(lambda: len(workers() - before) >= len(before) and not workers() & before)

    return Peer(port, workers, reload)


def _until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + CHANGED_WITHIN
    while not true():
        if time.monotonic() > deadline:
            raise RuntimeError(f"no reload within {CHANGED_WITHIN:g} s")
        time.sleep(0.02)


@contextmanager
def _started(
    command: list[str], folder: Path, port: int, env: Mapping[str, str] | None = None
) -> Iterator[int]:
    folder.mkdir()
    with (folder / "peer.out").open("wb") as out:
        process = subprocess.Popen(
            command,
            cwd=REPOSITORY,
            env={**os.environ, "PYTHONWARNINGS": "ignore", **(env or {})},
            stdout=out,
            stderr=out,
        )
    try:
        until_answered(port, time.perf_counter())
        yield process.pid
    finally:
        below = psutil.Process(process.pid).children(recursive=True)
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(STOPPED_WITHIN)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        for child in below:
            try:
                child.kill()
            except psutil.NoSuchProcess:
                continue


@contextmanager
def _gunicorn(folder: Path, workers: int) -> Iterator[Peer]:
    port = free_port()
    command = [sys.executable, "-m", "gunicorn", "-w", str(workers), "-b", f"127.0.0.1:{port}"]
    command += ["-k", "uvicorn.workers.UvicornWorker", "--log-level", "error", _APP]
    with _started(command, folder, port) as pid:
        yield _signalled(pid, port, "gunicorn")


@contextmanager
def _uvicorn(folder: Path, workers: int) -> Iterator[Peer]:
    port = free_port()
    # It supervises nothing where there is only one.
    command = [sys.executable, "-m", "uvicorn", "--workers", str(max(2, workers))]
    command += ["--port", str(port), "--no-access-log", "--log-level", "error", _APP]
    with _started(command, folder, port) as pid:
        yield _signalled(pid, port, "multiprocessing.spawn")


@contextmanager
def _cluster(folder: Path, workers: int) -> Iterator[Peer]:
    port = free_port()
    env = {"PORT": str(port), "WORKERS": str(workers)}
    with _started(["node", str(PROGRAMS / "cluster.js")], folder, port, env) as pid:
        yield _signalled(pid, port, "hello.js")


@contextmanager
def _pm2(folder: Path, workers: int) -> Iterator[Peer]:
    port = free_port()
    folder.mkdir()
    env = {**os.environ, "PM2_HOME": str(folder / "pm2"), "PORT": str(port)}

    def pm2(*arguments: str) -> str:
        command = ["node", str(PM2 / "bin" / "pm2"), *arguments]
        done = subprocess.run(
            command, cwd=folder, env=env, check=True, capture_output=True, text=True, timeout=60
        )
        return done.stdout

    def running() -> set[int]:
        # Of a process that is on its way out `pm2 pid` says 0.
        return {int(line) for line in pm2("pid", "hello").split() if line != "0"}

    def reload() -> None:
        pm2("reload", "hello")

    pm2("start", str(PROGRAMS / "hello.js"), "-i", str(workers), "--name", "hello", "--wait-ready")
    try:
        until_answered(port, time.perf_counter())
        yield Peer(port, running, reload)
    finally:
        pm2("kill")


PEERS: Mapping[str, Callable[[Path, int], AbstractContextManager[Peer]]] = {
    "pm2": _pm2,
    "node-cluster": _cluster,
    "gunicorn": _gunicorn,
    "uvicorn": _uvicorn,
}


def lacking() -> dict[str, str]:
    """Peers that cannot be measured here, and why."""
    missing: dict[str, str] = {}
    if find_spec("gunicorn") is None:
        missing["gunicorn"] = "it is not installed: make bench-runtime does"
    if shutil.which("node") is None:
        missing |= dict.fromkeys(("pm2", "node-cluster"), "there is no Node.js")
    elif not PM2.is_dir():
        missing["pm2"] = "npm could not install it"
    return missing


def used() -> dict[str, str]:
    """Versions of the peers that are not Python packages."""
    found = {}
    if PM2.is_dir():
        found["pm2"] = str(json.loads((PM2 / "package.json").read_text())["version"])
    if shutil.which("node") is not None:
        said = subprocess.run(["node", "--version"], check=True, capture_output=True, text=True)
        found["node"] = said.stdout.strip()
    return found
