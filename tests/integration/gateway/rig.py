"""A gateway between a client that writes bytes and services that a test scripts."""

import asyncio
import json
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from random import Random
from types import TracebackType
from typing import Any, Self

from seawall.gateway.auth import Provider
from seawall.gateway.config import Edge, GatewayConfig, Route, Upstreams
from seawall.gateway.gateway import Gateway, Static
from seawall.gateway.limits import Limit
from seawall.gateway.upstream import Towards
from seawall.telemetry.spans import SpanBuffer
from seawall.topology import Address, Instance, InstanceState
from tests.support.waiting import eventually

OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"


@dataclass
class Received:
    """A request as a service got it."""

    head: bytes
    body: bytes
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    @property
    def line(self) -> bytes:
        return self.head.split(b"\r\n", 1)[0]

    def fields(self, name: str) -> list[str]:
        lines = self.head.decode("latin-1").split("\r\n")[1:]
        return [
            value.strip()
            for key, _, value in (line.partition(":") for line in lines)
            if key.lower() == name
        ]

    def field(self, name: str) -> str | None:
        return next(iter(self.fields(name)), None)


Script = Callable[[Received], Awaitable[None]]


def saying(data: bytes, *, close: bool = False) -> Script:
    """Answer every request with the same bytes."""

    async def script(request: Received) -> None:
        request.writer.write(data)
        if close:
            request.writer.close()

    return script


@dataclass
class Service:
    """A service of one instance that follows a script; `reads_body` off hands over heads only."""

    script: Script = field(default_factory=lambda: saying(OK))
    name: str = "shop"
    instance_id: str = "shop-1"
    version: str = "1.0.0"
    reads_body: bool = True
    received: list[Received] = field(default_factory=list)
    connections: int = 0
    open: int = 0
    port: int = 0
    tls: ssl.SSLContext | None = None
    _server: asyncio.Server | None = None
    _tasks: set[asyncio.Task[Any]] = field(default_factory=set)
    _writers: set[asyncio.StreamWriter] = field(default_factory=set)

    @property
    def instance(self) -> Instance:
        return Instance(
            service=self.name,
            version=self.version,
            instance_id=self.instance_id,
            incarnation="1",
            address=Address("127.0.0.1", self.port),
            state=InstanceState.READY,
        )

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port, ssl=self.tls)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        await self.kill()

    async def kill(self) -> None:
        """Stop listening and cut every connection, as a process that dies does."""
        if self._server is not None:
            self._server.close()
            self._server = None
        for writer in self._writers:
            writer.transport.abort()
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self._writers.add(writer)
        self.connections += 1
        self.open += 1
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                body = await _body(head, reader) if self.reads_body else b""
                request = Received(head, body, reader, writer)
                self.received.append(request)
                await self.script(request)
                await writer.drain()
        except (asyncio.IncompleteReadError, OSError, asyncio.CancelledError):
            pass  # the other side is gone, or the test kills us
        finally:
            self.open -= 1
            self._tasks.discard(task)
            self._writers.discard(writer)
            writer.close()


async def _body(head: bytes, reader: asyncio.StreamReader) -> bytes:
    lower = head.lower()
    if b"transfer-encoding: chunked" in lower:
        body = b""
        while True:
            size = int(await reader.readline(), 16)
            body += await reader.readexactly(size)
            await reader.readexactly(2)
            if not size:
                return body
    if b"content-length:" in lower:
        length = int(lower.split(b"content-length:", 1)[1].split(b"\r\n", 1)[0])
        return await reader.readexactly(length)
    return b""


@dataclass
class Reply:
    """An answer as the client got it. `raw` holds its head and the framing of its body."""

    status: int
    fields: list[tuple[str, str]]
    body: bytes
    raw: bytes

    def field(self, name: str) -> str | None:
        return next((value for key, value in self.fields if key == name), None)

    def json(self) -> Any:
        return json.loads(self.body)


class Client:
    """A connection to the gateway."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def head(self) -> Reply:
        """The next head, without its body."""
        raw = await self.reader.readuntil(b"\r\n\r\n")
        lines = raw.decode("latin-1").split("\r\n")[:-2]
        pairs = [line.partition(":") for line in lines[1:]]
        fields = [(name.lower(), value.strip()) for name, _, value in pairs]
        return Reply(int(lines[0].split(" ")[1]), fields, b"", raw)

    async def reply(self, *, to_head: bool = False) -> Reply:
        """The next whole answer. Raises `IncompleteReadError` where it is cut short."""
        reply = await self.head()
        if to_head or reply.status < 200 or reply.status in (204, 304):
            return reply
        if reply.field("transfer-encoding") == "chunked":
            while True:
                line = await self.reader.readuntil(b"\r\n")
                data = await self.reader.readexactly(int(line, 16) + 2)
                reply.raw += line + data
                reply.body += data[:-2]
                if line == b"0\r\n":
                    return reply
        length = reply.field("content-length")
        reply.body = await (
            self.reader.read() if length is None else self.reader.readexactly(int(length))
        )
        reply.raw += reply.body
        return reply

    async def is_closed(self) -> bool:
        """Whether the gateway closes the connection, and sends nothing before."""
        try:
            return await self.reader.read(1) == b""
        except ConnectionResetError:
            return True

    def close(self) -> None:
        self.writer.close()


@dataclass
class Rig:
    gateway: Gateway
    address: Address
    source: Static
    services: list[Service]
    log: list[dict[str, Any]]
    facts: list[object]
    clients: list[Client] = field(default_factory=list)

    async def connect(self) -> Client:
        reader, writer = await asyncio.open_connection(self.address.host, self.address.port)
        client = Client(reader, writer)
        self.clients.append(client)
        return client

    async def ask(self, data: bytes, *, to_head: bool = False) -> Reply:
        """Send bytes on a new connection and read the answer."""
        client = await self.connect()
        await client.send(data)
        try:
            return await client.reply(to_head=to_head)
        finally:
            client.close()

    async def get(self, path: str = "/", *fields: str) -> Reply:
        return await self.ask(get(path, *fields))

    async def logged(self, count: int = 1) -> list[dict[str, Any]]:
        """The access log once it has `count` lines."""

        def written() -> bool:
            self.gateway.proxy.log.flush()
            return len(self.log) >= count

        await eventually(written)
        return self.log

    def is_at_rest(self) -> bool:
        """Whether everything that exchanges take was given back."""
        clusters = self.gateway.cluster_list()
        return (
            self.gateway.proxy.metrics.active_requests == 0
            and not self.gateway.copies.under_way
            and all(cluster.in_flight == 0 for cluster in clusters)
            and all(e.in_flight == 0 for cluster in clusters for e in cluster.endpoints)
        )


def get(path: str = "/", *fields: str, method: str = "GET") -> bytes:
    lines = [f"{method} {path} HTTP/1.1", "host: shop.example", *fields, "", ""]
    return "\r\n".join(lines).encode("latin-1")


def post(body: bytes, *fields: str, path: str = "/") -> bytes:
    return get(path, f"content-length: {len(body)}", *fields, method="POST") + body


@asynccontextmanager
async def rig(
    *services: Service,
    routes: tuple[Route, ...] = (Route(service="shop"),),
    edge: Edge | None = None,
    upstreams: Upstreams | None = None,
    providers: dict[str, Provider] | None = None,
    plans: dict[str, tuple[Limit, ...]] | None = None,
    default_plan: str = "",
    trusted_proxies: tuple[str, ...] = (),
    forwarded: bool = False,
    proxy_protocol: bool = False,
    seed: int = 1,
    spans: SpanBuffer | None = None,
    trace_sample: float = 1.0,
    towards: Towards | None = None,
) -> AsyncIterator[Rig]:
    """Services, and a gateway in front of them that is ready. At the end nothing is under way."""
    log: list[dict[str, Any]] = []
    facts: list[object] = []

    def write(data: bytes) -> int:
        log.extend(json.loads(line) for line in data.splitlines())
        return len(data)

    async with AsyncExitStack() as stack:
        for service in services:
            await stack.enter_async_context(service)
        source = Static(*(service.instance for service in services))
        config = GatewayConfig(
            routes=routes,
            edge=edge or Edge(half_close=0.2),
            upstreams=upstreams or Upstreams(),
            trusted_proxies=trusted_proxies,
            forwarded=forwarded,
            proxy_protocol=proxy_protocol,
            plans=plans or {},
            default_plan=default_plan,
            trace_sample=trace_sample,
            drain=0.3,
            lame_duck=0.05,
        )
        gateway = Gateway(
            config,
            source,
            providers=providers,
            rng=Random(seed),
            observer=facts.append,
            log=write,
            spans=spans,
            towards=towards,
        )
        address = await stack.enter_async_context(gateway.serving(Address("127.0.0.1", 0)))
        rig = Rig(gateway, address, source, list(services), log, facts)
        try:
            yield rig
        finally:
            for client in rig.clients:
                client.close()
        await eventually(rig.is_at_rest)
