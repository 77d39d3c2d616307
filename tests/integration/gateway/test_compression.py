"""Answers made shorter on their way, and those that must not be."""

import asyncio
import zlib
from collections.abc import Callable

import brotli
import pytest
import zstandard

from seawall.gateway import coding
from seawall.gateway.compression import Compression
from seawall.gateway.config import Route, Upstreams
from tests.integration.gateway.rig import Received, Reply, Service, get, rig, saying
from tests.support.waiting import eventually

BODY = b'{"name": "a name", "tags": ["a", "b"]}' * 1000
PACKED = (Route(service="shop", compression=Compression()),)
UNPACK: dict[str | None, Callable[[bytes], bytes]] = {
    "gzip": lambda data: zlib.decompress(data, 31),
    "br": brotli.decompress,
    "zstd": lambda data: zstandard.ZstdDecompressor().decompressobj().decompress(data),
    None: lambda data: data,
}
ALL = "accept-encoding: gzip, br, zstd"


def unpacked(reply: Reply) -> bytes:
    return UNPACK[reply.field("content-encoding")](reply.body)


def whole(*fields: bytes, body: bytes = BODY, status: bytes = b"200 OK") -> bytes:
    lines = [b"HTTP/1.1 " + status, b"content-type: application/json", *fields]
    return b"\r\n".join([*lines, b"content-length: %d" % len(body), b"", body])


def chunked(*pieces: bytes) -> bytes:
    head = b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ntransfer-encoding: chunked\r\n\r\n"
    return head + b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in (*pieces, b""))


@pytest.mark.parametrize("wanted", ["gzip", "br", "zstd"])
async def test_an_answer_is_compressed_as_its_client_likes(wanted: str) -> None:
    answer = whole(b'etag: "1"', b"accept-ranges: bytes")
    async with rig(Service(saying(answer)), routes=PACKED) as r:
        client = await r.connect()
        await client.send(get("/", f"accept-encoding: {wanted}") + get("/"))
        reply = await client.reply()
        assert reply.field("content-encoding") == wanted
        assert unpacked(reply) == BODY
        assert len(reply.body) < len(BODY) / 10
        assert reply.field("transfer-encoding") == "chunked"
        assert reply.field("content-length") is reply.field("accept-ranges") is None
        assert (reply.field("etag"), reply.field("vary")) == ('W/"1"', "accept-encoding")
        # The connection goes on, and who does not ask for it gets what the service said.
        plain = await client.reply()
        assert (plain.body, plain.field("etag")) == (BODY, '"1"')
        assert plain.field("vary") == "accept-encoding"
        assert (await r.logged(2))[0]["bytes_out"] < len(BODY)


@pytest.mark.parametrize(
    "answer",
    [
        whole(body=b"{}"),
        whole(b"content-encoding: br"),
        whole(b"cache-control: no-transform"),
        whole(b"content-range: bytes 0-9/10", status=b"206 Partial Content"),
        whole(b"content-type: image/png").replace(b"content-type: application/json\r\n", b""),
    ],
)
async def test_others_are_left_as_they_are(answer: bytes) -> None:
    body = answer.partition(b"\r\n\r\n")[2]
    async with rig(Service(saying(answer)), routes=PACKED) as r:
        reply = await r.get("/", ALL)
        assert reply.body == body
        assert reply.field("content-length") == str(len(body))


async def test_what_has_no_body_is_left_alone() -> None:
    async with rig(Service(saying(whole(body=b"")[:-2] + b"\r\n")), routes=PACKED) as r:
        reply = await r.ask(get("/", ALL, method="HEAD"), to_head=True)
        assert reply.field("content-encoding") is None


async def test_a_client_of_http_1_0_gets_what_the_service_said() -> None:
    async with rig(Service(saying(whole())), routes=PACKED) as r:
        reply = await r.ask(f"GET / HTTP/1.0\r\nhost: a\r\n{ALL}\r\n\r\n".encode())
        assert (reply.body, reply.field("content-encoding")) == (BODY, None)


@pytest.mark.parametrize(
    ("answer", "close"),
    [
        (chunked(b"one ", b"two ", b"three"), False),
        (b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\n\r\none two three", True),
    ],
)
async def test_a_body_of_unknown_length_is_framed_anew(answer: bytes, close: bool) -> None:
    async with rig(Service(saying(answer, close=close)), routes=PACKED) as r:
        reply = await r.get("/", ALL)
        assert (reply.field("content-encoding"), unpacked(reply)) == ("zstd", b"one two three")


async def test_pieces_of_unknown_length_arrive_when_they_are_sent() -> None:
    read = asyncio.Event()

    async def script(request: Received) -> None:
        pieces = chunked(b"first", b"second")
        at = pieces.index(b"6\r\nsecond")
        request.writer.write(pieces[:at])
        await read.wait()  # until the client has the first, there is no second
        request.writer.write(pieces[at:])

    async with rig(Service(script), routes=PACKED) as r:
        client = await r.connect()
        await client.send(get("/", "accept-encoding: gzip"))
        await client.head()
        unpack = zlib.decompressobj(31)
        text = b""
        while text != b"first":
            size = int(await client.reader.readuntil(b"\r\n"), 16)
            text += unpack.decompress((await client.reader.readexactly(size + 2))[:-2])
        read.set()
        while not unpack.eof:
            size = int(await client.reader.readuntil(b"\r\n"), 16)
            text += unpack.decompress((await client.reader.readexactly(size + 2))[:-2])
        assert text == b"firstsecond"


async def test_events_are_never_compressed() -> None:
    answer = (
        b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n"
        b"transfer-encoding: chunked\r\n\r\n8\r\ndata: a\n\r\n0\r\n\r\n"
    )
    async with rig(Service(saying(answer)), routes=PACKED) as r:
        reply = await r.get("/", ALL)
        assert (reply.body, reply.field("content-encoding")) == (b"data: a\n", None)


async def test_a_route_of_streams_is_not_compressed() -> None:
    routes = (Route(service="shop", stream=True, compression=Compression()),)
    async with rig(Service(saying(chunked(b"one"))), routes=routes) as r:
        assert (await r.get("/", ALL)).body == b"one"


async def test_an_answer_that_breaks_off_has_no_end() -> None:
    cut = whole()[:-10]
    async with rig(Service(saying(cut, close=True)), routes=PACKED) as r:
        with pytest.raises((asyncio.IncompleteReadError, ConnectionResetError)):
            await r.get("/", ALL)


async def test_a_large_answer_to_a_slow_client_is_whole() -> None:
    body = BODY * 200  # 7.6 MB
    async with rig(Service(saying(whole(body=body))), routes=PACKED) as r:
        client = await r.connect()
        await client.send(get("/", "accept-encoding: gzip"))
        await client.head()
        unpack = zlib.decompressobj(31)
        count = 0
        while not unpack.eof:
            size = int(await client.reader.readuntil(b"\r\n"), 16)
            count += len(unpack.decompress((await client.reader.readexactly(size + 2))[:-2]))
        assert count == len(body)


async def test_only_so_many_answers_are_compressed_at_once() -> None:
    go_on = asyncio.Event()

    async def script(request: Received) -> None:
        pieces = chunked(b"first", b"second")
        request.writer.write(pieces[:-5])
        if request.field("x-slow"):
            await go_on.wait()
        request.writer.write(pieces[-5:])

    many = Upstreams(max_connections=coding.MAX_CODERS + 10)
    async with rig(Service(script), routes=PACKED, upstreams=many) as r:
        for _ in range(coding.MAX_CODERS):
            client = await r.connect()
            await client.send(get("/", ALL, "x-slow: 1"))
            assert (await client.head()).field("content-encoding") == "zstd"
        reply = await r.get("/", ALL)
        assert (reply.field("content-encoding"), reply.body) == (None, b"firstsecond")
        # A client that leaves makes room, and so does an answer that ends.
        r.clients[0].close()
        await eventually(lambda: r.gateway.proxy.metrics.active_requests < coding.MAX_CODERS)
        assert (await r.get("/", ALL)).field("content-encoding") == "zstd"
        go_on.set()
