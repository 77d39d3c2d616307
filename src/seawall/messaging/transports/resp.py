"""One connection to a Valkey or Redis server, shared by all who call.

Commands are written as they come and answers arrive in that order, so concurrent callers make
one pipeline without waiting for each other; redis-py gives a connection to one caller at a time
and pays for each answer singly. Parsing and packing are hiredis', address and credentials
are read by redis-py. Errors of the wire and of the server end here:

    not connected, refused, loading, read-only   Unavailable    nothing happened
    lost or silent after the command was written OutcomeUnknown
    out of memory                                Full
    wrong password, no permission, wrong type    Misconfigured
"""

import asyncio
import hashlib
import ssl
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast
from urllib.parse import urlsplit, urlunsplit

import hiredis
from redis.asyncio.connection import parse_url

from seawall.errors import Full, Misconfigured, OutcomeUnknown, SeawallError, Unavailable

Argument = str | bytes | int | float
Command = tuple[Argument, ...]

# A server on the same network that has not answered by then is paused, dead or cut off.
TIMEOUT = 5.0  # seconds

CONNECT_TIMEOUT = 2.0  # seconds; a SYN is lost at most once in this time

# hiredis' own annotation allows tuples of one element only.
pack: Callable[[Command], bytes] = hiredis.pack_command  # type: ignore[assignment]

_ENOUGH = object()  # hiredis' way to say that no answer is complete

_BY_CODE: Mapping[str, type[SeawallError]] = {
    "LOADING": Unavailable,
    "MASTERDOWN": Unavailable,
    "READONLY": Unavailable,
    "CLUSTERDOWN": Unavailable,
    "TRYAGAIN": Unavailable,
    "MISCONF": Unavailable,  # it cannot write its file now: disk full
    "NOREPLICAS": Unavailable,
    "BUSY": Unavailable,
    "OOM": Full,
}


class NoGroup(SeawallError):
    """The consumer group does not exist: never made, or the server lost its data."""


def error_of(reply: hiredis.ReplyError) -> SeawallError:
    text = str(reply)
    code = text.split(" ", 1)[0]
    if code in ("NOGROUP", "UNBLOCKED") or "no such key" in text:
        return NoGroup(text)  # UNBLOCKED: the stream vanished while a read waited on it
    return _BY_CODE.get(code, Misconfigured)(text)


@dataclass(frozen=True, slots=True)
class Server:
    """Where a server is and how to introduce ourselves."""

    host: str = "localhost"
    port: int = 6379
    path: str | None = None  # of a Unix socket, instead of host and port
    db: int = 0
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    tls: bool = False

    @staticmethod
    def parse(url: str) -> "Server":
        """Read `redis://`, `rediss://`, `valkey://`, `valkeys://` or `unix://`."""
        parts = urlsplit(url)
        scheme = parts.scheme.replace("valkey", "redis")
        try:
            options = parse_url(urlunsplit(parts._replace(scheme=scheme)))
        except ValueError as error:
            raise Misconfigured(f"{url!r}: {error}") from error
        return Server(
            host=options.get("host", "localhost"),
            port=options.get("port", 6379),
            path=options.get("path"),
            db=int(options.get("db", 0)),
            username=options.get("username"),
            password=options.get("password"),
            tls=scheme == "rediss",
        )

    def greeting(self, name: str) -> list[Command]:
        commands: list[Command] = [("CLIENT", "SETNAME", name)]
        if self.db:
            commands.insert(0, ("SELECT", self.db))
        if self.password is not None:
            credentials = (self.username, self.password) if self.username else (self.password,)
            commands.insert(0, ("AUTH", *credentials))
        return commands

    def __str__(self) -> str:
        return self.path or f"{self.host}:{self.port}"


class Script:
    """Lua that the server runs in one step."""

    def __init__(self, source: str) -> None:
        self.source = source
        self.sha = hashlib.sha1(source.encode(), usedforsecurity=False).hexdigest()


@dataclass(slots=True, eq=False)
class _Waiter:
    """Somebody waiting for `expected` answers."""

    future: asyncio.Future[list[Any]]
    expected: int
    replies: list[Any]
    alarm: asyncio.TimerHandle | None = None


class _Wire(asyncio.Protocol):
    """The socket: bytes in, answers out to those who wait, in order."""

    def __init__(self) -> None:
        self._reader = hiredis.Reader(notEnoughData=_ENOUGH)
        self._waiters: deque[_Waiter] = deque()
        self._transport: asyncio.Transport | None = None
        self._lost: Exception | None = None
        self.writable = asyncio.Event()
        self.writable.set()

    @property
    def usable(self) -> bool:
        return (
            self._lost is None and self._transport is not None and not self._transport.is_closing()
        )

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is no subclass

    def pause_writing(self) -> None:
        self.writable.clear()

    def resume_writing(self) -> None:
        self.writable.set()

    def send(self, packed: bytes, expected: int, timeout: float) -> asyncio.Future[list[Any]]:
        """Write commands now; the future gets their `expected` answers."""
        loop = asyncio.get_running_loop()
        waiter = _Waiter(loop.create_future(), expected, [])
        if self._transport is None or not self.usable:
            waiter.future.set_exception(Unavailable("the connection was lost"))
            return waiter.future
        self._waiters.append(waiter)
        waiter.alarm = loop.call_later(timeout, self._too_late, waiter, timeout)
        self._transport.write(packed)
        return waiter.future

    def data_received(self, data: bytes) -> None:
        reader = self._reader
        reader.feed(data)
        waiters = self._waiters
        try:
            while (reply := reader.gets()) is not _ENOUGH:
                waiter = waiters[0]
                waiter.replies.append(reply)
                if len(waiter.replies) == waiter.expected:
                    waiters.popleft()
                    self._answer(waiter)
        except (hiredis.ProtocolError, IndexError) as error:
            self.abort(f"this is not RESP: {error!r}")

    @staticmethod
    def _answer(waiter: _Waiter) -> None:
        if waiter.alarm is not None:
            waiter.alarm.cancel()
        if not waiter.future.done():  # else its caller was cancelled
            waiter.future.set_result(waiter.replies)

    def _too_late(self, waiter: _Waiter, after: float) -> None:
        # Later answers cannot overtake this one, so whoever else waits is no better off.
        self.abort(f"no answer within {after} s")

    def abort(self, why: str) -> None:
        self._fail(why)
        if self._transport is not None:
            self._transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self._fail(f"connection lost: {exc or 'closed by the server'}")

    def _fail(self, why: str) -> None:
        if self._lost is None:
            self._lost = OutcomeUnknown(why)
        self.writable.set()
        while self._waiters:
            waiter = self._waiters.popleft()
            if waiter.alarm is not None:
                waiter.alarm.cancel()
            if not waiter.future.done():
                waiter.future.set_exception(OutcomeUnknown(why))
                waiter.future.exception()  # may be nobody's any more: a cancelled caller's


class Link:
    """A connection that is made when it is needed, and made again after it was lost.

    Calls do not overtake each other. Nothing is tried twice here.
    """

    def __init__(
        self, server: Server, name: str, *, timeout: float = TIMEOUT, scripts: Sequence[Script] = ()
    ) -> None:
        self.server = server
        self.client_id = 0
        self._name = name
        self._timeout = timeout
        self._scripts = scripts
        self._wire: _Wire | None = None
        self._connecting = asyncio.Lock()
        self._closed = False
        self.connects = 0

    async def ready(self) -> _Wire:
        """The open connection. Raises `Unavailable` if there is none to be had."""
        wire = self._wire
        if wire is not None and wire.usable:
            if not wire.writable.is_set():
                await wire.writable.wait()
            return wire
        async with self._connecting:
            if self._closed:
                raise Unavailable("closed")
            if self._wire is None or not self._wire.usable:
                self._wire = await self._connect()
            return self._wire

    async def _connect(self) -> _Wire:
        server = self.server
        loop = asyncio.get_running_loop()
        wire = _Wire()
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT):
                if server.path is not None:
                    await loop.create_unix_connection(lambda: wire, server.path)
                else:
                    tls = ssl.create_default_context() if server.tls else None
                    await loop.create_connection(lambda: wire, server.host, server.port, ssl=tls)
                await self._greet(wire)
        except (OSError, TimeoutError, OutcomeUnknown) as error:
            wire.abort("could not connect")
            reason = str(error) or f"no answer within {CONNECT_TIMEOUT} s"
            raise Unavailable(f"{server}: {reason}") from error
        except BaseException:
            wire.abort("could not connect")
            raise
        self.connects += 1
        return wire

    async def _greet(self, wire: _Wire) -> None:
        commands = self.server.greeting(self._name)
        commands += [("SCRIPT", "LOAD", script.source) for script in self._scripts]
        commands.append(("CLIENT", "ID"))
        packed = b"".join(pack(command) for command in commands)
        replies = await wire.send(packed, len(commands), CONNECT_TIMEOUT)
        for reply in replies:
            if isinstance(reply, hiredis.ReplyError):
                raise error_of(reply)
        self.client_id = int(replies[-1])

    async def pipeline(self, packed: bytes, expected: int) -> list[Any]:
        """Send packed commands; return their answers, in which errors are `ReplyError` values."""
        wire = await self.ready()
        return await wire.send(packed, expected, self._timeout)

    def post(self, *command: Argument) -> None:
        """Send a command if connected now; nobody waits for its answer."""
        if self._wire is not None and self._wire.usable:
            self._wire.send(pack(command), 1, self._timeout)

    async def call(self, *command: Argument) -> Any:
        """Send one command and return its answer; raise if that is an error."""
        (reply,) = await self.pipeline(pack(command), 1)
        if isinstance(reply, hiredis.ReplyError):
            raise error_of(reply)
        return reply

    async def run(self, script: Script, keys: Sequence[str], *arguments: Argument) -> Any:
        """Run a script; load it first where the server has forgotten it."""
        tail = (len(keys), *keys, *arguments)
        packed = pack(("EVALSHA", script.sha, *tail))
        (reply,) = await self.pipeline(packed, 1)
        if isinstance(reply, hiredis.ReplyError):
            if str(reply).startswith("NOSCRIPT"):
                return await self.call("EVAL", script.source, *tail)
            raise error_of(reply)
        return reply

    async def aclose(self) -> None:
        self._closed = True
        if self._wire is not None:
            self._wire.abort("closed")
            self._wire = None
