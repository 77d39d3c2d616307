"""Streams that are kept open: which ends are clean, and which have failed."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from seawall.concurrency.tasks import Tasks
from seawall.load.streams import Streams, StreamsVerified
from seawall.topology import Address
from tests.support.waiting import eventually

EVENT = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\n:ok\n\n\r\n"
SOCKET = b"HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\n\r\n"


class Server:
    """Answers each connection with `head`, and ends it as told."""

    def __init__(self, head: bytes) -> None:
        self.head = head
        self.asked: list[bytes] = []
        self.open: list[asyncio.StreamWriter] = []

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.asked.append(await reader.readuntil(b"\r\n\r\n"))
        self.open.append(writer)
        writer.write(self.head)
        await reader.read()  # until the client has gone
        writer.close()

    def end(self, last: bytes) -> None:
        for writer in self.open:
            writer.write(last)
            writer.close()
        self.open.clear()


@asynccontextmanager
async def serving(head: bytes) -> AsyncIterator[tuple[Server, Address]]:
    server = Server(head)
    listening = await asyncio.start_server(server, "127.0.0.1", 0)
    async with listening:
        yield server, Address(*listening.sockets[0].getsockname()[:2])


async def ended(head: bytes, last: bytes, *, websocket: bool = False) -> StreamsVerified:
    """What is verified where three streams end with `last` and are opened again."""
    async with serving(head) as (server, address), Tasks() as tasks:
        over = asyncio.Event()
        streams = Streams(address, "/events", (), 3, websocket=websocket)
        run = tasks.start(streams.run(over.is_set))
        await streams.tried()
        assert len(server.open) == 3
        server.end(last)
        await eventually(lambda: len(server.open) == 3)
        over.set()
        verified: StreamsVerified = await run
        assert server.asked[0].startswith(b"GET /events HTTP/1.1\r\n")
        return verified


async def test_a_last_chunk_is_a_clean_end() -> None:
    verified = await ended(EVENT, b"0\r\n\r\n")
    assert verified == StreamsVerified(6, 3, ())
    assert str(verified) == "6 streams opened meanwhile, 3 ended cleanly, 0 failed"


async def test_a_stream_without_its_last_chunk_was_cut() -> None:
    assert await ended(EVENT, b"") == StreamsVerified(6, 0, (("the stream was cut", 3),))


async def test_a_close_frame_is_a_clean_end_of_a_websocket() -> None:
    verified = await ended(SOCKET, b"\x88\x02\x03\xe9", websocket=True)
    assert verified == StreamsVerified(6, 3, ())


async def test_a_websocket_without_a_close_frame_was_cut() -> None:
    verified = await ended(SOCKET + b"\x81\x02hi", b"", websocket=True)
    assert verified.failures == (("the WebSocket was cut without a Close frame", 3),)


@pytest.mark.parametrize(
    ("head", "why"),
    [
        (b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n", "status 404"),
        (SOCKET, "status 101"),
    ],
)
async def test_what_is_no_stream_has_failed(head: bytes, why: str) -> None:
    async with serving(head) as (_, address), Tasks() as tasks:
        over = asyncio.Event()
        streams = Streams(address, "/events", (), 2)
        run = tasks.start(streams.run(over.is_set))
        await streams.tried()  # nobody waits for what cannot be opened
        over.set()
        verified: StreamsVerified = await run
        assert verified.opened == 0
        assert {what for what, _ in verified.failures} == {why}
        assert verified.failed >= 2
