"""A gateway whose services show certificates, and are shown its own."""

import asyncio
from pathlib import Path

import pytest
from websockets.asyncio.client import connect
from websockets.asyncio.server import serve

from seawall.gateway.balance import HealthCheck
from seawall.gateway.config import GatewayConfig, Route, Upstreams
from seawall.gateway.gateway import Gateway, Static
from seawall.identity.credentials import PeerRefused
from seawall.topology import Address, Instance, InstanceState
from tests.integration.gateway.rig import Received, Service, get, post, rig, saying
from tests.support.identified import Issuing, Stock, serving, tapped
from tests.support.waiting import eventually

HELLO = b"HTTP/1.1 200 OK\r\ncontent-length: 12\r\n\r\nplum pudding"


@pytest.fixture
def issuing(tmp_path: Path) -> Issuing:
    return Issuing(tmp_path)


def at(address: Address) -> Instance:
    return Instance(
        service="shop",
        version="1.0.0",
        instance_id="shop-1",
        incarnation="1",
        address=address,
        state=InstanceState.READY,
    )


async def test_requests_go_through_on_kept_connections(issuing: Issuing) -> None:
    shop, _ = await issuing.credentials("shop", ("gateway",))
    ours, facts = await issuing.credentials("gateway")
    service = Service(saying(HELLO), tls=shop.server)
    async with rig(service, towards=ours.towards) as r:
        client = await r.connect()
        for _ in range(5):
            await client.send(post(b"a" * 200_000))
            reply = await client.reply()
            assert (reply.status, reply.body) == (200, b"plum pudding")
        assert service.connections == 1
        assert [request.body for request in service.received] == [b"a" * 200_000] * 5
    assert facts == []


async def test_nothing_readable_goes_to_a_service(issuing: Issuing) -> None:
    shop, _ = await issuing.credentials("shop", ("gateway",))
    ours, _ = await issuing.credentials("gateway")
    async with (
        Service(saying(HELLO), tls=shop.server) as service,
        tapped(service.instance.address) as (tap, seen),
        Gateway(
            GatewayConfig(routes=(Route(service="shop"),), drain=0.3, lame_duck=0.05),
            Static(at(tap)),
            towards=ours.towards,
        ).serving(Address("127.0.0.1", 0)) as address,
    ):
        reader, writer = await asyncio.open_connection(address.host, address.port)
        writer.write(get("/private"))
        assert b"200 OK" in await reader.readuntil(b"pudding")
        writer.close()
    assert len(seen) > 1000
    for readable in (b"HTTP", b"private", b"plum pudding"):
        assert readable not in seen


async def test_another_service_at_the_address_gets_nothing(issuing: Issuing) -> None:
    other, _ = await issuing.credentials("orders", ("gateway",))
    ours, facts = await issuing.credentials("gateway")
    service = Service(tls=other.server)
    async with rig(service, towards=ours.towards) as r:
        reply = await r.get("/private")
        assert reply.status == 503
        assert "shop/orders answers where" in reply.json()["detail"]
    assert service.received == []
    assert {fact.reason for fact in facts if isinstance(fact, PeerRefused)} == {"not allowed"}


async def test_plain_text_at_the_address_gets_nothing(issuing: Issuing) -> None:
    ours, facts = await issuing.credentials("gateway")
    stock = Stock()
    async with (
        serving(stock, None) as plain,
        Gateway(
            GatewayConfig(routes=(Route(service="shop"),), drain=0.3, lame_duck=0.05),
            Static(at(plain)),
            towards=ours.towards,
        ).serving(Address("127.0.0.1", 0)) as address,
    ):
        reader, writer = await asyncio.open_connection(address.host, address.port)
        writer.write(get("/private"))
        assert b" 503 " in await reader.readline()
        assert b"does not speak TLS" in await reader.readuntil(b"}")
        writer.close()
    assert stock.asked == 0
    assert {fact.reason for fact in facts if isinstance(fact, PeerRefused)} == {"not TLS"}


async def test_a_service_that_refuses_us_is_no_answer(issuing: Issuing) -> None:
    shop, facts = await issuing.credentials("shop", ("gateway",))
    stranger = Issuing(Path()).authority
    ours, _ = await issuing.credentials("gateway", by=stranger)
    service = Service(tls=shop.server)
    async with rig(service, towards=ours.towards) as r:
        reply = await r.ask(post(b"buy tea"))
        assert reply.status == 503
        assert "the other side refused our certificate: unknown ca" in reply.json()["detail"]
    assert service.received == []
    assert {fact.reason for fact in facts if isinstance(fact, PeerRefused)} == {"wrong authority"}


async def test_checks_ask_by_tls(issuing: Issuing) -> None:
    shop, _ = await issuing.credentials("shop", ("gateway",))
    ours, _ = await issuing.credentials("gateway")

    async def script(request: Received) -> None:
        request.writer.write(HELLO)

    service = Service(script, tls=shop.server)
    plain = Service(instance_id="shop-2")
    check = HealthCheck(interval=0.5, timeout=0.5, unhealthy=1, healthy=1)
    upstreams = Upstreams(health=check)
    async with rig(service, plain, upstreams=upstreams, towards=ours.towards) as r:
        endpoints = {one.instance.instance_id: one for one in r.gateway.clusters.endpoints}

        def verdicts() -> list[bool]:
            return [bool(one.health and one.health.healthy) for one in endpoints.values()]

        await eventually(lambda: verdicts() == [True, False])
        await eventually(lambda: len(service.received) >= 2)
        assert plain.received == []


async def test_a_tunnel_is_encrypted_too(issuing: Issuing) -> None:
    shop, _ = await issuing.credentials("shop", ("gateway",))
    ours, _ = await issuing.credentials("gateway")

    async def echo(connection: object) -> None:
        async for message in connection:  # type: ignore[attr-defined]
            await connection.send(message)  # type: ignore[attr-defined]

    config = GatewayConfig(routes=(Route(service="shop"),), drain=0.3, lame_duck=0.05)
    async with serve(echo, "127.0.0.1", 0, ssl=shop.server) as server:
        port = next(iter(server.sockets)).getsockname()[1]
        source = Static(at(Address("127.0.0.1", port)))
        gateway = Gateway(config, source, towards=ours.towards)
        async with (
            gateway.serving(Address("127.0.0.1", 0)) as address,
            connect(f"ws://{address.host}:{address.port}/", proxy=None) as client,
        ):
            await client.send("x" * 100_000)
            assert await client.recv() == "x" * 100_000


async def test_a_client_that_ends_its_half_of_a_tunnel_ends_it(issuing: Issuing) -> None:
    shop, _ = await issuing.credentials("shop", ("gateway",))
    ours, _ = await issuing.credentials("gateway")

    async def script(request: Received) -> None:
        head = b"HTTP/1.1 101 Switching Protocols\r\nupgrade: echo\r\nconnection: upgrade\r\n\r\n"
        request.writer.write(head)
        while data := await request.reader.read(100):
            request.writer.write(data)
            await request.writer.drain()

    routes = (Route(service="shop", upgrades=("echo",)),)
    async with rig(Service(script, tls=shop.server), routes=routes, towards=ours.towards) as r:
        client = await r.connect()
        await client.send(get("/", "connection: upgrade", "upgrade: echo"))
        assert (await client.head()).status == 101
        await client.send(b"hello")
        assert await client.reader.readexactly(5) == b"hello"
        client.writer.write_eof()
        assert await client.is_closed()
