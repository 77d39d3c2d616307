"""Calls between services: found, balanced, retried where it is safe, cut off where it is not."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from pydantic import BaseModel

from seawall import (
    BreakerOpen,
    CallFailed,
    CallRefused,
    Client,
    DeadlineExceeded,
    Misconfigured,
    NoInstance,
    OutcomeUnknown,
    Response,
    Service,
    Unavailable,
)
from seawall.registry.connect import open_registry
from seawall.registry.watcher import Watcher
from seawall.service import context
from seawall.service.calls import CallMade, ClientConfig
from seawall.service.response import UnexpectedAnswer
from seawall.testing.platform import Platform
from seawall.topology import Address, Instance, InstanceState
from seawall.transport.http1 import AnswerTooLarge
from seawall.transport.pool import ConnectFailed, PoolConfig
from tests.support.servers import free_port
from tests.support.waiting import eventually_async

Script = Callable[[bytes, asyncio.StreamWriter], Any]


class Peer:
    """A server that answers as told and remembers what it was sent."""

    def __init__(self) -> None:
        self.requests: list[bytes] = []
        self.connections = 0
        self.answers: list[bytes | None] = []  # None: close without a word; empty: 200
        self.port = 0

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = next(
                    (
                        int(line.split(b":")[1])
                        for line in head.split(b"\r\n")
                        if line.lower().startswith(b"content-length")
                    ),
                    0,
                )
                self.requests.append(head + await reader.readexactly(length))
                answer = self.answers.pop(0) if self.answers else OK
                if answer is None:
                    return
                writer.write(answer)
        except (asyncio.IncompleteReadError, ConnectionError):
            return
        finally:
            writer.close()


OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-type: application/json\r\n\r\n{}"


def answer(status: int, body: bytes = b"", **headers: str) -> bytes:
    lines = [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    lines.append(f"content-length: {len(body)}")
    head = "\r\n".join([f"HTTP/1.1 {status} X", *lines])
    return head.encode() + b"\r\n\r\n" + body


@asynccontextmanager
async def peer() -> AsyncIterator[Peer]:
    found = Peer()
    server = await asyncio.start_server(found, "127.0.0.1", 0)
    found.port = server.sockets[0].getsockname()[1]
    async with server:
        yield found
        server.close()


@asynccontextmanager
async def client_of(unique: str, *ports: int, **more: Any) -> AsyncIterator[Client]:
    """A client of service `stock` whose instances listen on these ports."""
    registry = open_registry(f"memory://{unique}")
    for number, port in enumerate(ports, 1):
        await registry.renew(
            Instance(
                service="stock",
                version="2.1.0",
                instance_id=f"stock-{number}",
                incarnation=f"i{number}",
                address=Address("127.0.0.1", port),
                state=InstanceState.READY,
            )
        )
    async with Watcher(registry) as watcher:
        client = Client("stock", version="^2", **more)
        client.open(watcher)
        try:
            yield client
        finally:
            client.close()


class Stock(BaseModel):
    left: int


async def test_models_go_and_come(system: Platform) -> None:
    stock = Service("stock", version="2.0.0")

    @stock.post("/reserve")
    async def reserve(want: Stock) -> Stock:
        return Stock(left=100 - want.left)

    @stock.get("/items/{item}")
    async def item(item: str, q: str = "") -> str:
        return item + q

    await system.start(stock)
    client = system.client("stock")
    assert await client.post("/reserve", Stock(left=1), returns=Stock) == Stock(left=99)
    found = await client.get("/items/a b", params={"q": "ä&?", "unset": None})
    assert (found.status, found.json()) == (200, "a bä&?")
    assert found.headers["X-Served-By"] == "stock/stock-1"
    missing = await client.get("/nowhere")
    assert (missing.status, missing.problem["status"]) == (404, 404)
    with pytest.raises(CallRefused) as refused:
        missing.raise_for_status()
    assert (refused.value.status, refused.value.service) == (404, "stock")
    with pytest.raises(CallRefused):
        await client.get("/nowhere", returns=Stock)
    with pytest.raises(UnexpectedAnswer):
        await client.get("/items/a", returns=Stock)


async def test_connections_are_reused(unique: str) -> None:
    async with peer() as one, client_of(unique, one.port) as client:
        for _ in range(5):
            assert (await client.get("/")).ok
        assert (one.connections, len(one.requests)) == (1, 5)


async def test_the_deadline_shrinks_from_hop_to_hop_and_identity_flows(unique: str) -> None:
    async with peer() as one, client_of(unique, one.port) as client:
        token = context.swap(
            context.Context("r1", None, {"x-identity-subject": "ann"}),
        )
        try:
            await client.get("/", timeout=0.5)
        finally:
            context.restore(token)
        head = one.requests[0].decode().split("\r\n")
        fields = dict(line.split(": ", 1) for line in head[1:] if line)
        assert 400 <= int(fields["x-deadline-ms"]) <= 495
        assert fields["x-identity-subject"] == "ann"
        assert fields["x-request-id"] == "r1"
        assert len(fields["traceparent"]) == 55


async def test_no_answer_in_time(unique: str) -> None:
    async with peer() as one, client_of(unique, one.port) as client:
        one.answers = [b""]
        with pytest.raises(DeadlineExceeded):
            await client.get("/", timeout=0.05)


async def test_an_instance_that_refuses_connections_is_dropped_at_once(unique: str) -> None:
    async with peer() as one, client_of(unique, free_port(), one.port) as client:
        for _ in range(20):
            assert (await client.post("/", {"not": "idempotent"})).ok
        assert len(one.requests) == 20


async def test_nobody_there(unique: str) -> None:
    async with client_of(unique, free_port()) as client:
        with pytest.raises(ConnectFailed):
            await client.get("/")
    async with client_of(f"{unique}-none") as client:
        with pytest.raises(NoInstance, match=r"stock \^2"):
            await client.get("/")


async def test_what_may_have_happened_is_repeated_only_if_that_is_safe(unique: str) -> None:
    async with peer() as one, client_of(unique, one.port) as client:
        one.answers = [None]
        with pytest.raises(OutcomeUnknown):
            await client.post("/", {})
        assert len(one.requests) == 1
        one.answers = [None]
        assert (await client.get("/")).ok
        one.answers = [None]
        assert (await client.post("/", {}, idempotency_key="k")).ok
        keyed = [request for request in one.requests if b"idempotency-key: k" in request]
        assert len(keyed) == 2


RETRYABLE = b'{"status":503,"detail":"full","retryable":true}'
SPENT = b'{"status":502,"detail":"tried","retryable":false}'
PROBLEM = {"content_type": "application/problem+json"}


async def test_a_503_that_says_nothing_happened_is_repeated_for_every_method(unique: str) -> None:
    async with peer() as one, client_of(unique, one.port) as client:
        one.answers = [answer(503, RETRYABLE, **PROBLEM)]
        assert (await client.post("/", {})).ok
        one.answers = [answer(503, b"")]
        failed = await client.post("/", {})
        assert failed.status == 503
        assert isinstance(failed.error, CallFailed)
        one.answers = [answer(503, RETRYABLE, **PROBLEM)] * 3
        with pytest.raises(Unavailable):
            await client.post("/", {}, returns=Stock)


async def test_who_used_up_its_tries_is_not_asked_again(unique: str) -> None:
    async with peer() as one, client_of(unique, one.port) as client:
        one.answers = [answer(502, SPENT, **PROBLEM)] * 3
        assert (await client.get("/")).status == 502
        assert len(one.requests) == 1
        one.answers = [answer(502)]
        assert (await client.get("/")).ok
        # A gateway that passes on the service's own answer says so beside it.
        asked = len(one.requests)
        one.answers = [answer(502, x_retryable="false"), answer(200, b"{}")]
        assert (await client.get("/")).status == 502
        one.answers = [answer(503, RETRYABLE, x_retryable="false", **PROBLEM), answer(200, b"{}")]
        assert (await client.get("/")).status == 503
        assert len(one.requests) == asked + 2


async def test_rate_limits_are_waited_for(unique: str) -> None:
    async with peer() as one, client_of(unique, one.port) as client:
        one.answers = [answer(429, retry_after="0")]
        assert (await client.post("/", {})).ok
        one.answers = [answer(429, retry_after="60")]
        assert (await client.post("/", {})).status == 429


async def test_an_address_taken_over_by_another_service_is_left(unique: str) -> None:
    wrong = answer(200, b"{}", x_served_by="mail/mail-1")
    async with peer() as one, peer() as two, client_of(unique, one.port, two.port) as client:
        one.answers = [wrong] * 10
        for _ in range(10):
            assert (await client.post("/", {})).ok
        assert len(one.requests) <= 1


async def test_a_failing_service_is_cut_off_and_a_refusing_one_is_not(unique: str) -> None:
    async with peer() as one, client_of(unique, one.port) as client:
        one.answers = [answer(404)] * 50
        for _ in range(50):
            assert (await client.get("/")).status == 404
        one.answers = [answer(500)] * 50
        statuses: list[int] = []

        async def until_cut_off() -> None:
            while len(statuses) < 50:
                statuses.append((await client.post("/", {})).status)

        with pytest.raises(BreakerOpen) as cut:
            await until_cut_off()
        assert set(statuses) == {500}
        assert cut.value.retry_after is not None


async def test_a_fallback_answers_for_those_who_cannot(unique: str) -> None:
    async with peer() as one, client_of(unique, one.port) as client:
        one.answers = [answer(500)]
        assert await client.post("/", {}, fallback=lambda error: "instead") == "instead"
        one.answers = [None]
        assert await client.post("/", {}, fallback=lambda error: type(error)) is OutcomeUnknown
        one.answers = [answer(404)]
        refused = await client.post("/", {}, fallback=lambda error: "instead")
        assert isinstance(refused, Response)


@pytest.mark.parametrize(
    ("raw", "error"),
    [
        (b"nonsense\r\n\r\n", OutcomeUnknown),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nab", DeadlineExceeded),
        (b"HTTP/1.1 200 OK\r\ncontent-length: x\r\n\r\n", OutcomeUnknown),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 20000\r\n\r\n" + b"a" * 20_000, AnswerTooLarge),
        (b"HTTP/1.1 200 OK\r\nx: " + b"a" * 70_000 + b"\r\n\r\n", AnswerTooLarge),
        (b"HTTP/1.1 101 X\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n", OutcomeUnknown),
    ],
)
async def test_bad_answers(unique: str, raw: bytes, error: type[Exception]) -> None:
    config = ClientConfig(pool=PoolConfig(max_body=10_000))
    async with peer() as one, client_of(unique, one.port, config=config) as client:
        one.answers = [raw]
        with pytest.raises(error):
            await client.post("/", {}, timeout=0.2)
        assert (await client.get("/")).ok  # and the connection was not used again


@pytest.mark.parametrize(
    ("raw", "body"),
    [
        (
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nab\r\n1\r\nc\r\n0\r\n\r\n",
            b"abc",
        ),
        (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\na", b"a"),
        (b"HTTP/1.1 204 No Content\r\n\r\n", b""),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\nconnection: close\r\n\r\na", b"a"),
    ],
)
async def test_good_answers(unique: str, raw: bytes, body: bytes) -> None:
    async with peer() as one, client_of(unique, one.port) as client:
        for _ in range(2):
            one.answers = [raw]
            assert (await client.post("/", {})).body == body
        assert (await client.request("HEAD", "/")).body == b""
        assert (await client.get("/")).ok


async def test_a_body_that_ends_with_the_connection(unique: str) -> None:
    async def until_the_end(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.0 200 OK\r\n\r\nuntil ")
        await writer.drain()
        writer.write(b"the end")
        writer.close()

    server = await asyncio.start_server(until_the_end, "127.0.0.1", 0)
    async with server, client_of(unique, server.sockets[0].getsockname()[1]) as client:
        assert (await client.get("/")).text == "until the end"
        server.close()


@pytest.mark.parametrize(
    ("path", "headers"),
    [
        ("/", {"x": "a\r\nb: c"}),
        ("/", {"x\n": "a"}),
        ("/", {"content-length": "5"}),
        ("/", {"Host": "elsewhere"}),
        ("no-slash", {}),
    ],
)
async def test_nothing_breaks_out_of_its_line(
    unique: str, path: str, headers: dict[str, str]
) -> None:
    async with peer() as one, client_of(unique, one.port) as client:
        with pytest.raises(ValueError, match=r"line break|writes itself|starts with"):
            await client.get(path, headers=headers)
        await client.get("/a\r\nb: c d?x=\r\n")
        assert one.requests[0].startswith(b"GET /a%0D%0Ab:%20c%20d?x=%0D%0A HTTP/1.1\r\n")


async def test_a_cancelled_call_gives_everything_back(unique: str) -> None:
    async with peer() as one, client_of(unique, one.port) as client:
        one.answers = [b""] * 3
        for _ in range(3):
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.02):
                    await client.get("/")
        assert (await client.get("/")).ok
        assert one.connections == 4


async def test_a_foreign_service_by_its_url() -> None:
    async with peer() as one:
        client = Client("bank", url=f"http://127.0.0.1:{one.port}/api/")
        client.open(None)
        one.answers = [answer(200, b"{}", x_served_by="somebody/else")]
        assert (await client.get("/pay")).ok
        assert one.requests[0].startswith(b"GET /api/pay HTTP/1.1\r\nhost: 127.0.0.1:")
        client.close()


async def test_calls_are_facts(unique: str) -> None:
    facts: list[object] = []
    async with peer() as one:
        client = Client("bank", url=f"http://127.0.0.1:{one.port}")
        client.open(None, facts.append)
        one.answers = [answer(404), None]
        await client.get("/")
        with pytest.raises(OutcomeUnknown):
            await client.post("/", {})
        calls = [fact for fact in facts if isinstance(fact, CallMade)]
        client.close()
    assert [(call.method, call.status, call.error) for call in calls] == [
        ("GET", 404, "404"),
        ("POST", None, "OutcomeUnknown"),
    ]


async def test_a_draining_instance_gets_nothing_new(unique: str) -> None:
    async with peer() as one, peer() as two, client_of(unique, one.port, two.port) as client:
        await client.get("/")
        registry = open_registry(f"memory://{unique}")
        leaving = next(i for i in await registry.read() if i.address.port == one.port)
        await registry.renew(leaving.moved(InstanceState.DRAINING))

        async def only_the_other() -> bool:
            before = len(one.requests)
            for _ in range(10):
                await client.get("/")
            return len(one.requests) == before

        await eventually_async(only_the_other)


async def test_before_start_it_says_so() -> None:
    with pytest.raises(Misconfigured, match="is not open"):
        await Service("a").client("b").get("/")
