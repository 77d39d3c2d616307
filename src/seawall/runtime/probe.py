"""Is it ready, does it live? One question: by HTTP, a connection, a command, or a PING."""

import asyncio
import contextlib
import os
import signal
import socket
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from seawall.runtime.asking import At
from seawall.topology import Address

# A probe asks whether the process answers; the reason for a no is ps's to show, and is short.
_REASON = 300  # characters

# Of an answer; the reason is at its beginning.
_MOST = 65536  # bytes


@dataclass(frozen=True, slots=True)
class Health:
    """What a probe learnt. `reason` says why not."""

    ready: bool
    reason: str = ""
    answered: bool = field(default=True, compare=False)  # something was said, if only no


Probe = Callable[[], Awaitable[Health]]


def http_probe(at: At, path: str, timeout: float = 2.0, *, any_answer: bool = False) -> Probe:
    """Ready when `GET path` answers 2xx or 3xx within `timeout` seconds, as Kubernetes has it;
    with `any_answer`, when it answers in HTTP at all: its event loop turns."""
    request = (
        f"GET {path} HTTP/1.1\r\nHost: {at}\r\nUser-Agent: seawall-probe\r\n"
        "Accept: application/json\r\nConnection: close\r\n\r\n"
    ).encode("latin-1", "replace")

    def enough(answer: bytearray) -> bool:
        if len(answer) >= _MOST:
            return True
        # Of a failure the body says why.
        return b"\r\n\r\n" in answer and _judged(path, bytes(answer), any_answer).ready

    async def probe() -> Health:
        answer = bytearray()
        try:
            async with asyncio.timeout(timeout):
                await _hear(at, request, answer, enough)
        except TimeoutError:
            if b"\r\n\r\n" not in answer:
                return Health(False, f"{path} did not answer within {timeout:g} s", False)
        except OSError as exc:
            return Health(False, f"{at} refused: {exc.strerror or exc}", False)
        return _judged(path, bytes(answer), any_answer)

    return probe


async def _hear(
    at: At, request: bytes, answer: bytearray, enough: Callable[[bytearray], bool]
) -> None:
    """Ask, and add to the answer until it is enough or ends. In plain text by plain calls on a
    socket: a stream costs twice as much, and a supervisor asks a hundred replicas all day. Raises
    `OSError`."""
    if at.tls is not None:
        reader, writer = await at.connect()
        try:
            writer.write(request)
            while data := await reader.read(_MOST):
                answer += data
                if enough(answer):
                    return
        finally:
            writer.close()
        return
    address, loop = at.address, asyncio.get_running_loop()
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as asking:
        asking.setblocking(False)
        if not (sent := _sent_at_once(asking, address, request)):
            await loop.sock_connect(asking, (address.host, address.port))
        if sent < len(request):
            await loop.sock_sendall(asking, request[sent:])
        while data := await loop.sock_recv(asking, _MOST):
            answer += data
            if enough(answer):
                return


def _sent_at_once(asking: socket.socket, address: Address, request: bytes) -> int:
    """On one machine a connection is there before the call that asks for it returns, although it
    says that it is in progress: then nobody has to wait for it. How much was sent."""
    try:
        socket.inet_pton(asking.family, address.host)
    except OSError:
        return 0  # a name: to look it up takes time
    with contextlib.suppress(BlockingIOError):
        asking.connect((address.host, address.port))
    try:
        return asking.send(request)
    except BlockingIOError:
        return 0


def _judged(path: str, answer: bytes, any_answer: bool) -> Health:
    head, _, body = answer.partition(b"\r\n\r\n")
    parts = head.split(b"\r\n", 1)[0].split(b" ", 2)
    if len(parts) < 2 or not parts[0].startswith(b"HTTP/1.") or not parts[1].isdigit():
        return Health(False, f"{path} was not answered in HTTP", False)
    status = int(parts[1])
    if any_answer or 200 <= status < 400:
        return Health(True)
    said = body[:_REASON].decode("utf-8", "replace").strip()
    return Health(False, f"{path} answered {status} {said}".strip())


class Overheard:
    """Does it live? What answered another question since the last time does, and is not asked."""

    def __init__(self, ask: Probe) -> None:
        self._ask = ask
        self._heard = False

    def listening(self, probe: Probe) -> Probe:
        """That other question, an answer to which is heard here."""

        async def heard() -> Health:
            health = await probe()
            self._heard = self._heard or health.answered
            return health

        return heard

    async def probe(self) -> Health:
        heard, self._heard = self._heard, False
        return Health(True) if heard else await self._ask()


def ping_probe(socket: Path, timeout: float = 1.0) -> Probe:
    """Ready when a Valkey on a Unix socket answers PING; while it loads its data it does not."""

    async def ask() -> bytes:
        reader, writer = await asyncio.open_unix_connection(str(socket))
        try:
            writer.write(b"PING\r\n")
            return await reader.readline()
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    async def probe() -> Health:
        try:
            async with asyncio.timeout(timeout):
                answer = (await ask()).decode("utf-8", "replace").strip()
        except TimeoutError:
            return Health(False, f"{socket.name} did not answer within {timeout:g} s")
        except OSError as exc:
            return Health(False, f"{socket.name}: {exc.strerror or exc}")
        return Health(answer == "+PONG", "" if answer == "+PONG" else answer)

    return probe


def tcp_probe(address: Address, timeout: float) -> Probe:
    """Ready when a connection is taken within `timeout` seconds."""

    async def probe() -> Health:
        try:
            async with asyncio.timeout(timeout):
                _, writer = await asyncio.open_connection(address.host, address.port)
        except TimeoutError:
            return Health(False, f"{address} took no connection within {timeout:g} s")
        except OSError as exc:
            return Health(False, f"{address} refused: {exc.strerror or exc}")
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()
        return Health(True)

    return probe


def exec_probe(
    command: Sequence[str], environment: Mapping[str, str], folder: str, timeout: float
) -> Probe:
    """Ready when `command` ends with status 0 within `timeout` seconds; later it is killed, with
    all that it started."""

    async def probe() -> Health:
        loop = asyncio.get_running_loop()
        try:
            process, running = await loop.subprocess_exec(
                _Running,
                *command,
                env=dict(environment),
                cwd=folder,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.STDOUT,
                start_new_session=True,
            )
        except OSError as exc:
            return Health(False, f"cannot run {command[0]}: {exc.strerror}")
        try:
            async with asyncio.timeout(timeout):
                await running.ended.wait()
        except TimeoutError:
            return Health(False, f"{command[0]} did not end within {timeout:g} s")
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.get_pid(), signal.SIGKILL)
            process.close()
            await running.ended.wait()
        status = process.get_returncode()
        if status == 0:
            return Health(True)
        said = running.said.decode("utf-8", "replace").strip()
        return Health(False, f"{command[0]} ended with status {status} {said}".strip())

    return probe


class _Running(asyncio.SubprocessProtocol):
    """A command until it has ended and its pipe is closed: `asyncio.subprocess.Process` waits for
    the first only, and leaves the pipe of a command that was killed open."""

    def __init__(self) -> None:
        self.said = bytearray()
        self.ended = asyncio.Event()

    def pipe_data_received(self, fd: int, data: bytes) -> None:
        self.said += data[: _REASON - len(self.said)]

    def connection_lost(self, exc: Exception | None) -> None:
        self.ended.set()


class ReadyPipe:
    """A child says itself that it is ready, by writing to a descriptor that it inherited.

    For processes that share one listening socket, where a request may be answered by another.
    """

    def __init__(self) -> None:
        self._read, self.write = os.pipe()
        os.set_blocking(self._read, False)
        self._open = True
        self._said = False

    async def probe(self) -> Health:
        if self._open and not self._said:
            with contextlib.suppress(BlockingIOError):
                self._said = bool(os.read(self._read, 1))
        return Health(self._said, "" if self._said else "it has not said that it listens")

    def launched(self) -> None:
        """The child has its end: close ours."""
        os.close(self.write)

    def close(self) -> None:
        """Calling it twice is fine."""
        if self._open:
            self._open = False
            os.close(self._read)
