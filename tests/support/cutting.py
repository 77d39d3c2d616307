"""A TCP relay whose connections a test can cut."""

import asyncio
from typing import Self


class CuttableRelay:
    """Relays a local port of its own to `port`; `cut` resets every connection there is."""

    def __init__(self, port: int) -> None:
        self._target = port
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self._until_cut = 0
        self.accepted = 0
        self.port = 0

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def open(self) -> None:
        """Listen, again on the same port if it did before."""
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def close(self) -> None:
        """Refuse connections, as if nothing were there."""
        assert self._server is not None
        self._server.close()
        self.cut()
        await asyncio.sleep(0)

    def lead_to(self, port: int) -> None:
        """From here on; for a server that is told the relay's port when it starts."""
        self._target = port

    def cut_after(self, pieces: int) -> None:
        """Cut when so many more pieces of data have been relayed, one way or the other."""
        self._until_cut = pieces

    def cut(self) -> None:
        self._until_cut = 0
        for writer in tuple(self._writers):
            writer.transport.abort()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        try:
            onward = await asyncio.open_connection("127.0.0.1", self._target)
        except OSError:
            writer.transport.abort()
            return
        self._writers |= {writer, onward[1]}
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._pump(reader, onward[1]))
            tasks.create_task(self._pump(onward[0], writer))

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
                self._until_cut -= 1
                if self._until_cut == 0:
                    self.cut()
        except OSError:
            pass
        finally:
            writer.transport.abort()
            self._writers.discard(writer)
