"""What a client and a service see of each other when both behave."""

import asyncio

import pytest

from seawall.gateway.config import Route, Timeouts
from tests.integration.gateway.rig import OK, Received, Service, get, post, rig, saying
from tests.support.waiting import eventually


async def test_a_request_is_passed_on_with_what_the_gateway_knows() -> None:
    async with rig(Service()) as shop:
        reply = await shop.get("/items/7?colour=red", "accept: */*")
        received = shop.services[0].received[0]
        assert (reply.status, reply.body) == (200, b"ok")
        assert received.line == b"GET /items/7?colour=red HTTP/1.1"
        assert received.field("host") == "shop.example"
        assert received.field("accept") == "*/*"
        assert received.field("x-forwarded-for") == "127.0.0.1"
        assert received.field("x-forwarded-proto") == "http"
        assert received.field("x-forwarded-host") == "shop.example"
        assert received.field("x-request-id") == reply.field("x-request-id")
        trace = received.field("traceparent")
        assert trace is not None
        assert trace.split("-")[1] == reply.field("x-request-id")
        assert 14_000 < int(received.field("x-deadline-ms") or 0) <= 15_000
        line = (await shop.logged())[0]
        assert (line["path"], line["status"], line["flags"]) == ("/items/7", 200, "-")
        assert (line["service"], line["instance"], line["attempts"]) == ("shop", "shop-1", 1)
        assert line["trace_id"] == trace.split("-")[1]


async def test_both_connections_are_kept() -> None:
    async with rig(Service()) as shop:
        client = await shop.connect()
        for _ in range(5):
            await client.send(get())
            assert (await client.reply()).body == b"ok"
        assert shop.services[0].connections == 1


async def test_pipelined_requests_are_answered_in_their_order() -> None:
    async def echo(request: Received) -> None:
        path = request.line.split(b" ")[1]
        request.writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b" % (len(path), path))

    async with rig(Service(echo)) as shop:
        client = await shop.connect()
        await client.send(b"".join(get(f"/{number}") for number in range(20)))
        assert [(await client.reply()).body for _ in range(20)] == [
            b"/%d" % number for number in range(20)
        ]


@pytest.mark.parametrize("cut", [1, 7, 100])
async def test_a_request_may_come_in_pieces(cut: int) -> None:
    async with rig(Service()) as shop:
        client = await shop.connect()
        data = post(b"x" * 50, "a: b") + get("/next")
        for start in range(0, len(data), cut):
            client.writer.write(data[start : start + cut])
            await client.writer.drain()
        assert (await client.reply()).status == 200
        assert (await client.reply()).status == 200
        first, second = shop.services[0].received
        assert first.body == b"x" * 50
        assert second.line == b"GET /next HTTP/1.1"


async def test_a_body_is_passed_on_whatever_its_framing() -> None:
    body = bytes(range(256)) * 4000
    async with rig(Service()) as shop:
        assert (await shop.ask(post(body))).status == 200
        chunks = b"".join(
            b"%x;ext=1\r\n%b\r\n" % (1000, body[i : i + 1000]) for i in range(0, 10_000, 1000)
        )
        head = get("/", "transfer-encoding: chunked", method="POST")
        assert (await shop.ask(head + chunks + b"0\r\nx-trailer: y\r\n\r\n")).status == 200
        sized, chunked = shop.services[0].received
        assert sized.body == body
        assert chunked.body == body[:10_000]
        assert chunked.field("transfer-encoding") == "chunked"
        assert chunked.field("content-length") is None


async def test_large_answers_are_passed_on_whole() -> None:
    body = b"0123456789" * 200_000
    answer = b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body)
    async with rig(Service(saying(answer))) as shop:
        assert (await shop.get()).body == body
        assert (await shop.logged())[0]["bytes_out"] == len(body)


CHUNKED = (
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5;x=y\r\nhello\r\n0\r\na: b\r\n\r\n"
)


async def test_chunked_answers_lose_their_extensions_and_trailers() -> None:
    async with rig(Service(saying(CHUNKED))) as shop:
        reply = await shop.get()
        assert reply.body == b"hello"
        assert reply.raw.endswith(b"\r\n\r\n5\r\nhello\r\n0\r\n\r\n")


async def test_old_clients_get_no_chunks_and_no_interim_answers() -> None:
    request = b"GET / HTTP/1.0\r\nhost: a\r\nexpect: 100-continue\r\n\r\n"
    hints = b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n"
    async with rig(Service(saying(hints + CHUNKED))) as shop:
        reply = await shop.ask(request)
        assert (reply.status, reply.body) == (200, b"hello")
        assert reply.field("transfer-encoding") is None
        assert reply.field("connection") == "close"


async def test_an_old_client_need_not_say_whom_it_asks() -> None:
    async with rig(Service()) as shop:
        reply = await shop.ask(b"GET / HTTP/1.0\r\n\r\n")
        assert (reply.status, reply.body) == (200, b"ok")
        received = shop.services[0].received[0]
        assert received.line == b"GET / HTTP/1.1"
        assert received.fields("host") == ["shop"]
        assert received.fields("x-forwarded-host") == ["shop"]


async def test_an_answer_that_ends_with_its_connection_becomes_chunked() -> None:
    answer = b"HTTP/1.1 200 OK\r\n\r\nhello"
    async with rig(Service(saying(answer, close=True))) as shop:
        client = await shop.connect()
        for _ in range(2):
            await client.send(get())
            assert (await client.reply()).body == b"hello"


@pytest.mark.parametrize(
    ("request_", "answer"),
    [
        (get(method="HEAD"), b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n"),
        (get(), b"HTTP/1.1 204 No Content\r\n\r\n"),
        (get(), b"HTTP/1.1 304 Not Modified\r\ncontent-length: 5\r\n\r\n"),
    ],
)
async def test_answers_without_body(request_: bytes, answer: bytes) -> None:
    async with rig(Service(saying(answer))) as shop:
        client = await shop.connect()
        await client.send(request_ * 2)
        for _ in range(2):
            reply = await client.reply(to_head=True)
            assert reply.raw.startswith(answer[:-2])


async def test_hop_by_hop_fields_stay_on_their_hop_in_both_directions() -> None:
    answer = (
        b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nConnection: keep-alive, x-hop\r\n"
        b"X-Hop: 1\r\nKeep-Alive: timeout=5\r\nProxy-Authenticate: x\r\n\r\nok"
    )
    async with rig(Service(saying(answer))) as shop:
        reply = await shop.get("/", "connection: x-hop", "x-hop: 1", "te: trailers")
        names = {name for name, _ in reply.fields}
        assert names == {"content-length", "x-request-id"}
        assert shop.services[0].received[0].fields("x-hop") == []
        assert shop.services[0].received[0].fields("te") == []


async def test_a_client_may_wait_before_it_sends_its_body() -> None:
    async with rig(Service()) as shop:
        client = await shop.connect()
        await client.send(get("/", "content-length: 5", "expect: 100-continue", method="POST"))
        assert (await client.reply()).status == 100
        await client.send(b"hello")
        assert (await client.reply()).status == 200
        received = shop.services[0].received[0]
        assert received.body == b"hello"
        assert received.field("expect") is None


async def test_early_hints_are_passed_on_and_other_interim_answers_are_not() -> None:
    interim = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: </a.css>\r\n\r\n"
    async with rig(Service(saying(interim + OK))) as shop:
        client = await shop.connect()
        await client.send(get())
        hints = await client.reply()
        assert (hints.status, hints.field("link")) == (103, "</a.css>")
        assert (await client.reply()).status == 200


async def test_server_sent_events_come_as_they_are_sent() -> None:
    more = asyncio.Event()

    async def stream(request: Received) -> None:
        request.writer.write(
            b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n"
            b"transfer-encoding: chunked\r\n\r\n9\r\ndata: 1\n\n\r\n"
        )
        await more.wait()
        request.writer.write(b"9\r\ndata: 2\n\n\r\n0\r\n\r\n")

    routes = (Route(service="shop", timeouts=Timeouts(total=0.3)),)
    async with rig(Service(stream), routes=routes) as shop:
        client = await shop.connect()
        await client.send(get())
        await client.head()
        assert await client.reader.readexactly(14) == b"9\r\ndata: 1\n\n\r\n"
        began = shop.gateway.proxy.now()
        await eventually(lambda: shop.gateway.proxy.now() - began > 0.6)
        more.set()
        assert await client.reader.readexactly(19) == b"9\r\ndata: 2\n\n\r\n0\r\n\r\n"


async def test_a_stream_whose_reader_leaves_is_ended() -> None:
    gone = asyncio.Event()

    async def stream(request: Received) -> None:
        request.writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n: hi\n\n")
        await request.reader.read()
        gone.set()

    async with rig(Service(stream)) as shop:
        client = await shop.connect()
        await client.send(get())
        await client.head()
        client.close()
        async with asyncio.timeout(10):
            await gone.wait()
        assert (await shop.logged())[0]["flags"] == "DC"


async def test_a_client_that_has_ended_its_side_is_answered() -> None:
    async with rig(Service()) as shop:
        client = await shop.connect()
        await client.send(get())
        client.writer.write_eof()
        assert (await client.reply()).body == b"ok"
        assert await client.is_closed()


async def test_paths_are_rewritten_and_the_canonical_one_is_sent() -> None:
    routes = (Route(service="shop", path="/api/shop", rewrite="/v1"),)
    async with rig(Service(), routes=routes) as shop:
        await shop.get("/api/./%73hop//items/%7e?x=%2f")
        assert shop.services[0].received[0].line == b"GET /v1/items/~?x=%2f HTTP/1.1"


# another protocol


async def upgrade(request: Received) -> None:
    request.writer.write(
        b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\nhello"
    )
    while data := await request.reader.read(100):
        request.writer.write(data.upper())


UPGRADE = (
    "connection: Upgrade",
    "upgrade: websocket",
    "sec-websocket-version: 13",
    "sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==",  # the example of RFC 6455
)


async def test_a_websocket_is_a_tunnel() -> None:
    async with rig(Service(upgrade)) as shop:
        client = await shop.connect()
        await client.send(get("/", *UPGRADE) + b"early")
        reply = await client.reply()
        assert (reply.status, reply.field("upgrade")) == (101, "websocket")
        assert reply.field("connection") == "upgrade"
        assert await client.reader.readexactly(10) == b"helloEARLY"
        await client.send(b"more")
        assert await client.reader.readexactly(4) == b"MORE"
        client.writer.write_eof()
        assert await client.is_closed()
        received = shop.services[0].received[0]
        assert received.field("upgrade") == "websocket"
        assert received.field("connection") == "upgrade"
        line = (await shop.logged())[0]
        assert (line["status"], line["bytes_in"], line["bytes_out"]) == (101, 9, 14)


async def test_other_upgrades_are_not_passed_on() -> None:
    async with rig(Service()) as shop:
        await shop.get(
            "/", "connection: upgrade, http2-settings", "upgrade: h2c", "http2-settings: x"
        )
        received = shop.services[0].received[0]
        assert received.field("upgrade") is None
        assert received.field("connection") is None
        assert received.field("http2-settings") is None


async def test_an_upgrade_that_is_declined_is_an_ordinary_answer() -> None:
    async with rig(Service()) as shop:
        client = await shop.connect()
        await client.send(get("/", *UPGRADE))
        assert (await client.reply()).status == 200
        await client.send(get())
        assert (await client.reply()).status == 200
