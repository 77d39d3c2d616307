"""`seawall register`: a command without a supervisor is listed while it answers."""

import asyncio
import signal
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from seawall.registry.connect import open_registry
from seawall.topology import Instance, InstanceState
from tests.support.identified import Issuing
from tests.support.process import ServiceProcess
from tests.support.servers import RespServer
from tests.support.waiting import eventually, eventually_async

# Ready unless a file says no; told to stop, it says so and answers what is under way.
PROGRAM = """
import os, pathlib, signal, ssl, threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

class Pages(BaseHTTPRequestHandler):
    def do_GET(self):
        away = pathlib.Path("away").exists()
        self.send_response(503 if away else 200)
        self.end_headers()

    def log_message(self, *_): pass

server = ThreadingHTTPServer((os.environ["HOST"], int(os.environ["PORT"])), Pages)
if (folder := os.environ.get("SEAWALL_TLS")) is not None:
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=f"{folder}/ca.crt")
    tls.verify_mode = ssl.CERT_REQUIRED
    tls.load_cert_chain(f"{folder}/tls.crt", f"{folder}/tls.key")
    server.socket = tls.wrap_socket(server.socket, server_side=True)

def stop(*_):
    print("told to stop", flush=True)
    threading.Thread(target=server.shutdown).start()

signal.signal(signal.SIGTERM, stop)
server.serve_forever(poll_interval=0.05)
print("stopped", flush=True)
raise SystemExit(7)
"""


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def attended(
    folder: Path,
    url: str,
    stack: ExitStack,
    program: str = "program.py",
    command: str = sys.executable,
    **environment: str,
) -> ServiceProcess:
    seawall = str(Path(sys.executable).with_name("seawall"))
    words = ["register", "mails", "--version", "1.2.3", "--health", "/readyz", "--"]
    process = ServiceProcess(
        folder,
        PROGRAM,
        {"SEAWALL_REGISTRY__URL": url, "HOST": "127.0.0.1", **environment},
        command=[seawall, *words, command, program],
        name="program",
    )
    process.spawn()
    stack.callback(end, process)
    return process


def end(process: ServiceProcess) -> None:
    """A second signal ends what it attends too, which a kill would leave behind."""
    if not process.ended:
        process.signal(signal.SIGTERM)
        process.signal(signal.SIGINT)
        process.wait()


async def test_it_is_listed_while_it_answers(
    tmp_path: Path, valkey: RespServer, unique: str, stack: ExitStack
) -> None:
    url = f"{valkey.url}?namespace={unique}"
    process = attended(tmp_path, url, stack, SEAWALL_ZONE="a", SEAWALL_DRAIN_SECONDS="9")
    registry = open_registry(url)

    async def found() -> list[Instance]:
        return [i for i in await registry.read() if i.state is not InstanceState.GONE]

    async def one() -> bool:
        return len(await found()) == 1

    async def none() -> bool:
        return not await found()

    async def leaving() -> bool:
        return {i.state for i in await found()} == {InstanceState.DRAINING}

    try:
        await eventually_async(one, within=15.0)
        (mails,) = await found()
        assert (mails.service, mails.version, mails.zone) == ("mails", "1.2.3", "a")
        assert str(mails.address) == f"127.0.0.1:{process.port}"
        (tmp_path / "away").touch()
        await eventually_async(none, within=15.0)
        (tmp_path / "away").unlink()
        await eventually_async(one, within=15.0)
        assert (await found())[0].incarnation != mails.incarnation
        process.signal(signal.SIGTERM)
        await eventually_async(leaving)  # callers hear first, then the command
        await eventually(lambda: "stopped" in process.output, within=15.0)
        await eventually_async(none)
        assert process.wait() == 7  # the command's own
    finally:
        await registry.aclose()


async def test_a_command_that_ends_ends_it(
    tmp_path: Path, valkey: RespServer, unique: str, stack: ExitStack
) -> None:
    (tmp_path / "dies.py").write_text("import os; os.kill(os.getpid(), 9)")
    url = f"{valkey.url}?namespace={unique}"
    assert attended(tmp_path, url, stack, "dies.py").wait() == 128 + signal.SIGKILL


def test_a_command_that_is_not_there(tmp_path: Path, stack: ExitStack) -> None:
    process = attended(tmp_path, "memory://here", stack, command="no-such-program")
    assert process.wait() == 127
    assert "cannot run no-such-program: No such file or directory" in process.output


async def test_a_registry_that_is_away_keeps_nobody_from_serving(
    tmp_path: Path, stack: ExitStack
) -> None:
    process = attended(tmp_path, "redis://127.0.0.1:1/0", stack)
    await eventually(lambda: "cannot be told that it lives" in process.output, within=15.0)
    process.signal(signal.SIGTERM)
    assert process.wait() == 7


async def test_it_is_asked_by_tls_where_it_has_a_certificate(
    tmp_path: Path, valkey: RespServer, unique: str, stack: ExitStack
) -> None:
    url = f"{valkey.url}?namespace={unique}"
    issuing = await asyncio.to_thread(Issuing, tmp_path / "identity")
    folder = await asyncio.to_thread(issuing.write, "mails", ("mails",))
    attended(tmp_path, url, stack, SEAWALL_TLS=str(folder))
    registry = open_registry(url)

    async def listed() -> bool:
        return any(i.state is InstanceState.READY for i in await registry.read())

    try:
        await eventually_async(listed, within=15.0)
    finally:
        await registry.aclose()
