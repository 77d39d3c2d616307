"""Guards that are always on, and the servers that tests share.

A server fixture is one process for the whole run; tests keep apart by names of their own
(`unique`), and a test that kills a server starts one for itself with `tests.support.servers`.
"""

import asyncio
import gc
import itertools
import os
import re
import resource
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest
import uvloop
from blockbuster import BlockBuster
from hypothesis import HealthCheck, settings

from tests.support import servers
from tests.support.scheduling import ByBroker, turn
from tests.support.sharing import SHARED, shared

pytest_plugins = ["tests.support.capabilities", "tests.support.ceiling"]

_SERIAL = itertools.count(1)
SQLITE_ON_THE_LOOP = {"_here", "begin", "leave", "_lock", "rollback"}


# How long an example takes says how busy the machine is. In CI examples are the same each time:
# hypothesis has a profile of its own for that.
settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
if "CI" not in os.environ:
    settings.load_profile("untimed")


def pytest_configure() -> None:
    """A thousand clients in one test need more files than an ordinary user's shell allows."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def pytest_asyncio_loop_factories() -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Tests run on the loop that services and gateway run on."""
    return {"uvloop": uvloop.new_event_loop}


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> ByBroker | None:
    """The tests of a broker are one worker's, whatever files they are in."""
    return ByBroker(config, log) if config.getoption("dist") == "loadfile" else None


@pytest.fixture
def unique(request: pytest.FixtureRequest) -> str:
    """A name that no other test and no other run uses."""
    test = re.sub(r"[^a-z0-9]+", "-", request.node.name.lower()).strip("-")[:40].strip("-")
    return f"{test}-{os.getpid()}-{next(_SERIAL)}"


@pytest.fixture(scope="session", autouse=True)
def _no_blocking_calls() -> Iterator[None]:
    """A blocking call inside Seawall on the event loop fails the test. To put the guard up takes
    some milliseconds: it stays up for the whole run."""
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
            for module in ("sqlite", "sqlite_reading", "sqlite_statements"):
                path = f"seawall/service/{module}.py"
                guard.functions[name].can_block_in(path, SQLITE_ON_THE_LOOP)
    # A broker's library is imported at start; a client of AWS is made in a thread, on a loop of
    # its own that serves nobody else.
    for function in guard.functions.values():
        function.can_block_in("seawall/messaging/connect.py", "open_transport")
        function.can_block_in("seawall/messaging/transports/sqs_link.py", "enter")
    guard.activate()
    yield
    guard.deactivate()


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: turn(item.nodeid))


def pytest_collection_finish(session: pytest.Session) -> None:
    """What imports and collection made stays: collecting garbage after each test need not look
    at it again, which would cost some ten milliseconds a test."""
    gc.collect()
    gc.freeze()


@pytest.hookimpl(trylast=True)
def pytest_runtest_teardown(item: pytest.Item, nextitem: pytest.Item | None) -> None:
    """Nor at what a file's tests left: at the end of a run that would cost each test 60 ms."""
    if nextitem is None or nextitem.path != item.path:
        gc.collect()
        gc.freeze()


@pytest.fixture(autouse=True)
def _nothing_left_behind() -> Iterator[None]:
    """No child process and no socket outlives the test that opened it."""
    yield
    gc.collect()
    if not _own_children() - SHARED:  # so it is after nearly every test, and quickly seen
        return
    found = _children(os.getpid())
    # Looked for afterwards: a shared server may start a process in between.
    shared = {*SHARED, *(child.pid for pid in SHARED for child in _children(pid))}
    left = [child for child in found if child.pid not in shared and child.is_running()]
    if left:  # and one that a shared server has started may have ended in between
        now = {child.pid for child in _children(os.getpid())}
        left = [child for child in left if child.pid in now]
    for child in left:
        child.kill()
    psutil.wait_procs(left, timeout=5)  # buried, so that the tests that follow do not see it
    assert not left, f"processes left running: {left}"


def _own_children() -> set[int]:
    """Those that this process started, whichever of its threads did."""
    threads = Path("/proc/self/task")
    if not (threads / str(os.getpid()) / "children").exists():
        return {child.pid for child in psutil.Process().children()}
    found: set[int] = set()
    for thread in threads.iterdir():
        with suppress(OSError):  # the thread has ended
            found.update(map(int, (thread / "children").read_text().split()))
    return found


def _children(pid: int) -> list[psutil.Process]:
    try:
        return psutil.Process(pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return []


@pytest.fixture(scope="session")
def valkey() -> Iterator[servers.RespServer]:
    yield from shared(servers.valkey)


@pytest.fixture(scope="session")
def redis() -> Iterator[servers.RespServer]:
    yield from shared(servers.redis)


@pytest.fixture(scope="session")
def nats() -> Iterator[servers.NatsServer]:
    yield from shared(servers.nats)


@pytest.fixture(scope="session")
def rabbitmq() -> Iterator[servers.RabbitServer]:
    yield from shared(servers.rabbitmq)


@pytest.fixture
def rabbitmq_to_kill(rabbitmq: servers.RabbitServer) -> Iterator[servers.RabbitServer]:
    """The node of this run, since another one would take ten seconds to start; what a test did
    to it is mended afterwards."""
    yield rabbitmq
    rabbitmq.mend()
    SHARED.update(rabbitmq.pids)


@pytest.fixture(scope="session")
def kafka() -> Iterator[servers.KafkaServer]:
    yield from shared(servers.kafka)


@pytest.fixture(scope="session")
def aws() -> Iterator[servers.AwsServer]:
    yield from shared(servers.aws)


@pytest.fixture(scope="session")
def postgres() -> Iterator[servers.Postgres]:
    server = servers.postgres()
    yield server
    server.stop()
