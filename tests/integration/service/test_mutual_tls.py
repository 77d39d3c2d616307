"""Who is heard and who is not, on real sockets; and certificates that change under load."""

import asyncio
import ssl
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from fastapi import WebSocket
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from seawall import Service
from seawall.errors import NotSent, SeawallError
from seawall.identity.authority import Authority
from seawall.identity.credentials import PeerRefused
from seawall.identity.mutual import MutualTls
from seawall.registry.connect import open_registry
from seawall.service.settings import Settings
from seawall.topology import Address, Instance, InstanceState
from seawall.transport.http1 import Answer, request_head
from seawall.transport.pool import ConnectFailed, Pool, PoolConfig
from seawall.transport.tls import Secured
from tests.support.identified import EXPIRED, Issuing, Stock, serving, tapped
from tests.support.waiting import eventually, settle

HEAD = request_head("GET", "/stock", "inventory", [("x-secret", "plum pudding")], None)


@pytest.fixture
def issuing(tmp_path: Path) -> Issuing:
    return Issuing(tmp_path)


@pytest.fixture
def stranger() -> Authority:
    return Authority.generate(datetime.now(UTC) - timedelta(days=2))


async def ask(address: Address, tls: Secured | None) -> Answer:
    pool = Pool(address, PoolConfig(limit=1, connect_timeout=10.0), tls=tls)
    try:
        return await pool.exchange(HEAD, b"", within=10.0, method="GET")
    finally:
        pool.close()


async def told(facts: Sequence[object], reason: str) -> str:
    """The detail of the only fact, which is that reason."""
    await eventually(lambda: len(facts) > 0)
    (fact,) = facts
    assert isinstance(fact, PeerRefused)
    assert fact.reason == reason
    return fact.detail


async def test_who_is_needed_is_heard_and_the_wire_is_unreadable(issuing: Issuing) -> None:
    callee, _ = await issuing.credentials("inventory", ("orders",))
    caller, refused = await issuing.credentials("orders")
    stock = Stock()
    async with serving(stock, callee) as address, tapped(address) as (tap, seen):
        answer = await ask(tap, caller.towards("inventory"))
    assert (answer.status, answer.body) == (200, b'{"tea":7}')
    assert stock.schemes == {"https"}
    assert refused == []
    assert len(seen) > 1000
    for readable in (b"HTTP", b"stock", b"plum pudding", b"tea"):
        assert readable not in seen


async def test_the_tap_reads_what_is_not_encrypted(issuing: Issuing) -> None:
    stock = Stock()
    async with serving(stock, None) as address, tapped(address) as (tap, seen):
        assert (await ask(tap, None)).status == 200
    assert b"plum pudding" in seen


async def test_a_caller_that_may_not_is_told_so(issuing: Issuing) -> None:
    callee, facts = await issuing.credentials("inventory", ("orders",))
    caller, _ = await issuing.credentials("recommendations")
    stock = Stock()
    async with serving(stock, callee) as address:
        answer = await ask(address, caller.towards("inventory"))
        assert answer.status == 403
        assert answer.header(b"content-type") == b"application/problem+json"
        assert b"shop/recommendations may not talk to" in answer.body
        assert "shop/recommendations may not talk to" in await told(facts, "not allowed")
    assert stock.asked == 0


@pytest.mark.parametrize("reason", ["wrong authority", "expired", "not yet valid"])
async def test_a_wrong_certificate_is_refused(
    issuing: Issuing, stranger: Authority, reason: str
) -> None:
    callee, facts = await issuing.credentials("inventory", ("orders",))
    since = {"expired": EXPIRED, "not yet valid": timedelta(hours=1)}.get(reason, timedelta(0))
    by = stranger if reason == "wrong authority" else None
    caller, _ = await issuing.credentials("orders", since=since, by=by)
    stock = Stock()
    async with serving(stock, callee) as address:
        with pytest.raises(NotSent, match="the other side refused our certificate"):
            await ask(address, caller.towards("inventory"))
        await told(facts, reason)
    assert stock.asked == 0


async def test_a_caller_without_a_certificate_is_refused(issuing: Issuing) -> None:
    callee, facts = await issuing.credentials("inventory", ("orders",))
    folder = await asyncio.to_thread(issuing.write, "orders")
    bare = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    bare.check_hostname = False
    bare.load_verify_locations(folder / "ca.crt")
    stock = Stock()
    async with serving(stock, callee) as address:
        with pytest.raises(NotSent, match="certificate required"):
            await ask(address, Secured(bare, lambda certificate: None))
        await told(facts, "no certificate")
    assert stock.asked == 0


async def test_plain_text_is_not_answered(issuing: Issuing) -> None:
    callee, facts = await issuing.credentials("inventory", ("orders",))
    stock = Stock()
    async with serving(stock, callee) as address:
        with pytest.raises(SeawallError):
            await ask(address, None)
        await told(facts, "not TLS")
    assert stock.asked == 0


@pytest.mark.parametrize(
    "reason", ["wrong authority", "expired", "not allowed", "not TLS", "nobody"]
)
async def test_a_caller_sends_nothing_to_the_wrong_callee(
    issuing: Issuing, stranger: Authority, reason: str
) -> None:
    caller, facts = await issuing.credentials("orders")
    name = "catalog" if reason == "not allowed" else "inventory"
    since = EXPIRED if reason == "expired" else timedelta(0)
    by = stranger if reason == "wrong authority" else None
    callee, _ = await issuing.credentials(name, ("orders",), since=since, by=by)
    stock = Stock()
    async with serving(stock, None if reason == "not TLS" else callee) as address:
        if reason == "nobody":
            address = Address(address.host, 1)
        async with tapped(address) as (tap, seen):
            with pytest.raises(ConnectFailed):
                await ask(tap, caller.towards("inventory"))
            if reason != "nobody":
                await told(facts, reason)
    assert stock.asked == 0
    assert b"plum pudding" not in seen


async def test_a_body_in_pieces_comes_as_it_was_sent(issuing: Issuing) -> None:
    callee, _ = await issuing.credentials("inventory", ("orders",))
    caller, _ = await issuing.credentials("orders")
    pieces = [bytes([65 + n % 26]) * size for n, size in enumerate((1, 100, 16_000, 400, 300_000))]

    async def application(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for number, piece in enumerate(pieces):
            if number % 2:
                await settle()  # another turn of the loop
            await send({"type": "http.response.body", "body": piece, "more_body": True})
        await send({"type": "http.response.body", "body": b""})

    async with serving(application, callee) as address:
        assert (await ask(address, caller.towards("inventory"))).body == b"".join(pieces)


async def test_a_websocket_is_for_those_who_may_call_too(issuing: Issuing) -> None:
    callee, _ = await issuing.credentials("inventory", ("orders",))
    friend, other = [await issuing.credentials(who) for who in ("orders", "catalog")]
    service = Service("inventory")

    @service.websocket("/echo")
    async def echo(socket: WebSocket) -> None:
        await socket.accept()
        await socket.send_text((await socket.receive_text()) * 1000)
        await socket.close()

    async with serving(service, callee) as address:
        url = f"wss://{address.host}:{address.port}/echo"
        friendly, hostile = [one[0].towards("inventory") for one in (friend, other)]
        assert friendly is not None
        assert hostile is not None
        async with connect(url, ssl=friendly.context, proxy=None) as client:
            await client.send("tea")
            assert await client.recv() == "tea" * 1000
        with pytest.raises(InvalidStatus, match="403"):
            await connect(url, ssl=hostile.context, proxy=None)


async def test_under_another_server_a_service_still_calls_by_tls(
    issuing: Issuing, unique: str
) -> None:
    callee, _ = await issuing.credentials("inventory", ("orders",))
    folder = await asyncio.to_thread(issuing.write, "orders")
    url = f"memory://{unique}"
    orders = Service("orders", settings=Settings(registry_url=url, tls=str(folder)))
    inventory = orders.client("inventory", timeout=10.0)

    @orders.get("/ask")
    async def asked() -> dict[str, int]:
        return dict(await inventory.get("/stock", returns=dict[str, int]))

    stock = Stock()
    async with serving(stock, callee) as address:
        known = Instance(
            service="inventory",
            version="1.0.0",
            instance_id="inventory-1",
            incarnation="1",
            address=address,
            state=InstanceState.READY,
        )
        registry = open_registry(url)
        await registry.renew(known)
        async with serving(orders, None, lifespan="on") as where:
            pool = Pool(where)
            head = request_head("GET", "/ask", "orders", [], None)
            answer = await pool.exchange(head, b"", within=20.0, method="GET")
            pool.close()
        await registry.aclose()
    assert answer.body == b'{"tea":7}'
    assert stock.schemes == {"https"}


async def test_a_service_that_is_exempt_is_called_in_plain_text(issuing: Issuing) -> None:
    caller, _ = await issuing.credentials("orders", plain=("mailbox",))
    stock = Stock()
    assert caller.towards("mailbox") is None
    async with serving(stock, None) as address:
        assert (await ask(address, caller.towards("mailbox"))).status == 200


async def test_a_flood_of_refusals_is_told_once_a_second(issuing: Issuing) -> None:
    callee, facts = await issuing.credentials("inventory", ("orders",))
    caller, _ = await issuing.credentials("recommendations")
    async with serving(Stock(), callee) as address:
        for _ in range(30):
            assert (await ask(address, caller.towards("inventory"))).status == 403
    assert 1 <= len(facts) < 30


async def test_certificates_change_under_load_and_no_request_is_lost(issuing: Issuing) -> None:
    callee, callee_facts = await issuing.credentials("inventory", ("orders",))
    caller, caller_facts = await issuing.credentials("orders")
    tls = caller.towards("inventory")
    answers: list[int] = []
    over = asyncio.Event()
    stock = Stock()

    async def load(pool: Pool | None, address: Address) -> None:
        """On one connection that is kept, or, without a pool, on a new one each time."""
        while not over.is_set():
            mine = pool or Pool(address, PoolConfig(connect_timeout=10.0), tls=tls)
            answer = await mine.exchange(HEAD, b"", within=10.0, method="GET")
            answers.append(answer.status)
            if pool is None:
                mine.close()

    shown: set[str] = set()
    async with serving(stock, callee) as address:
        kept = Pool(address, PoolConfig(limit=2, connect_timeout=10.0), tls=tls)
        async with asyncio.TaskGroup() as tasks:
            for pool in (kept, kept, None, None):
                tasks.create_task(load(pool, address))
            for _ in range(6):
                shown.add(await serial(address, issuing))
                await asyncio.to_thread(issuing.write, "inventory", ("orders",))
                await asyncio.to_thread(issuing.write, "orders")
                await callee.refresh()
                await caller.refresh()
                before = len(answers)
                await eventually(lambda before=before: len(answers) > before + 20, within=20)
            over.set()
        kept.close()
    assert set(answers) == {200}
    assert stock.asked == len(answers)
    assert len(shown) == 6
    assert len(callee_facts) == len(caller_facts) == 6


async def serial(address: Address, issuing: Issuing) -> str:
    """Of the certificate that is shown there."""
    client = await asyncio.to_thread(lambda: MutualTls(issuing.write("orders")).client)
    _, writer = await asyncio.open_connection(address.host, address.port, ssl=client)
    certificate = writer.get_extra_info("peercert")
    writer.close()
    return str(certificate["serialNumber"])
