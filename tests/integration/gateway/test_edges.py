"""nginx, HAProxy and Envoy in front of gateways, with the configurations that Seawall writes."""

import asyncio
import signal
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from seawall.gateway.config import Edge, GatewayConfig, Route
from seawall.gateway.export.envoy import envoy
from seawall.gateway.export.front import front
from seawall.gateway.export.haproxy import haproxy
from seawall.gateway.export.nginx import nginx
from seawall.topology import Address
from tests.integration.gateway.rig import OK, Client, Received, Reply, Service, get, post, rig
from tests.support.edges import EDGES, running
from tests.support.servers import free_port
from tests.support.waiting import eventually

WRITERS = {"nginx": nginx, "haproxy": haproxy, "envoy": envoy}

pytestmark = pytest.mark.parametrize("program", EDGES)

MAX_BODY = 200_000
TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


class FrontDoor:
    """An edge proxy that runs on loopback."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.clients: list[Client] = []

    async def connect(self, source: str = "127.0.0.1") -> Client:
        streams = await asyncio.open_connection("127.0.0.1", self.port, local_addr=(source, 0))
        client = Client(*streams)
        self.clients.append(client)
        return client

    async def ask(self, data: bytes, source: str = "127.0.0.1") -> Reply:
        client = await self.connect(source)
        try:
            await client.send(data)
            return await client.reply()
        finally:
            client.close()


@asynccontextmanager
async def edge(program: str, folder: Path, *gateways: Address) -> AsyncIterator[FrontDoor]:
    port = free_port()
    config = GatewayConfig(routes=(Route(service="shop"),), edge=Edge(max_body=MAX_BODY))
    made = front(config, gateways, listen=Address("127.0.0.1", port))
    file = folder / f"{program}.yaml"
    file.write_text(WRITERS[program](made))
    async with running(program, file, port):
        front_door = FrontDoor(port)
        try:
            yield front_door
        finally:
            for client in front_door.clients:
                client.close()


async def test_a_request_passes_and_says_only_what_the_edge_knows(
    program: str, tmp_path: Path
) -> None:
    said = (
        *("x-forwarded-for: 6.6.6.6", "x-forwarded-proto: https", "x-request-id: mine"),
        *("forwarded: for=6.6.6.6", "x-real-ip: 6.6.6.6", f"traceparent: {TRACE}"),
        *("tracestate: a=1", "baggage: user=root"),
    )
    service = Service()
    async with (
        rig(service, trusted_proxies=("127.0.0.1/32",)) as r,
        edge(program, tmp_path, r.address) as front_door,
    ):
        reply = await front_door.ask(get("/orders?x=%2F", *said), source="127.0.0.5")
        assert (reply.status, reply.body) == (200, b"ok")
        (request,) = service.received
        assert request.line == b"GET /orders?x=%2F HTTP/1.1"
        assert request.fields("host") == ["shop.example"]
        assert request.fields("x-forwarded-for") == ["127.0.0.5, 127.0.0.1"]
        assert request.fields("x-forwarded-proto") == ["http"]
        assert request.fields("x-request-id") == [reply.field("x-request-id")] != ["mine"]
        for name in ("forwarded", "x-real-ip", "tracestate", "baggage"):
            assert request.fields(name) == []
        (trace,) = request.fields("traceparent")
        assert trace.split("-")[1] not in TRACE
        assert (await r.logged())[0]["client"] == "127.0.0.5"


async def test_a_body_over_the_limit_stays_outside(program: str, tmp_path: Path) -> None:
    service = Service()
    async with (
        rig(service) as r,
        edge(program, tmp_path, r.address) as front_door,
    ):
        fits = b"x" * MAX_BODY
        assert (await front_door.ask(post(fits))).status == 200
        assert service.received[0].body == fits
        head = get("/", f"content-length: {MAX_BODY + 1}", method="POST")
        assert (await front_door.ask(head)).status == 413
        assert len(service.received) == 1
        assert len(await r.logged()) == 1


async def test_a_websocket_passes(program: str, tmp_path: Path) -> None:
    switch = (  # RFC 6455, 1.3: the answer to the key below
        b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n"
        b"sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n"
    )

    async def echo(request: Received) -> None:
        assert request.field("upgrade") == "websocket"
        request.writer.write(switch)
        while data := await request.reader.read(1000):
            request.writer.write(data)
        request.writer.close()

    wish = ("connection: Upgrade", "upgrade: websocket", "sec-websocket-version: 13")
    key = "sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ=="
    service = Service(echo)
    async with (
        rig(service) as r,
        edge(program, tmp_path, r.address) as front_door,
    ):
        client = await front_door.connect()
        await client.send(get("/chat", *wish, key))
        assert (await client.reply()).status == 101
        for frame in (b"\x81\x02hi", b"\x00" * 5000):
            await client.send(frame)
            assert await client.reader.readexactly(len(frame)) == frame
        client.close()
        await eventually(lambda: service.open == 0)


async def test_another_protocol_does_not_pass(program: str, tmp_path: Path) -> None:
    service = Service()
    async with (
        rig(service) as r,
        edge(program, tmp_path, r.address) as front_door,
    ):
        wish = ("connection: Upgrade, HTTP2-Settings", "upgrade: h2c", "http2-settings: AAMAAABk")
        # Some refuse, others answer as if nothing had been wished for.
        assert (await front_door.ask(get("/", *wish))).status in (200, 403)
        assert [request.fields("upgrade") for request in service.received] in ([], [[]])


async def test_events_arrive_one_by_one(program: str, tmp_path: Path) -> None:
    seen = asyncio.Event()

    async def stream(request: Received) -> None:
        head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n"
        request.writer.write(head + b"data: 1\n\n")
        await seen.wait()
        request.writer.write(b"data: 2\n\n")
        request.writer.close()

    service = Service(stream)
    async with (
        rig(service) as r,
        edge(program, tmp_path, r.address) as front_door,
    ):
        client = await front_door.connect()
        await client.send(get("/live", "accept: text/event-stream"))
        async with asyncio.timeout(5):
            await client.reader.readuntil(b"data: 1\n\n")
            seen.set()  # the second is sent only once the first was read
            await client.reader.readuntil(b"data: 2\n\n")


async def test_an_upload_arrives_as_it_is_sent(program: str, tmp_path: Path) -> None:
    async def take(request: Received) -> None:
        await request.reader.readuntil(b"first")
        arrived.set()
        await request.reader.readuntil(b"last")
        request.writer.write(OK)

    arrived = asyncio.Event()
    service = Service(take, reads_body=False)
    async with (
        rig(service) as r,
        edge(program, tmp_path, r.address) as front_door,
    ):
        client = await front_door.connect()
        await client.send(get("/", "content-length: 9", method="POST") + b"first")
        async with asyncio.timeout(5):
            await arrived.wait()  # the rest is sent only then
            await client.send(b"last")
            assert (await client.reply()).status == 200


GATEWAY = """
import asyncio, signal, sys
import uvloop
from seawall.gateway.config import GatewayConfig, Route
from seawall.gateway.gateway import Gateway, Static
from seawall.topology import Address, Instance, InstanceState

async def main(host: str, port: int, service: int, log: str) -> None:
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    instance = Instance(service="shop", version="1.0.0", instance_id="shop-1", incarnation="1",
                        address=Address("127.0.0.1", service), state=InstanceState.READY)
    config = GatewayConfig(routes=(Route(service="shop"),), access_log=log, lame_duck=0.5)
    async with Gateway(config, Static(instance)).serving(Address(host, port)):
        print("ready", flush=True)
        await stop.wait()

uvloop.run(main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]))
"""


class GatewayProcess:
    """A gateway that can be killed, drained and started again at its port."""

    def __init__(self, service: Service, folder: Path) -> None:
        # While it is down, a connection from 127.0.0.1 may take the same port for its own end.
        self.address = Address("127.0.0.3", free_port())
        self._service = service
        self._log = folder / f"{self.address.port}.log"
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        self._log.write_bytes(b"")
        self._process = process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", GATEWAY, self.address.host, str(self.address.port)),
            *(str(self._service.port), str(self._log)),
            stdout=asyncio.subprocess.PIPE,
        )
        assert process.stdout is not None
        assert await process.stdout.readline() == b"ready\n"

    def has_served(self) -> bool:
        """Since it was started."""
        return self._log.stat().st_size > 0

    async def end(self, how: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.send_signal(how)
            await process.wait()


@asynccontextmanager
async def gateways(service: Service, folder: Path) -> AsyncIterator[Sequence[GatewayProcess]]:
    two = [GatewayProcess(service, folder) for _ in range(2)]
    try:
        for gateway in two:
            await gateway.start()
        yield two
    finally:
        for gateway in two:
            await gateway.end(signal.SIGKILL)


async def test_a_killed_gateway_loses_no_idempotent_request(program: str, tmp_path: Path) -> None:
    release = asyncio.Event()

    async def hold(request: Received) -> None:
        await release.wait()
        request.writer.write(OK)

    async with (
        Service(hold) as service,
        gateways(service, tmp_path) as two,
        edge(program, tmp_path, *(one.address for one in two)) as front_door,
    ):
        clients = [await front_door.connect() for _ in range(12)]
        for client in clients:
            await client.send(get())
        await eventually(lambda: len(service.received) == len(clients))
        await two[0].end(signal.SIGKILL)
        # Those that were under way there are asked for again, at the other one.
        await eventually(lambda: len(service.received) > len(clients))
        release.set()
        assert [(await client.reply()).status for client in clients] == [200] * len(clients)
        # Whoever comes now does not notice, whatever the method.
        for request in (get(), post(b"an order")) * 10:
            assert (await front_door.ask(request)).status == 200


async def test_gateways_are_restarted_and_nothing_is_lost(program: str, tmp_path: Path) -> None:
    async with (
        Service() as service,
        gateways(service, tmp_path) as two,
        edge(program, tmp_path, *(one.address for one in two)) as front_door,
    ):
        done = asyncio.Event()

        async def come_and_go() -> list[int]:
            found = []
            while not done.is_set():
                client = await front_door.connect()
                for request in (get(), post(b"an order"), get()):
                    await client.send(request)
                    found.append((await client.reply()).status)
                client.close()
            return found

        async with asyncio.TaskGroup() as tasks:
            customers = [tasks.create_task(come_and_go()) for _ in range(4)]
            for gateway in two:
                await eventually(gateway.has_served)
                await gateway.end(signal.SIGTERM)
                await gateway.start()
                await eventually(gateway.has_served, within=10.0)
            done.set()
        found = [status for customer in customers for status in customer.result()]
        assert set(found) == {200}
        assert len(service.received) >= len(found)
