import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from seawall.runtime.asking import At
from seawall.runtime.probe import (
    Health,
    Overheard,
    Probe,
    ReadyPipe,
    exec_probe,
    http_probe,
    ping_probe,
    tcp_probe,
)
from seawall.topology import Address


@asynccontextmanager
async def answering(*chunks: bytes, hold: bool = False) -> AsyncIterator[Address]:
    """A server that answers every connection with these bytes."""
    released = asyncio.Event()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1000)
        for chunk in chunks:
            writer.write(chunk)
            await writer.drain()
        if hold:
            await released.wait()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    try:
        yield Address("127.0.0.1", server.sockets[0].getsockname()[1])
    finally:
        released.set()
        server.close()
        await server.wait_closed()


async def test_who_is_asked_may_have_a_name() -> None:
    async with answering(b"HTTP/1.1 200 OK\r\n\r\n") as address:
        assert await http_probe(At(Address("localhost", address.port)), "/readyz")() == Health(True)


@pytest.mark.parametrize(
    ("answer", "ready", "reason"),
    [
        (b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok", True, ""),
        (b"HTTP/1.0 204 No Content\r\n\r\n", True, ""),
        (b"HTTP/1.1 302 Found\r\n\r\n", True, ""),
        (b"HTTP/1.1 503 No\r\n\r\nno database", False, "/readyz answered 503 no database"),
        (b"HTTP/1.1 404 Not Found\r\n\r\n", False, "/readyz answered 404"),
        (b"SSH-2.0-OpenSSH\r\n", False, "/readyz was not answered in HTTP"),
        (b"", False, "/readyz was not answered in HTTP"),
        (b"HTTP/1.1 banana\r\n\r\n", False, "/readyz was not answered in HTTP"),
    ],
)
async def test_what_an_answer_means(answer: bytes, ready: bool, reason: str) -> None:
    async with answering(answer) as address:
        assert await http_probe(At(address), "/readyz")() == Health(ready, reason)


async def test_silence_and_refusal_are_no() -> None:
    async with answering(hold=True) as address:
        health = await http_probe(At(address), "/readyz", timeout=0.05)()
        assert health == Health(False, "/readyz did not answer within 0.05 s")
    refused = await http_probe(At(address), "/readyz")()
    assert not refused.ready
    assert str(address) in refused.reason


async def test_a_valkey_that_loads_its_data_is_not_ready(tmp_path: Path) -> None:
    answers = iter([b"-LOADING Valkey is loading the dataset in memory\r\n", b"+PONG\r\n"])

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readline()
        writer.write(next(answers))
        writer.close()

    path = tmp_path / "valkey.sock"
    probe = ping_probe(path)
    assert not (await probe()).ready
    server = await asyncio.start_unix_server(answer, str(path))
    loading = await probe()
    assert (loading.ready, "LOADING" in loading.reason) == (False, True)
    assert (await probe()).ready
    server.close()


async def test_a_child_says_itself_that_it_is_ready() -> None:
    pipe = ReadyPipe()
    assert not (await pipe.probe()).ready
    os.write(pipe.write, b"1")
    pipe.launched()
    assert (await pipe.probe()).ready
    pipe.close()
    pipe.close()
    assert (await pipe.probe()).ready


async def test_a_child_that_died_never_was_ready() -> None:
    pipe = ReadyPipe()
    pipe.launched()
    assert not (await pipe.probe()).ready
    pipe.close()
    assert not (await pipe.probe()).ready


async def test_any_answer_shows_that_a_loop_turns() -> None:
    async with answering(b"HTTP/1.1 404 Not Found\r\n\r\n") as address:
        assert (await http_probe(At(address), "/livez", any_answer=True)()).ready
    async with answering(hold=True) as address:
        assert not (await http_probe(At(address), "/livez", 0.1, any_answer=True)()).ready


async def test_a_connection_is_taken_or_refused() -> None:
    async with answering(b"") as address:
        assert (await tcp_probe(address, 1.0)()).ready
    refused = await tcp_probe(address, 1.0)()
    assert not refused.ready
    assert "refused" in refused.reason


@pytest.mark.parametrize(
    ("command", "within", "reason"),
    [
        (["true"], 10.0, ""),
        (["sh", "-c", "echo no table; exit 4"], 10.0, "sh ended with status 4 no table"),
        (["sh", "-c", "sleep 1000 & wait"], 0.1, "sh did not end within 0.1 s"),
        (["no-such-program"], 10.0, "cannot run no-such-program: No such file or directory"),
    ],
)
async def test_a_command_is_asked(command: list[str], within: float, reason: str) -> None:
    probe = exec_probe(command, os.environ, "/", within)
    assert await probe() == Health(not reason, reason)


async def test_a_command_that_is_killed_leaves_no_pipe_open(tmp_path: Path) -> None:
    def open_files() -> set[str]:
        return {link.resolve().name for link in Path("/proc/self/fd").iterdir()}

    outlives = "setsid sh -c 'echo $$ > pid; exec sleep 1000' & wait"  # and holds the pipe
    await exec_probe(["true"], os.environ, "/", 10.0)()  # the first opens what the loop keeps
    before = open_files()
    killed = await exec_probe(["sh", "-c", outlives], os.environ, str(tmp_path), 1.0)()
    os.kill(int((tmp_path / "pid").read_text()), signal.SIGKILL)
    assert (killed.ready, open_files()) == (False, before)


async def test_what_has_just_answered_is_not_asked_whether_it_lives() -> None:
    asked: list[str] = []
    healths = {"ready": Health(False, "no database"), "live": Health(True)}

    def probe(name: str) -> Probe:
        async def ask() -> Health:
            asked.append(name)
            return healths[name]

        return ask

    alive = Overheard(probe("live"))
    ready = alive.listening(probe("ready"))
    assert await ready() == Health(False, "no database")
    assert await alive.probe() == Health(True)
    assert asked == ["ready"]  # a no is an answer
    await alive.probe()
    assert asked == ["ready", "live"]  # once heard counts once

    healths["ready"] = Health(False, "did not answer", answered=False)
    healths["live"] = Health(False, "did not answer", answered=False)
    await ready()
    assert not (await alive.probe()).ready
    assert asked == ["ready", "live", "ready", "live"]
