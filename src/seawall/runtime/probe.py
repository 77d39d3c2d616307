"""Is it ready? One HTTP request to a health path, or one PING to a server."""

import asyncio
import contextlib
import os
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

from seawall.topology import Address

# A probe asks whether the process answers; the reason for a no is ps's to show, and is short.
_REASON = 300  # characters


@dataclass(frozen=True, slots=True)
class Health:
    """What a probe learnt. `reason` says why not."""

    ready: bool
    reason: str = ""


Probe = Callable[[], Awaitable[Health]]


def http_probe(address: Address, path: str, timeout: float = 2.0) -> Probe:
    """Ready when `GET path` answers 2xx or 3xx within `timeout` seconds, as Kubernetes has it."""
    request = (
        f"GET {path} HTTP/1.1\r\nHost: {address}\r\nUser-Agent: seawall-probe\r\n"
        "Accept: application/json\r\nConnection: close\r\n\r\n"
    ).encode("latin-1", "replace")

    async def ask() -> bytes:
        reader, writer = await asyncio.open_connection(address.host, address.port)
        try:
            writer.write(request)
            return await reader.read(65536)
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    async def probe() -> Health:
        try:
            async with asyncio.timeout(timeout):
                return _judged(path, await ask())
        except TimeoutError:
            return Health(False, f"{path} did not answer within {timeout:g} s")
        except OSError as exc:
            return Health(False, f"{address} refused: {exc.strerror or exc}")

    return probe


def _judged(path: str, answer: bytes) -> Health:
    head, _, body = answer.partition(b"\r\n\r\n")
    parts = head.split(b"\r\n", 1)[0].split(b" ", 2)
    if len(parts) < 2 or not parts[0].startswith(b"HTTP/1.") or not parts[1].isdigit():
        return Health(False, f"{path} was not answered in HTTP")
    status = int(parts[1])
    if 200 <= status < 400:
        return Health(True)
    said = body[:_REASON].decode("utf-8", "replace").strip()
    return Health(False, f"{path} answered {status} {said}".strip())


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
