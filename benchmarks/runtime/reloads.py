"""What is lost while all processes of a service are replaced, again and again, under load.

Half of the requests come on connections of their own, half on connections that are kept: see
`seawall.load.probing`, which asks every subject alike. Ours keep event streams and WebSockets open
meanwhile: each ends cleanly, and is opened again.
"""

import asyncio
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from benchmarks.report import Row
from benchmarks.runtime.asking import until_answered
from benchmarks.runtime.peers import PEERS
from benchmarks.runtime.project import STREAMING, running
from benchmarks.runtime.starts import FIRST_PORT, declared
from seawall.load.probing import AtAddress, Probing
from seawall.load.streams import Streams
from seawall.topology import Address
from tests.support.servers import free_port

WORKERS = 2

STREAMS = 10  # event streams that are kept open, and as many WebSockets

Reload = Callable[[], None]
Subject = Callable[[Path], AbstractContextManager[tuple[int, Reload]]]


@dataclass(frozen=True, slots=True)
class Load:
    """`count` reloads under `rate` requests a second: one after the other, or, where that is too
    soon for as many `requests`, spread over their time."""

    count: int
    rate: float
    requests: int = 0

    @property
    def pause(self) -> float:
        """Seconds from the beginning of a reload to that of the next, at least."""
        return self.requests / self.rate / self.count


def reloads(folder: Path, load: Load, peers: Sequence[str]) -> list[Row]:
    """Requests that failed, and streams that were cut, while each subject was reloaded. Peers are
    asked for no streams: what is lost of plain requests is enough to compare."""
    rows = []
    subjects: dict[str, Subject] = {**_SEAWALL, **{peer: partial(_peer, peer) for peer in peers}}
    for name, subject in subjects.items():
        with subject(folder / f"reload-{name.split()[-1].strip('()')}") as (port, reload):
            streams = STREAMS if name in _SEAWALL else 0
            rows.append(asyncio.run(_row(name, port, load, reload, streams)))
    return rows


async def _row(name: str, port: int, load: Load, reload: Reload, streams: int) -> Row:
    over, address = threading.Event(), Address("127.0.0.1", port)

    def work() -> None:
        began = time.perf_counter()

        def pause(number: int) -> None:
            time.sleep(max(0.0, began + number * load.pause - time.perf_counter()))

        try:
            for number in range(load.count):
                pause(number)
                reload()
            pause(load.count)
        finally:
            over.set()

    events = Streams(address, "/events", (), streams)
    sockets = Streams(address, "/socket", (), streams, websocket=True)
    probing = Probing(AtAddress(address, "/", ()), load.rate)
    _, verified, *kept = await asyncio.gather(
        asyncio.to_thread(work),
        probing.run(over.is_set),
        events.run(over.is_set),
        sockets.run(over.is_set),
    )
    return {
        "subject": name,
        "load": "reload",
        "reloads": load.count,
        "requests": verified.asked,
        "failed": verified.failed,
        "failed_pct": 100 * verified.failed / verified.asked,
        "streams": sum(each.opened for each in kept),
        "cut": sum(each.failed for each in kept),
        "p99_ms": verified.p99 * 1e3,
        "lag_ms": verified.lag_p99 * 1e3,
    }


@contextmanager
def _direct(folder: Path) -> Iterator[tuple[int, Reload]]:
    """One replica, asked on its own socket."""
    with running(folder, declared(1), STREAMING) as project:
        yield FIRST_PORT, lambda: project.reload("hello")


@contextmanager
def _through_gateway(folder: Path) -> Iterator[tuple[int, Reload]]:
    port = free_port()
    with running(folder, declared(WORKERS, gateway=port), STREAMING) as project:
        until_answered(port, time.perf_counter())  # until the gateway has heard of both
        yield port, lambda: project.reload("hello")


@contextmanager
def _peer(name: str, folder: Path) -> Iterator[tuple[int, Reload]]:
    with PEERS[name](folder, WORKERS) as peer:
        yield peer.port, peer.reload


_SEAWALL: Mapping[str, Subject] = {
    "seawall (socket)": _direct,
    "seawall (gateway)": _through_gateway,
}
