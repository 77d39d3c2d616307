"""What is lost while all processes of a service are replaced, again and again, under load.

Half of the requests come on connections of their own, half on connections that are kept: see
`seawall.load.probing`, which asks every subject alike.
"""

import asyncio
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path

from benchmarks.report import Row
from benchmarks.runtime.asking import until_answered
from benchmarks.runtime.peers import PEERS
from benchmarks.runtime.project import running
from benchmarks.runtime.starts import FIRST_PORT, declared
from seawall.load.probing import AtAddress, Probing, Verified
from seawall.topology import Address
from tests.support.servers import free_port

WORKERS = 2

Reload = Callable[[], None]
Subject = Callable[[Path], AbstractContextManager[tuple[int, Reload]]]


def reloads(folder: Path, count: int, rate: float, peers: Sequence[str]) -> list[Row]:
    """Requests that failed while each subject was reloaded `count` times."""
    rows = []
    subjects: dict[str, Subject] = {**_SEAWALL, **{peer: partial(_peer, peer) for peer in peers}}
    for name, subject in subjects.items():
        with subject(folder / f"reload-{name.split()[-1].strip('()')}") as (port, reload):
            rows.append(_row(name, count, asyncio.run(_verified(port, rate, count, reload))))
    return rows


async def _verified(port: int, rate: float, count: int, reload: Reload) -> Verified:
    over = threading.Event()

    def work() -> None:
        try:
            for _ in range(count):
                reload()
        finally:
            over.set()

    probing = Probing(AtAddress(Address("127.0.0.1", port), "/", ()), rate)
    _, verified = await asyncio.gather(asyncio.to_thread(work), probing.run(over.is_set))
    return verified


def _row(name: str, count: int, verified: Verified) -> Row:
    return {
        "subject": name,
        "load": "reload",
        "reloads": count,
        "requests": verified.asked,
        "failed": verified.failed,
        "failed_pct": 100 * verified.failed / verified.asked,
        "p99_ms": verified.p99 * 1e3,
        "lag_ms": verified.lag_p99 * 1e3,
    }


@contextmanager
def _direct(folder: Path) -> Iterator[tuple[int, Reload]]:
    """One replica, asked on its own socket."""
    with running(folder, declared(1)) as project:
        yield FIRST_PORT, lambda: project.reload("hello")


@contextmanager
def _through_gateway(folder: Path) -> Iterator[tuple[int, Reload]]:
    port = free_port()
    with running(folder, declared(WORKERS, gateway=port)) as project:
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
