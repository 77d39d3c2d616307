"""Server-sent events: each arrives when it is sent, and who leaves is missed."""

import asyncio
import socket

from seawall.gateway.compression import Compression
from seawall.gateway.config import Route, Timeouts
from tests.integration.gateway.rig import Received, Service, get, rig
from tests.support.waiting import eventually

HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
# Of a stream whose client reads nothing, what kernels and the gateway may hold at most.
HELD = 24 * 1024 * 1024


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


async def test_each_event_arrives_before_the_next_is_sent() -> None:
    read = asyncio.Semaphore(0)

    async def script(request: Received) -> None:
        request.writer.write(HEAD)
        for number in range(20):
            request.writer.write(chunk(b"data: %d\n\n" % number))
            await read.acquire()  # until the client has it
        request.writer.write(b"0\r\n\r\n")

    routes = (Route(service="shop", timeouts=Timeouts(total=0.5), compression=Compression()),)
    async with rig(Service(script), routes=routes) as r:
        client = await r.connect()
        await client.send(get("/", "accept-encoding: gzip", "last-event-id: 41"))
        assert (await client.head()).field("content-encoding") is None
        for number in range(20):
            event = chunk(b"data: %d\n\n" % number)
            assert await client.reader.readexactly(len(event)) == event
            read.release()
        assert await client.reader.readexactly(5) == b"0\r\n\r\n"
        assert r.services[0].received[0].field("last-event-id") == "41"


async def test_a_client_that_leaves_is_missed_by_the_service() -> None:
    left = asyncio.Event()

    async def script(request: Received) -> None:
        request.writer.write(HEAD + chunk(b"data: hello\n\n"))
        await request.reader.read()
        left.set()

    async with rig(Service(script)) as r:
        client = await r.connect()
        await client.send(get())
        await client.head()
        client.close()
        await asyncio.wait_for(left.wait(), 5)
        assert (await r.logged())[0]["flags"] == "DC"


async def test_a_slow_reader_slows_its_service_down_and_nobody_else() -> None:
    event = b"data: " + b"x" * 65_536 + b"\n\n"
    sent = 0
    paused = asyncio.Event()

    async def script(request: Received) -> None:
        nonlocal sent
        if request.line.startswith(b"GET /other"):
            request.writer.write(b"HTTP/1.1 204 No Content\r\n\r\n")
            return
        request.writer.write(HEAD)
        while sent < 4 * HELD:
            request.writer.write(chunk(event))
            sent += len(event)
            try:
                async with asyncio.timeout(0.5):
                    await request.writer.drain()
            except TimeoutError:
                paused.set()
                await request.writer.drain()
        request.writer.write(b"0\r\n\r\n")

    async with rig(Service(script)) as r:
        client = await r.connect()
        client.writer.get_extra_info("socket").setsockopt(
            socket.SOL_SOCKET, socket.SO_RCVBUF, 64 * 1024
        )
        await client.send(get())
        await paused.wait()
        assert sent < HELD
        assert (await r.get("/other")).status == 204
        # It takes the rest, and nothing is missing.
        await client.head()
        body = 0
        while size := int(await client.reader.readuntil(b"\r\n"), 16):
            await client.reader.readexactly(size + 2)
            body += size
        assert body == sent


async def test_a_service_that_breaks_off_is_no_end_of_the_stream() -> None:
    async def script(request: Received) -> None:
        request.writer.write(HEAD + chunk(b"data: hello\n\n"))
        await request.writer.drain()
        request.writer.transport.abort()

    async with rig(Service(script)) as r:
        client = await r.connect()
        await client.send(get())
        await client.head()
        rest = b""
        try:
            rest = await client.reader.read()
        except ConnectionResetError:
            rest = b""
        assert not rest.endswith(b"0\r\n\r\n")
        await eventually(lambda: r.gateway.proxy.metrics.active_requests == 0)
        assert (await r.logged())[0]["flags"] == "UC"
