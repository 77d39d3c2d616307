"""Changes under load: instances come and go, and the gateway itself goes; nobody notices."""

import asyncio
import socket
from contextlib import AsyncExitStack

from seawall.gateway.config import GatewayConfig, Route
from seawall.gateway.gateway import Gateway, GatewayDrained, Static
from seawall.topology import Address
from tests.integration.gateway.rig import Client, Received, Service, get, rig
from tests.support.waiting import eventually


class Load:
    """Clients that ask without a pause, and reconnect when they are told to."""

    def __init__(self, host: str, port: int, clients: int = 8) -> None:
        self._where = host, port
        self._clients = clients
        self.answers: list[int] = []
        self.lost = 0
        self.stopping = False

    async def _client(self) -> None:
        client: Client | None = None
        while not self.stopping:
            if client is None:
                client = Client(*await asyncio.open_connection(*self._where))
            try:
                await client.send(get())
                reply = await client.reply()
            except (asyncio.IncompleteReadError, OSError):
                self.lost += 1
                client.close()
                client = None
                continue
            self.answers.append(reply.status)
            if reply.field("connection") == "close":
                client.close()
                client = None
        if client is not None:
            client.close()

    async def __aenter__(self) -> "Load":
        self._group = asyncio.TaskGroup()
        await self._group.__aenter__()
        for _ in range(self._clients):
            self._group.create_task(self._client())
        await eventually(lambda: len(self.answers) > 20)
        return self

    async def __aexit__(self, *error: object) -> None:
        self.stopping = True
        await self._group.__aexit__(None, None, None)


async def test_instances_come_and_go_and_no_request_is_lost() -> None:
    services = [Service(instance_id=f"shop-{number}") for number in range(4)]
    async with rig(*services) as shop:
        async with Load(shop.address.host, shop.address.port) as load:
            for turn in range(40):
                shown = [one.instance for i, one in enumerate(services) if i != turn % 4]
                shop.source.show(*shown)
                seen = len(load.answers)
                await eventually(lambda seen=seen: len(load.answers) > seen + 10)  # type: ignore[misc]
        assert set(load.answers) == {200}
        assert load.lost == 0
        assert all(service.received for service in services)


async def test_a_retired_instance_finishes_what_it_was_given() -> None:
    finish = asyncio.Event()

    async def late(request: Received) -> None:
        await finish.wait()
        request.writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nlate")

    async with rig(Service(late)) as shop:
        client = await shop.connect()
        await client.send(get())
        await eventually(lambda: bool(shop.services[0].received))
        shop.source.show()
        finish.set()
        assert (await client.reply()).body == b"late"
        await eventually(lambda: shop.services[0].open == 0)


async def test_an_instance_that_restarts_elsewhere_is_found_there() -> None:
    async with rig(Service()) as shop, Service() as successor:
        await shop.get()
        shop.source.show(successor.instance)
        assert (await shop.get()).status == 200
        # Same incarnation, other address: what was kept open leads to the wrong place.
        assert len(successor.received) == 1


async def test_a_gateway_that_leaves_loses_no_request() -> None:
    """Two gateways accept from one socket; one drains under load."""
    async with AsyncExitStack() as stack:
        service = await stack.enter_async_context(Service())
        listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        port = listener.getsockname()[1]
        facts: list[object] = []
        gateways = []
        for number in range(2):
            gateway = Gateway(
                GatewayConfig(routes=(Route(service="shop"),), drain=2.0, lame_duck=0.3),
                Static(service.instance),
                observer=facts.append,
            )
            block = gateway.serving(listener.dup())
            await block.__aenter__()
            gateways.append((gateway, block, number))
        listener.close()
        async with Load("127.0.0.1", port, clients=16) as load:
            leaving, block, _ = gateways[0]
            await eventually(lambda: bool(leaving.proxy.metrics.routes[0].series))
            assert leaving.is_ready
            await block.__aexit__(None, None, None)
            assert not leaving.is_ready
            seen = len(load.answers)
            await eventually(lambda: len(load.answers) > seen + 50)
        assert load.lost == 0
        assert set(load.answers) == {200}
        assert [fact.aborted for fact in facts if isinstance(fact, GatewayDrained)] == [0]
        await gateways[1][1].__aexit__(None, None, None)


async def test_draining_answers_what_is_under_way_and_closes() -> None:
    finish = asyncio.Event()

    async def late(request: Received) -> None:
        await finish.wait()
        request.writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nlate")

    async with Service(late) as service:
        gateway = Gateway(
            GatewayConfig(routes=(Route(service="shop"),), drain=5.0, lame_duck=0.05),
            Static(service.instance),
        )
        block = gateway.serving(Address("127.0.0.1", 0))
        address = await block.__aenter__()
        client = Client(*await asyncio.open_connection(address.host, address.port))
        idle = Client(*await asyncio.open_connection(address.host, address.port))
        await client.send(get())
        await eventually(lambda: bool(service.received))
        async with asyncio.TaskGroup() as group:
            leaving = group.create_task(block.__aexit__(None, None, None))
            assert await idle.is_closed()
            assert not leaving.done()
            finish.set()
            reply = await client.reply()
            assert (reply.body, reply.field("connection")) == (b"late", "close")
        client.close()
        idle.close()


async def test_a_gateway_is_ready_when_the_registry_was_read() -> None:
    async with Service() as service:
        source = Static()
        source.show(stale=True)
        gateway = Gateway(GatewayConfig(routes=(Route(service="shop"),), drain=0.1), source)
        async with asyncio.TaskGroup() as group:
            stop = asyncio.Event()
            group.create_task(gateway.run(Address("127.0.0.1", 0), stop))
            await eventually(lambda: bool(source._callbacks))
            assert not gateway.is_ready
            source.show(service.instance)
            await eventually(lambda: gateway.is_ready)
            stop.set()
