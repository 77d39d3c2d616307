"""What a request costs on its way through the gateway, without the kernel and the event loop.

    python -m benchmarks.gateway.path               both builds
    python -m benchmarks.gateway.path --counted     instructions only

Connections are driven in this process, over transports that only remember what was written. With
valgrind a request's instructions are counted: unlike times, they are the same on a busy machine.
What callgrind wrote is kept in build/bench, for `callgrind_annotate`.
"""

import argparse
import asyncio
import gc
import os
import re
import shutil
import subprocess
import sys
import time
from itertools import count
from pathlib import Path
from random import Random
from typing import cast

from benchmarks.gateway.process import REPOSITORY
from benchmarks.gateway.subjects import OURS
from benchmarks.peers.seawall_gateway import configuration, instances
from benchmarks.report import Row, table
from hatch_build import compiled
from seawall.clock import SYSTEM, Clock, SystemClock
from seawall.concurrency.tasks import Tasks
from seawall.gateway.connection import Downstream
from seawall.gateway.gateway import Gateway, Known, Static
from seawall.gateway.upstream import Dialer, Upstream

CLIENTS = 8
CONNECTIONS = 4  # to each instance
ROUTES = 1000
COUNTED = 2000  # requests under valgrind, which makes each some fifty times slower
TIMED = 20_000  # in one round; of several the quickest counts
ROUNDS = 7

BODY = b'{"id":12345,"name":"A thing that is sold here","price":1999,"tags":["one","two"]}'.ljust(
    205
)
ANSWER = (
    b"HTTP/1.1 200 OK\r\nServer: nginx/1.22.1\r\nDate: Wed, 25 Nov 2026 22:00:00 GMT\r\n"
    b"Content-Type: application/json\r\nContent-Length: %d\r\nConnection: keep-alive\r\n\r\n%b"
) % (len(BODY), BODY)


def request(number: int) -> bytes:
    """As the benchmark's varied load asks: a path and a field of its own, nine fields."""
    return (
        f"GET /api/v1/r{number % ROUTES}/items/{number} HTTP/1.1\r\nHost: shop.example:8080\r\n"
        "User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 Chrome/120.0\r\n"
        "Accept: application/json\r\nAccept-Language: en-US,en;q=0.9\r\n"
        "Accept-Encoding: gzip, deflate, br\r\nReferer: https://shop.example/items\r\n"
        "Cookie: session=abcdef0123456789; theme=dark\r\nCache-Control: no-cache\r\n"
        f"X-Unique: {number}\r\n\r\n"
    ).encode()


class Wire:
    """A transport that has taken everything."""

    __slots__ = ("written",)

    def __init__(self) -> None:
        self.written = b""

    def write(self, data: bytes) -> None:
        self.written = data

    def get_write_buffer_size(self) -> int:
        return 0

    def get_extra_info(self, name: str) -> tuple[str, int]:
        return ("127.0.0.1", 1)


class InstanceWire(Wire):
    """The same to an instance; says which connection was written to."""

    __slots__ = ("_asked", "_upstream")

    def __init__(self, upstream: Upstream, asked: list[Upstream]) -> None:
        super().__init__()
        self._upstream = upstream
        self._asked = asked

    def write(self, data: bytes) -> None:
        self.written = data
        self._asked.append(self._upstream)


class Steps(SystemClock):
    """A clock on which a request takes 50 µs whatever it takes: it looks twice. Under valgrind
    each would come in a millisecond of its own, whose text is then made for it alone."""

    now = staticmethod(count(1_000.0, 25e-6).__next__)


class DataPath:
    """A gateway as the benchmark configures it, with connections on both sides."""

    def __init__(self, clock: Clock) -> None:
        things = instances(80)
        self._gateway = Gateway(
            configuration(ROUTES, None),
            Static(),
            clock=clock,
            rng=Random(1),
            log=lambda lines: len(lines),
        )
        self._gateway.clusters.update(Known(tuple(things)), clock.now())
        self._asked: list[Upstream] = []
        self._clients = [self._client() for _ in range(CLIENTS)]
        dialer = Dialer(Tasks(), self._gateway.proxy.wheel, clock)
        for endpoint in self._gateway.clusters.endpoints:
            for _ in range(CONNECTIONS):
                upstream = Upstream(endpoint, dialer)
                wire = InstanceWire(upstream, self._asked)
                endpoint.connections += 1
                upstream.connection_made(cast(asyncio.Transport, wire))
                upstream.release(clock.now())

    def _client(self) -> Downstream:
        client = Downstream(self._gateway.proxy)
        client.connection_made(cast(asyncio.Transport, Wire()))
        return client

    def go(self, requests: list[bytes]) -> None:
        """Let requests through, one after another, from one client after another."""
        clients, asked = self._clients, self._asked
        number = 0
        for data in requests:
            clients[number].data_received(data)
            asked.pop().data_received(ANSWER)
            number = (number + 1) % CLIENTS
        if self._gateway.proxy.metrics.active_requests:
            raise SystemExit("requests are lost on the way")


def timed() -> float:
    """Microseconds of CPU for a request, in the quickest round."""
    path, requests = DataPath(SYSTEM), [request(number) for number in range(TIMED)]
    gc.collect()
    gc.freeze()
    taken = []
    for _ in range(ROUNDS):
        began = time.process_time()
        path.go(requests)
        taken.append(time.process_time() - began)
    return min(taken) / TIMED * 1e6


def counted() -> None:
    """The same under valgrind: nothing is counted but the path, and that it is warm."""
    path, requests = DataPath(Steps()), [request(number) for number in range(COUNTED)]
    gc.collect()
    gc.freeze()
    path.go(requests)
    _instrument("on")
    path.go(requests)
    _instrument("off")


def _instrument(state: str) -> None:
    command = ["vgdb", f"--pid={os.getpid()}", "instrumentation", state]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def _run(build: str, how: str, *before: str) -> str:
    """What this module says when it is run in a build."""
    env = dict(os.environ, PYTHONHASHSEED="0", PYTHONPATH="")
    if build == "seawall-compiled":
        env["PYTHONPATH"] = str(compiled())
    command = [*before, sys.executable, "-m", "benchmarks.gateway.path", "--here", how]
    done = subprocess.run(
        command, cwd=REPOSITORY, env=env, check=True, capture_output=True, text=True
    )
    return done.stdout + done.stderr


def _instructions(build: str, folder: Path) -> int:
    """Of one request, our own and the interpreter's."""
    kept = folder / f"callgrind.{build}"
    callgrind = ["valgrind", "--tool=callgrind", "--instr-atstart=no"]
    said = _run(build, "counted", *callgrind, f"--callgrind-out-file={kept}")
    found = re.search(r"Collected : (\d+)", said)
    if found is None:
        raise SystemExit(f"callgrind did not say what it counted: {said}")
    return int(found[1]) // COUNTED


def main() -> None:
    chosen = arguments()
    if chosen.here:
        if chosen.here == "timed":
            print(timed())
        else:
            counted()
        return
    chosen.keep.mkdir(parents=True, exist_ok=True)
    rows: list[Row] = []
    for build in chosen.only:
        row: dict[str, str | int | float] = {"build": build}
        if not chosen.counted:
            row["cpu_us"] = float(_run(build, "timed"))
        if shutil.which("valgrind"):
            row["instructions"] = _instructions(build, chosen.keep)
        rows.append(row)
    print(table("a request in process", ("build", "cpu_us", "instructions"), rows))


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gateway.path")
    parser.add_argument("--only", nargs="+", choices=OURS, default=list(OURS))
    parser.add_argument("--counted", action="store_true", help="no times: the machine is busy")
    parser.add_argument("--keep", type=Path, default=REPOSITORY / "build" / "bench")
    parser.add_argument("--here", choices=("timed", "counted"), help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    main()
