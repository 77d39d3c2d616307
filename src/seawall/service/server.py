"""uvicorn's server without its signals, and stopped by an event instead of a look now and then."""

import asyncio
import logging
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from seawall.clock import SYSTEM
from seawall.identity.credentials import Credentials
from seawall.service.edge import LEFT, READER, is_event_stream
from seawall.service.guarding import guarded

# How often the Date header is renewed.
_TICK = 1.0  # seconds


# How often we look whether the last request has ended.
_LOOK = 0.005  # seconds

# A client that has just connected sends its request within a round trip; one that was told to
# close sends nothing more. Between processes of one cluster this is a hundred round trips.
LINGER = 0.2  # seconds

# As many as a kernel queues by default (net.core.somaxconn).
_MOST = 4096

log = logging.getLogger("seawall.service")


class Protocol(HttpToolsProtocol):
    """A connection; when it is lost, the read that still works for it is cancelled.

    ASGI's own way to tell is a message that a second task would have to wait for at every
    request.
    """

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        cycle = self.cycle
        if cycle is not None and not cycle.response_complete:
            reader: asyncio.Task[None] | None = cycle.scope.get(READER)  # type: ignore[assignment]
            if reader is not None:
                cycle.scope[LEFT] = True  # type: ignore[literal-required]
                reader.cancel()


class Server(uvicorn.Server):
    """`up` is set once it listens; `leave` makes `serve` close and return."""

    def __init__(self, config: uvicorn.Config) -> None:
        config.http = Protocol
        super().__init__(config)
        self.up = asyncio.Event()
        self._leaving = asyncio.Event()
        self._within = 0.0
        self._linger = 0.0
        self._shared = False

    def admit(self, credentials: Credentials) -> None:
        """If they serve TLS, listen by it, and to those alone whom they admit. Before `serve`, and
        after `config.load()`."""
        if credentials.server is not None:
            self.config.http_protocol_class = guarded(Protocol, credentials)
            self.config.ssl = credentials.server

    def leave(self, within: float, *, linger: float = LINGER, shared: bool = False) -> None:
        """Stop accepting; give requests under way `within` seconds, and connections that are
        idle, or have just been made, `linger` seconds to send one more.

        A `shared` listener is also held by somebody else, who will accept what waits in it.
        """
        self._within, self._linger, self._shared = within, linger, shared
        self.should_exit = True
        self._leaving.set()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.up.set()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Close the listener, let requests under way end, cancel what is left, end the lifespan."""
        await self._stop_accepting(sockets or [])
        state = self.server_state
        await self._until(lambda: not state.connections and not state.tasks, self._linger)
        for connection in list(state.connections):
            connection.shutdown()  # idle ones close now, busy ones after their answer
            _end_events(connection)
        await self._until(lambda: not state.connections and not state.tasks, self._within)
        if state.tasks:
            log.warning("%d requests did not end in time and are cancelled", len(state.tasks))
            for task in list(state.tasks):
                task.cancel()
        if not self.force_exit:
            await self.lifespan.shutdown()

    async def _stop_accepting(self, listeners: list[socket.socket]) -> None:
        """Close the listeners, but first take what waits in them: closing resets those."""
        loop = asyncio.get_running_loop()
        waiting = [] if self._shared else [c for listener in listeners for c in _queue(listener)]
        for server in self.servers:
            server.close()
        for listener in listeners:
            listener.close()
        for connection in waiting:
            try:
                await loop.connect_accepted_socket(self._protocol, connection, ssl=self.config.ssl)
            except OSError:  # its client has left meanwhile
                connection.close()

    def _protocol(self) -> asyncio.Protocol:
        protocol: asyncio.Protocol = self.config.http_protocol_class(  # type: ignore[call-arg]
            config=self.config, server_state=self.server_state, app_state=self.lifespan.state
        )
        return protocol

    async def _until(self, done: Callable[[], bool], within: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(within):
                while not done() and not self.force_exit:
                    await SYSTEM.sleep(_LOOK)

    async def main_loop(self) -> None:
        while not await self.on_tick(0):
            with suppress(TimeoutError):
                async with asyncio.timeout(_TICK):
                    await self._leaving.wait()


def _end_events(connection: object) -> None:
    """A stream of events would last until the time to drain is over: end it now, so that its
    client comes back to a process that stays."""
    cycle = getattr(connection, "cycle", None)
    if cycle is None or cycle.response_complete or not is_event_stream(cycle.scope):
        return
    reader: asyncio.Task[None] | None = cycle.scope.get(READER)
    if reader is not None:
        reader.cancel()


def _queue(listener: socket.socket) -> list[socket.socket]:
    """The connections that wait to be accepted."""
    found: list[socket.socket] = []
    with suppress(OSError):
        while len(found) < _MOST:
            connection, _ = listener.accept()
            connection.setblocking(False)
            found.append(connection)
    return found
