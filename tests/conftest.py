"""Guards that are always on, and the servers that tests share.

A server fixture is one process for the whole run; tests keep apart by names of their own
(`unique`), and a test that kills a server starts one for itself with `tests.support.servers`.
"""

import asyncio
import gc
import itertools
import os
import re
from collections.abc import Callable, Iterator
from typing import Protocol, TypeVar

import psutil
import pytest
import uvloop
from blockbuster import BlockBuster

from tests.support import servers

_SERIAL = itertools.count(1)
SQLITE_ON_THE_LOOP = {"_here", "begin", "leave", "_lock"}


def pytest_asyncio_loop_factories() -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Tests run on the loop that services and gateway run on."""
    return {"uvloop": uvloop.new_event_loop}


@pytest.fixture
def unique(request: pytest.FixtureRequest) -> str:
    """A name that no other test and no other run uses."""
    test = re.sub(r"[^a-z0-9]+", "-", request.node.name.lower()).strip("-")[:40].strip("-")
    return f"{test}-{os.getpid()}-{next(_SERIAL)}"


@pytest.fixture(autouse=True)
def _no_blocking_calls(request: pytest.FixtureRequest) -> Iterator[None]:
    """A blocking call inside Seawall on the event loop fails the test."""
    guard = BlockBuster(scanned_modules=["seawall"])
    # Drivers look for files when an engine or a connection is made: microseconds, at start.
    guard.functions["os.path.abspath"].can_block_in("pysqlite.py", "create_connect_args")
    for name in ("os.stat", "os.path.abspath"):
        guard.functions[name].can_block_in(
            "asyncpg/connect_utils.py", "_parse_connect_dsn_and_args"
        )
    guard.functions["io.TextIOWrapper.read"].can_block_in("aiormq/connection.py", "<module>")
    # Statements seen to be quick, on purpose: `seawall.service.sqlite` says why.
    for name in guard.functions:
        if name.startswith("sqlite3."):
            guard.functions[name].can_block_in("seawall/service/sqlite.py", SQLITE_ON_THE_LOOP)
    # A broker's library is imported at start; a client of AWS is made in a thread, on a loop of
    # its own that serves nobody else.
    for function in guard.functions.values():
        function.can_block_in("seawall/messaging/connect.py", "open_transport")
        function.can_block_in("seawall/messaging/transports/sqs_link.py", "enter")
    guard.activate()
    yield
    guard.deactivate()


def pytest_collection_finish(session: pytest.Session) -> None:
    """What imports and collection made stays: collecting garbage after each test need not look
    at it again, which would cost some ten milliseconds a test."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def _nothing_left_behind() -> Iterator[None]:
    """No child process and no socket outlives the test that opened it."""
    yield
    gc.collect()
    found = _children(os.getpid())
    # Looked for afterwards: a shared server may start a process in between.
    shared = {*_SHARED, *(child.pid for pid in _SHARED for child in _children(pid))}
    left = [child for child in found if child.pid not in shared and child.is_running()]
    for child in left:
        child.kill()
    assert not left, f"processes left running: {left}"


# Servers that live as long as the run.
_SHARED: set[int] = set()


class _Server(Protocol):
    @property
    def pids(self) -> tuple[int, ...]: ...

    def stop(self) -> None: ...


S = TypeVar("S", bound=_Server)


def _children(pid: int) -> list[psutil.Process]:
    try:
        return psutil.Process(pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return []


def _shared(start: Callable[[], S]) -> Iterator[S]:
    server = start()
    _SHARED.update(server.pids)
    yield server
    server.stop()


@pytest.fixture(scope="session")
def valkey() -> Iterator[servers.RespServer]:
    yield from _shared(servers.valkey)


@pytest.fixture(scope="session")
def redis() -> Iterator[servers.RespServer]:
    yield from _shared(servers.redis)


@pytest.fixture(scope="session")
def nats() -> Iterator[servers.NatsServer]:
    yield from _shared(servers.nats)


@pytest.fixture(scope="session")
def rabbitmq() -> Iterator[servers.RabbitServer]:
    yield from _shared(servers.rabbitmq)


@pytest.fixture
def rabbitmq_to_kill(rabbitmq: servers.RabbitServer) -> Iterator[servers.RabbitServer]:
    """The node of this run, since another one would take ten seconds to start; what a test did
    to it is mended afterwards."""
    yield rabbitmq
    rabbitmq.mend()
    _SHARED.update(rabbitmq.pids)


@pytest.fixture(scope="session")
def kafka() -> Iterator[servers.Child]:
    yield from _shared(servers.kafka)


@pytest.fixture(scope="session")
def aws() -> Iterator[servers.Child]:
    yield from _shared(servers.aws)


@pytest.fixture(scope="session")
def postgres() -> Iterator[servers.Postgres]:
    server = servers.postgres()
    yield server
    server.stop()
