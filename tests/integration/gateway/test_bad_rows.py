"""Rows of the table of bad inputs, and faults, that need real sockets, time or a whole process.

After each the gateway is at rest, which `rig` asserts: nothing is under way, nothing leaked.
"""

import asyncio
import json
import resource
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace

import psutil
import pytest

from seawall.gateway.config import Edge, Route, Timeouts, Upstreams
from seawall.topology import Address
from tests.integration.gateway.rig import OK, Client, Received, Rig, Service, get, rig, saying
from tests.support.waiting import eventually

UPGRADE = (
    "connection: Upgrade",
    "upgrade: websocket",
    "sec-websocket-version: 13",
    "sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==",  # the example of RFC 6455
)
SWITCH = (
    b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n"
)


async def test_row_29_many_slow_heads_end_together() -> None:
    async with rig(Service(), edge=Edge(head_timeout=0.3)) as shop:
        clients = [await shop.connect() for _ in range(200)]
        for client in clients:
            await client.send(b"GET / HTTP/1.1\r\nhost: a\r\nx:")
        assert (await shop.get()).status == 200
        for client in clients:
            assert (await client.reply()).status == 408
            client.close()
        await eventually(lambda: not shop.gateway.proxy.connections)
        assert len(shop.services[0].received) == 1


async def test_row_29_a_client_that_reads_nothing_of_100_mb_costs_little_and_is_dropped() -> None:
    sent = 0

    async def large(request: Received) -> None:
        nonlocal sent
        request.writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 104857600\r\n\r\n")
        while sent < 104_857_600:
            request.writer.write(bytes(65536))
            await request.writer.drain()
            sent += 65536

    async with rig(Service(large), edge=Edge(write_timeout=0.4)) as shop:
        with socket.socket() as client:
            client.setblocking(False)
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            loop = asyncio.get_running_loop()
            await loop.sock_connect(client, (shop.address.host, shop.address.port))
            await loop.sock_sendall(client, get())
            line = (await shop.logged())[0]
            assert line["flags"] == "DT"
            assert sent < 32 * 1024 * 1024  # what three kernel buffers and ours hold
            await eventually(lambda: shop.services[0].open == 0)


async def test_row_40_a_trusted_proxy_that_names_no_address_is_not_quoted() -> None:
    async with rig(Service(), trusted_proxies=("127.0.0.0/8",)) as shop:
        await shop.get("/", 'x-forwarded-for: 6.6.6.6", "evil": "')
        assert (await shop.logged())[0]["client"] == "127.0.0.1"


async def test_row_44_a_gateway_that_is_its_own_service_answers() -> None:
    async with rig(Service()) as shop:
        shop.source.show(replace(shop.services[0].instance, address=shop.address))
        assert (await shop.get()).status == 508
        lines = await shop.logged(6)
        assert [line["status"] for line in lines] == [508] * 6


def tunnelled(data: bytes = b"") -> Service:
    async def switch(request: Received) -> None:
        request.writer.write(SWITCH + data)
        while piece := await request.reader.read(65536):
            request.writer.write(piece)

    return Service(switch)


async def opened(shop: Rig) -> Client:
    client = await shop.connect()
    await client.send(get("/", *UPGRADE))
    assert (await client.reply()).status == 101
    return client


async def test_row_54_an_idle_tunnel_ends_on_both_sides() -> None:
    routes = (Route(service="shop", timeouts=Timeouts(stream_idle=0.2)),)
    async with rig(tunnelled(), routes=routes) as shop:
        assert await (await opened(shop)).is_closed()
        await eventually(lambda: shop.services[0].open == 0)
        assert (await shop.logged())[0]["flags"] == "SI"


async def test_row_54_a_busy_tunnel_ends_with_its_lifetime() -> None:
    async with rig(tunnelled(), edge=Edge(tunnel_lifetime=0.3)) as shop:
        client = await opened(shop)

        async def ping_until_it_ends() -> None:
            while True:
                await client.send(b"ping")
                await client.reader.readexactly(4)

        with pytest.raises((asyncio.IncompleteReadError, ConnectionError)):
            await ping_until_it_ends()
        await eventually(lambda: shop.services[0].open == 0)
        assert (await shop.logged())[0]["flags"] == "TL"


async def test_row_54_a_tunnel_carries_so_many_bytes_and_no_more() -> None:
    async with rig(tunnelled(), edge=Edge(tunnel_bytes=1000)) as shop:
        client = await opened(shop)
        await client.send(b"x" * 400)
        assert await client.reader.readexactly(400) == b"x" * 400  # 800, both ways together
        await client.send(b"x" * 400)
        assert await client.is_closed()
        await eventually(lambda: shop.services[0].open == 0)
        assert (await shop.logged())[0]["flags"] == "TL"


async def test_row_54_a_side_that_does_not_close_is_closed() -> None:
    async def deaf(request: Received) -> None:
        request.writer.write(SWITCH)
        await asyncio.Event().wait()

    async with rig(Service(deaf), edge=Edge(half_close=0.2)) as shop:
        client = await opened(shop)
        client.writer.write_eof()
        assert await client.is_closed()
        endpoint = shop.gateway.cluster_list()[0].endpoints[0]
        await eventually(lambda: endpoint.connections == 0)


# services that lie


LENGTHS = b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\nhello"


async def test_a_length_that_is_too_long_breaks_the_answer() -> None:
    async with rig(Service(saying(LENGTHS % 6, close=True))) as shop:
        client = await shop.connect()
        await client.send(get())
        with pytest.raises((asyncio.IncompleteReadError, ConnectionResetError)):
            await client.reply()


async def test_a_length_that_is_too_short_cuts_what_is_too_much() -> None:
    async with rig(Service(saying(LENGTHS % 4))) as shop:
        client = await shop.connect()
        for _ in range(3):
            await client.send(get())
            assert (await client.reply()).body == b"hell"
        assert shop.services[0].connections == 3


async def test_a_service_that_answers_twice_is_heard_once() -> None:
    async with rig(Service(saying(OK + OK))) as shop:
        clients = [await shop.connect() for _ in range(5)]
        for _ in range(4):
            for client in clients:
                await client.send(get())
            for client in clients:
                assert (await client.reply()).body == b"ok"
        assert len(shop.services[0].received) == 20


async def test_a_service_that_never_stops_hinting_is_502() -> None:
    async def hints(request: Received) -> None:
        while not request.writer.is_closing():
            request.writer.write(b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n")
            await request.writer.drain()

    async with rig(Service(hints)) as shop:
        client = await shop.connect()
        await client.send(get())
        while (reply := await client.reply()).status == 103:
            pass
        assert (reply.status, reply.json()["reason"]) == (502, "UPE")
        await eventually(lambda: shop.services[0].open == 0)


async def test_a_full_queue_to_a_service_is_503_and_recovers() -> None:
    go_on = asyncio.Event()

    async def wait(request: Received) -> None:
        await go_on.wait()
        request.writer.write(OK)

    async with rig(Service(wait), upstreams=Upstreams(max_requests=20)) as shop:
        clients = [await shop.connect() for _ in range(60)]
        for client in clients:
            await client.send(get())
        metrics = shop.gateway.proxy.metrics
        async with asyncio.TaskGroup() as group:
            replies = [group.create_task(client.reply()) for client in clients]
            await eventually(lambda: sum(reply.done() for reply in replies) == 40)
            assert metrics.active_requests == 20
            go_on.set()
        statuses = sorted(reply.result().status for reply in replies)
        assert statuses == [200] * 20 + [503] * 40
        assert {line["flags"] for line in await shop.logged(60)} == {"-", "UO"}
        assert (await shop.get()).status == 200


# a whole process


GATEWAY = """
import asyncio, resource, sys
import uvloop
from seawall.gateway.config import Edge, GatewayConfig, Route
from seawall.gateway.gateway import Gateway, Static
from seawall.topology import Address, Instance, InstanceState

async def main(port: int, files: int) -> None:
    resource.setrlimit(resource.RLIMIT_NOFILE, (files, files))
    instance = Instance(service="shop", version="1.0.0", instance_id="shop-1", incarnation="1",
                        address=Address("127.0.0.1", port), state=InstanceState.READY)
    config = GatewayConfig(routes=(Route(service="shop"),), edge=Edge(max_connections=20_000))
    async with Gateway(config, Static(instance)).serving(Address("127.0.0.1", 0)) as address:
        print(address.port, flush=True)
        await asyncio.Event().wait()

uvloop.run(main(int(sys.argv[1]), int(sys.argv[2])))
"""


@dataclass
class Process:
    """A gateway in a process of its own."""

    address: Address
    seen: psutil.Process

    async def connect(self) -> Client:
        return Client(*await asyncio.open_connection(self.address.host, self.address.port))

    async def status(self) -> int:
        """Of an answer on a new connection; 0 if it was closed instead."""
        client = await self.connect()
        try:
            await client.send(get())
            return (await client.reply()).status
        except (asyncio.IncompleteReadError, ConnectionError):
            return 0
        finally:
            client.close()

    def cpu(self) -> float:
        times = self.seen.cpu_times()
        return times.user + times.system


@asynccontextmanager
async def process(service: Service, files: int) -> AsyncIterator[Process]:
    child = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", GATEWAY, str(service.port), str(files)),
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        assert child.stdout is not None
        port = int(await child.stdout.readline())
        yield Process(Address("127.0.0.1", port), psutil.Process(child.pid))
        assert child.returncode is None
    finally:
        if child.returncode is None:
            child.kill()
        await child.wait()


async def test_a_gateway_without_file_descriptors_sheds_and_recovers() -> None:
    async with Service() as service, process(service, files=64) as gateway:
        assert await gateway.status() == 200
        crowd = [await gateway.connect() for _ in range(150)]
        # Those that found no place were closed; the others are kept, and one of them is served.
        async with asyncio.TaskGroup() as group:
            closed = [group.create_task(one.is_closed()) for one in crowd]
            await eventually(lambda: sum(one.done() for one in closed) >= 80)
            began, cpu = asyncio.get_running_loop().time(), gateway.cpu()
            await eventually(lambda: asyncio.get_running_loop().time() - began > 0.5)
            spent = gateway.cpu() - cpu
            for one in crowd:
                one.close()
        assert spent < 0.25  # it waits, and does not try again and again
        await eventually(lambda: gateway.seen.num_fds() < 40)
        assert [await gateway.status() for _ in range(5)] == [200] * 5


@pytest.mark.slow
@pytest.mark.timeout(90)
async def test_ten_thousand_idle_connections_cost_little_memory() -> None:
    count, room = 10_000, resource.getrlimit(resource.RLIMIT_NOFILE)
    if room[1] < count + 200:
        pytest.skip(f"this user may open {room[1]} files")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(room[0], count + 200), room[1]))
    loop = asyncio.get_running_loop()
    clients: list[socket.socket] = []
    try:
        async with Service() as service, process(service, files=count + 100) as gateway:
            assert await gateway.status() == 200
            before = gateway.seen.memory_info().rss
            for number in range(count):
                client = socket.socket()
                clients.append(client)
                client.setblocking(False)
                # Ports of one address would do, if nobody else's were in use or just closed.
                client.bind((f"127.0.0.{2 + number % 4}", 0))
                await loop.sock_connect(client, (gateway.address.host, gateway.address.port))
            await eventually(lambda: gateway.seen.num_fds() > count, within=30)
            each = (gateway.seen.memory_info().rss - before) / count
            assert each < 12_000, json.dumps({"bytes a connection": each})
            assert await gateway.status() == 200
            await loop.sock_sendall(clients[count // 2], get())
            assert b"200 OK" in await loop.sock_recv(clients[count // 2], 1000)
    finally:
        for client in clients:
            client.close()
        resource.setrlimit(resource.RLIMIT_NOFILE, room)
