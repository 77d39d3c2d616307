"""What mTLS costs between two services: requests per second with and without, in one run.

A `Service` on one core, and on another the pool that clients use, which keeps its connections;
both show certificates, or none do. `handshakes` opens a connection for each request. Short rounds
by turns; the figures are medians. On a machine that is busy with others the CPU of a request says
more than the rate: `cpu_of_plain` is that of both sides.

`make bench-identity ARGS=--quick`.
"""

import argparse
import asyncio
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from statistics import median

import psutil
import uvloop

from benchmarks.report import Row, machine, table, versions, write
from seawall.errors import SeawallError
from seawall.identity.authority import Authority
from seawall.identity.credentials import POLICY, Credentials, Policy
from seawall.identity.workload import WorkloadId
from seawall.topology import Address
from seawall.transport.http1 import request_head
from seawall.transport.pool import Pool, PoolConfig
from seawall.transport.tls import Secured

ROUNDS = 30
SECONDS = 0.5
WARM = 0.3  # seconds of each load that do not count
CONNECTIONS = 32
CALLER, CALLEE = WorkloadId("bench", "orders"), WorkloadId("bench", "inventory")

APP = """
from seawall import Service
from starlette.responses import Response

service = Service("inventory", compress=False)
LARGE = b"x" * 16384

@service.get("/stock")
async def stock() -> dict[str, int]:
    return {"tea": 7}

@service.get("/catalog")
async def catalog() -> Response:
    return Response(LARGE)
"""

SERVE = 'import sys\nfrom seawall.service.serve import serve\nsys.exit(serve("apps:service"))'


@dataclass(frozen=True, slots=True)
class Load:
    name: str
    path: str
    kept: bool = True


LOADS = (
    Load("small answer", "/stock"),
    Load("16 KiB answer", "/catalog"),
    Load("handshakes", "/stock", kept=False),
)


def _certificates(folder: Path) -> None:
    now = datetime.now(UTC)
    authority = Authority.generate(now)
    for who in (CALLER, CALLEE):
        policy = Policy(frozenset({CALLER}))
        authority.issue(who, now).write(folder / who.service, also={POLICY: policy.to_json()})


@dataclass(frozen=True, slots=True)
class Subject:
    """A callee that runs, and how it is called."""

    address: Address
    callee: psutil.Process
    tls: Secured | None


@contextmanager
def _server(folder: Path, subject: str) -> Iterator[tuple[Address, psutil.Process]]:
    listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
    env = {
        **os.environ,
        "PYTHONPATH": str(folder),
        "SEAWALL_LISTEN_FD": str(listener.fileno()),
        "SEAWALL_PROPAGATION_SECONDS": "0",
        "LOG_LEVEL": "error",
    }
    if subject == "mtls":
        env["SEAWALL_TLS"] = str(folder / CALLEE.service)
    process = subprocess.Popen(
        ["taskset", "-c", "0", sys.executable, "-c", SERVE],
        cwd=folder,
        env=env,
        pass_fds=[listener.fileno()],
    )
    address = Address(*listener.getsockname()[:2])
    listener.close()
    try:
        yield address, psutil.Process(process.pid)
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(20)


class _Asking:
    """CONNECTIONS callers, each asking again when it was answered."""

    def __init__(self, address: Address, tls: Secured | None, load: Load) -> None:
        self._head = request_head("GET", load.path, "inventory", [("accept", "*/*")], None)
        self._address = address
        self._tls = tls
        self._load = load
        self._kept = self._pool()

    def _pool(self) -> Pool:
        config = PoolConfig(limit=CONNECTIONS, connect_timeout=20.0)
        return Pool(self._address, config, tls=self._tls)

    async def over(self, seconds: float) -> int:
        """How many requests were answered in that time."""
        until = time.monotonic() + seconds
        return sum(await asyncio.gather(*(self._ask(until) for _ in range(CONNECTIONS))))

    async def _ask(self, until: float) -> int:
        answered = 0
        while time.monotonic() < until:
            pool = self._kept if self._load.kept else self._pool()
            answer = await pool.exchange(self._head, b"", within=20.0, method="GET")
            if answer.status != 200:
                raise RuntimeError(f"status {answer.status}")
            answered += 1
            if pool is not self._kept:
                pool.close()
        return answered

    def close(self) -> None:
        self._kept.close()


async def _slice(
    asking: _Asking, callee: psutil.Process, seconds: float
) -> tuple[float, float, float]:
    """Requests a second, and the CPU of callee and caller for each, in µs."""
    before, ours, began = callee.cpu_times(), time.process_time(), time.monotonic()
    answered = await asking.over(seconds)
    took, mine, after = time.monotonic() - began, time.process_time() - ours, callee.cpu_times()
    theirs = after.user + after.system - before.user - before.system
    return answered / took, theirs / answered * 1e6, mine / answered * 1e6


async def _compared(
    load: Load, subjects: Mapping[str, Subject], rounds: int, seconds: float
) -> list[Row]:
    """By turns, so that what else the machine does is the same for all."""
    runs: dict[str, list[tuple[float, float, float]]] = {name: [] for name in subjects}
    asking = {name: _Asking(one.address, one.tls, load) for name, one in subjects.items()}
    for one in asking.values():
        await one.over(WARM)  # the callee has started, and connections are open
    for _ in range(rounds):
        for name, one in asking.items():
            runs[name].append(await _slice(one, subjects[name].callee, seconds))
    for one in asking.values():
        one.close()
    rows: list[Row] = []
    plain = [median(column) for column in zip(*runs["plain"], strict=True)]
    for name, slices in runs.items():
        rate, theirs, ours = (median(column) for column in zip(*slices, strict=True))
        ratios = [r / p for (r, _, _), (p, _, _) in zip(slices, runs["plain"], strict=True)]
        rows.append(
            {
                "subject": name,
                "load": load.name,
                "requests_per_s": rate,
                "of_plain": median(ratios),
                "callee_cpu_us": theirs,
                "caller_cpu_us": ours,
                "cpu_of_plain": (theirs + ours) / (plain[1] + plain[2]),
            }
        )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description="mTLS between two services")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--quick", action="store_true", help="few rounds, and short ones")
    options = parser.parse_args()
    rounds, seconds = (10, 0.3) if options.quick else (options.rounds, SECONDS)
    os.sched_setaffinity(0, {1})
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        folder = Path(name)
        (folder / "apps.py").write_text(APP)
        _certificates(folder)
        caller = Credentials(folder / CALLER.service)
        subjects = {
            "plain": Subject(*stack.enter_context(_server(folder, "plain")), None),
            "mtls": Subject(
                *stack.enter_context(_server(folder, "mtls")), caller.towards(CALLEE.service)
            ),
        }
        runner = stack.enter_context(asyncio.Runner(loop_factory=uvloop.new_event_loop))
        for load in LOADS:
            rows += runner.run(_compared(load, subjects, rounds, seconds))
    columns = ["subject", "load", "requests_per_s", "of_plain"]
    columns += ["callee_cpu_us", "caller_cpu_us", "cpu_of_plain"]
    title = f"mTLS, {CONNECTIONS} connections, medians of {rounds} on {machine()['cpu']}"
    print(table(title, columns, rows))
    used = versions(["seawall", "fastapi", "uvicorn", "uvloop", "httptools", "cryptography"])
    print(f"written to {write('identity', rows, used)}")


if __name__ == "__main__":
    try:
        main()
    except SeawallError as failure:
        sys.exit(f"error: {failure}")
