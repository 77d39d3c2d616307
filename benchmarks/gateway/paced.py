"""Load in an open loop: each varied request at its own time, whatever became of those before it.

    python -m benchmarks.gateway.paced PORT RATE SECONDS

wrk knows no rate, and `hey -q` takes several times the CPU that a proxy takes for a request: on
one core it measures itself. This one takes a fifth of that, and says how late it was. Times are
those of `seawall.load`: a Poisson process; latency counts from when a request was to be sent.
"""

import gc
import json
import re
import select
import socket
import sys
import time
from collections.abc import Sequence
from random import Random

from benchmarks.gateway.closed import CONNECTIONS
from seawall.load.report import Sample, summarize
from seawall.load.schedule import Phase, arrivals

SEED = 7
# Answers that stay away for longer end the run: it would never end by itself.
SILENCE = 5.0  # seconds

_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)\r\n", re.IGNORECASE)
_REQUEST = (
    "GET /api/v1/r%d/items/%d HTTP/1.1\r\nHost: shop.example:8080\r\n"
    "User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 Chrome/120.0\r\n"
    "Accept: application/json\r\nAccept-Language: en-US,en;q=0.9\r\n"
    "Accept-Encoding: gzip, deflate, br\r\nReferer: https://shop.example/items\r\n"
    "Cookie: session=abcdef0123456789; theme=dark\r\nCache-Control: no-cache\r\n"
    "X-Unique: %d\r\n\r\n"
)


class Client:
    """One connection, and the request that is under way on it."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._read = b""
        self._intended = 0.0
        self._started = 0.0

    def send(self, number: int, intended: float, now: float) -> None:
        self._intended, self._started = intended, now
        self.socket.sendall((_REQUEST % (number % 1000, number, number)).encode())

    def read(self, now: float) -> Sample | None:
        """What became of the request, if its whole answer is here."""
        read = self.socket.recv(65536)
        if not read:
            raise RuntimeError("the proxy closed a connection that was in use")
        self._read += read
        end = self._read.find(b"\r\n\r\n")
        length = _LENGTH.search(self._read, 0, end + 2) if end >= 0 else None
        if length is None or len(self._read) < end + 4 + int(length[1]):
            return None
        ok = self._read.startswith(b"HTTP/1.1 200")
        self._read = b""
        return Sample("get", self._intended, self._started, now, first_ok=ok, ok=ok)


def run(port: int, times: Sequence[float], connections: int = CONNECTIONS) -> list[Sample]:
    """Samples of all requests, in the order of their answers."""
    poll = select.epoll()
    clients = [Client(port) for _ in range(connections)]
    by_number = {client.socket.fileno(): client for client in clients}
    for number in by_number:
        poll.register(number, select.EPOLLIN)
    free = list(clients)
    samples: list[Sample] = []
    sent = 0
    began = time.perf_counter()
    while len(samples) < len(times):
        now = time.perf_counter() - began
        while sent < len(times) and times[sent] <= now and free:
            free.pop().send(sent, times[sent], now)
            sent += 1
            now = time.perf_counter() - began
        # A poll waits for whole milliseconds, a select for as long as it is told.
        if sent < len(times) and free:
            select.select([poll], [], [], max(0.0, times[sent] - now))
        elif not select.select([poll], [], [], SILENCE)[0]:
            raise RuntimeError(f"no answer for {SILENCE:g} s")
        for number, _ in poll.poll(0):
            client = by_number[number]
            sample = client.read(time.perf_counter() - began)
            if sample is not None:
                samples.append(sample)
                free.append(client)
    poll.close()
    for client in clients:
        client.socket.close()
    return samples


def main(port: int, rate: float, seconds: float) -> None:
    times = arrivals([Phase(rate, seconds)], Random(SEED))
    gc.collect()
    gc.disable()
    report = summarize(run(port, times))
    figures = {
        "requests": report.scheduled,
        "errors": round(report.scheduled * (1 - report.availability_first)),
        "p50_ms": report.p50 * 1e3,
        "p99_ms": report.p99 * 1e3,
        "lag_ms": report.lag_p99 * 1e3,
    }
    print(json.dumps(figures))


if __name__ == "__main__":
    main(int(sys.argv[1]), float(sys.argv[2]), float(sys.argv[3]))
