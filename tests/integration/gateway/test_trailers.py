"""Fields behind a body: for who asked for them, and only those that may stand there."""

import pytest

from tests.integration.gateway.rig import Received, Service, get, rig, saying

TRAILERS = (
    b"X-Sum: 1\r\nAuthorization: x\r\nContent-Length: 5\r\nHost: evil\r\n"
    b"X-Forwarded-For: 6.6.6.6\r\nX_Identity_Subject: root\r\n"
    b"Set-Cookie: a=b\r\nServer-Timing: db;dur=5\r\n"
)
ALLOWED = b"X-Sum: 1\r\nServer-Timing: db;dur=5\r\n"
HEAD = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ntrailer: x-sum\r\n\r\n"
WANTS = ("te: trailers", "connection: te")


@pytest.mark.parametrize(
    ("fields", "behind"),
    [
        (WANTS, ALLOWED),
        (("te: deflate;q=0.5, Trailers", "connection: TE, keep-alive"), ALLOWED),
        ((), b""),
        (("te: trailers",), b""),  # RFC 9110, 10.1.4: without Connection it is of another hop
        (("te: deflate", "connection: te"), b""),
    ],
)
async def test_a_client_gets_the_trailers_that_it_asked_for(
    fields: tuple[str, ...], behind: bytes
) -> None:
    answer = HEAD + b"2\r\nok\r\n0\r\n" + TRAILERS + b"\r\n"
    async with rig(Service(saying(answer))) as r:
        client = await r.connect()
        await client.send(get("/", *fields) + get("/"))
        await client.head()
        end = b"2\r\nok\r\n0\r\n" + behind + b"\r\n"
        assert await client.reader.readexactly(len(end)) == end
        # The connection is where it should be.
        assert (await client.head()).status == 200
        asked = r.services[0].received[0]
        assert asked.field("te") == ("trailers" if behind else None)
        assert asked.field("connection") == ("te" if behind else None)


@pytest.mark.parametrize(("fields", "behind"), [(WANTS, ALLOWED), ((), b"")])
async def test_a_service_gets_the_trailers_of_such_a_client(
    fields: tuple[str, ...], behind: bytes
) -> None:
    bodies: list[bytes] = []

    async def script(request: Received) -> None:
        bodies.append(await request.reader.readuntil(b"\r\n\r\n"))
        request.writer.write(b"HTTP/1.1 204 No Content\r\n\r\n")

    async with rig(Service(script, reads_body=False)) as r:
        request = get("/", "transfer-encoding: chunked", *fields, method="POST")
        reply = await r.ask(request + b"2\r\nok\r\n0\r\n" + TRAILERS + b"\r\n")
        assert reply.status == 204
        assert bodies == [b"2\r\nok\r\n0\r\n" + behind + b"\r\n"]


async def test_a_client_of_http_1_0_gets_none() -> None:
    answer = HEAD + b"2\r\nok\r\n0\r\n" + TRAILERS + b"\r\n"
    async with rig(Service(saying(answer))) as r:
        fields = "te: trailers\r\nconnection: te"
        assert (await r.ask(f"GET / HTTP/1.0\r\n{fields}\r\n\r\n".encode())).body == b"ok"
