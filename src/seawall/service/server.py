"""uvicorn's server without its signals, and stopped by an event instead of a look now and then."""

import asyncio
import logging
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import uvicorn

from seawall.clock import SYSTEM

# How often the Date header is renewed.
_TICK = 1.0  # seconds


# How often we look whether the last request has ended.
_LOOK = 0.005  # seconds

log = logging.getLogger("seawall.service")


class Server(uvicorn.Server):
    """`up` is set once it listens; `leave` makes `serve` close and return."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.up = asyncio.Event()
        self._leaving = asyncio.Event()

    def leave(self, within: float) -> None:
        """Close the listener; give requests under way `within` seconds."""
        self.config.timeout_graceful_shutdown = within  # type: ignore[assignment]  # any number does
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
        for server in self.servers:
            server.close()
        for listener in sockets or ():
            listener.close()
        state = self.server_state
        for connection in list(state.connections):
            connection.shutdown()  # idle ones close now, busy ones after their answer
        with suppress(TimeoutError):
            async with asyncio.timeout(self.config.timeout_graceful_shutdown):
                while (state.connections or state.tasks) and not self.force_exit:
                    await SYSTEM.sleep(_LOOK)
        if state.tasks:
            log.warning("%d requests did not end in time and are cancelled", len(state.tasks))
            for task in list(state.tasks):
                task.cancel()
        if not self.force_exit:
            await self.lifespan.shutdown()

    async def main_loop(self) -> None:
        while not await self.on_tick(0):
            with suppress(TimeoutError):
                async with asyncio.timeout(_TICK):
                    await self._leaving.wait()
