"""The socket of a RabbitMQ connection, shared by aiormq and by channels of our own.

aiormq makes the connection, keeps it alive and speaks on channels from 1 upwards; what comes for
them goes on to it. Ours (see `rabbit_channel`) are numbered from the highest one downwards.
"""

import asyncio
import struct
from collections.abc import Callable
from typing import Any

from aiormq.connection import TransportFactory
from pamqp.exceptions import PAMQPException
from yarl import URL

from seawall.messaging.transports.rabbit_channel import Channel
from seawall.messaging.transports.rabbit_frames import Splitter

LIMIT = 64 * 1024  # bytes that aiormq may have unread before the broker has to wait

# aiormq takes a connection for dead on which it hears nothing, though we hear much.
HEARTBEAT = b"\x08\x00\x00\x00\x00\x00\x00\xce"
TELL_EVERY = 1.0  # seconds


class Socket(asyncio.StreamReaderProtocol):
    """What a connection brings, to whom it is for."""

    def __init__(self, reader: asyncio.StreamReader, now: Callable[[], float]) -> None:
        super().__init__(reader, loop=asyncio.get_running_loop())
        self.channels: dict[int, Channel] = {}
        self.transport: asyncio.Transport | None = None
        self._now = now
        self._told = now()
        self._splitter = Splitter()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]  # uvloop's is no subclass
        super().connection_made(transport)

    def data_received(self, data: bytes) -> None:
        channels = self.channels
        others = []
        try:
            for kind, number, frame in self._splitter.feed(data):
                channel = channels.get(number)
                if channel is None:
                    others.append(frame)
                else:
                    channel.take(kind, frame)
        except (ValueError, IndexError, struct.error, PAMQPException):
            if self.transport is not None:
                self.transport.abort()
            return
        now = self._now()
        if others:
            super().data_received(b"".join(others))
            self._told = now
        elif now - self._told >= TELL_EVERY:
            super().data_received(HEARTBEAT)
            self._told = now

    def write(self, packed: bytes) -> None:
        """Whole frames."""
        if self.transport is not None and not self.transport.is_closing():
            self.transport.write(packed)


class Sharing(TransportFactory):
    """Makes one connection whose socket is shared."""

    def __init__(self) -> None:
        self.socket: Socket | None = None

    async def create(
        self, url: URL, **options: Any
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        provider = options.pop("ssl_context_provider")
        tls = await provider.get_context() if url.scheme == "amqps" else None
        loop = asyncio.get_running_loop()
        reader = asyncio.StreamReader(limit=LIMIT, loop=loop)
        socket = self.socket = Socket(reader, loop.time)
        transport, _ = await loop.create_connection(
            lambda: socket, url.host or "localhost", url.port or 0, ssl=tls, **options
        )
        return reader, asyncio.StreamWriter(transport, socket, reader, loop)
