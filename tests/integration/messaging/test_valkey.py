"""What is peculiar to Valkey and Redis: foreign entries, bounds, trimming, connections."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from seawall.errors import Full, Misconfigured, Unavailable
from seawall.messaging.base import Durability, Message, Subscription
from seawall.messaging.consumer import Consumer
from seawall.messaging.facts import Unread
from seawall.messaging.publisher import Publisher
from seawall.messaging.transports.entries import Keys
from seawall.messaging.transports.resp import Link, Server
from seawall.messaging.transports.valkey import ValkeyTransport
from tests.support.servers import RespServer
from tests.support.waiting import eventually


@pytest.fixture
def server(valkey: RespServer) -> Server:
    return Server.parse(valkey.url)


@pytest.fixture
async def transport(server: Server) -> AsyncIterator[ValkeyTransport]:
    transport = ValkeyTransport(server)
    await transport.open()
    yield transport
    await transport.aclose()


@pytest.fixture
async def link(server: Server) -> AsyncIterator[Link]:
    """A client that is not Seawall."""
    link = Link(server, "test")
    yield link
    await link.aclose()


def messages(count: int) -> list[Message]:
    return [Message(str(n), b"{}") for n in range(count)]


async def test_an_entry_of_another_client_is_read(
    transport: ValkeyTransport, link: Link, unique: str
) -> None:
    key = Keys.of(Subscription(unique, "g")).topic
    await link.call("XADD", key, "7-1", "data", b"\xff", "extra", "x")
    (found,) = await transport.fetch(Subscription(unique, "g"), 1, wait=1, lease=30)
    assert (found.message, found.damage) == (Message("7-1", b"\xff"), "")


@pytest.mark.parametrize(
    "fields", [("no", "body"), ("id", "a", "data", b"\xff\x00", "headers", "{torn")]
)
async def test_an_unreadable_entry_ends_in_the_dead_letters_with_its_bytes(
    transport: ValkeyTransport, link: Link, unique: str, fields: tuple[str | bytes, ...]
) -> None:
    sub = Subscription(unique, "g")
    await link.call("XADD", Keys.of(sub).topic, "*", *fields)
    seen: list[str] = []

    async def handle(delivery: object) -> None:
        seen.append("called")

    async with Consumer(transport, sub, handle):
        async with asyncio.timeout(5):
            while not (letters := await transport.dead_letters(sub)):
                await link.call("PING")
    assert not seen
    (letter,) = letters
    assert letter.reason == "undecodable"
    (stored,) = await link.call("XRANGE", Keys.of(sub).dead, "-", "+")
    raw = [field.encode() if isinstance(field, str) else field for field in fields]
    assert stored[1][-len(raw) :] == raw
    assert all(part in letter.message.body for part in raw)


async def test_settled_messages_are_trimmed_up_to_the_slowest_group(
    transport: ValkeyTransport, link: Link, unique: str
) -> None:
    quick, slow = Subscription(unique, "quick"), Subscription(unique, "slow")
    await transport.provision([quick, slow])
    await transport.publish(unique, messages(2_000))
    await transport.ack(await transport.fetch(quick, 2_000, wait=1, lease=30))
    reader = transport._readers[quick]
    await reader.trim()
    assert await link.call("XLEN", Keys.of(quick).topic) == 2_000
    held = await transport.fetch(slow, 2_000, wait=1, lease=30)
    await transport.ack(held[:1_500])
    await reader.trim()
    assert 500 <= await link.call("XLEN", Keys.of(quick).topic) <= 700  # whole nodes only
    assert (await transport.lag(slow)).in_flight == 500
    await transport.ack(held[1_500:])
    await reader.trim()
    assert await link.call("XLEN", Keys.of(quick).topic) <= 200
    assert (await transport.lag(slow)).ready == 0


async def test_a_consumer_trims_by_itself(
    transport: ValkeyTransport, link: Link, unique: str
) -> None:
    sub = Subscription(unique, "g")
    await transport.publish(unique, messages(3_000))
    await transport.ack(await transport.fetch(sub, 3_000, wait=1, lease=30))
    transport._readers[sub]._trim_at = transport._readers[sub]._chores_at = 0.0
    await transport.fetch(sub, 1, wait=0, lease=30)
    assert await link.call("XLEN", Keys.of(sub).topic) <= 200


async def test_a_topic_has_a_bound(server: Server, unique: str) -> None:
    transport = ValkeyTransport(server, backlog=500)
    sub = Subscription(unique, "g")
    await transport.provision([sub])
    for _ in range(5):
        assert all(r.error is None for r in await transport.publish(unique, messages(100)))
    receipts = await transport.publish(unique, messages(2))
    assert [type(receipt.error) for receipt in receipts] == [Full, Full]
    await transport.ack(await transport.fetch(sub, 500, wait=1, lease=30))
    assert all(r.error is None for r in await transport.publish(unique, messages(100)))
    await transport.aclose()


async def test_what_nobody_ever_read_is_bounded_and_told(
    server: Server, link: Link, unique: str
) -> None:
    facts: list[object] = []
    transport = ValkeyTransport(server, observer=facts.append, unread=1_000)
    for _ in range(30):
        receipts = await transport.publish(unique, messages(100))
        assert all(receipt.error is None for receipt in receipts)
    kept = await link.call("XLEN", Keys.of(Subscription(unique, "g")).topic)
    assert 1_000 <= kept <= 1_300
    dropped = sum(fact.dropped for fact in facts if isinstance(fact, Unread))
    assert dropped == 3_000 - kept
    await transport.aclose()


async def test_connections_are_bounded(server: Server, link: Link, unique: str) -> None:
    transport = ValkeyTransport(server)
    seen: list[object] = []

    async def handle(delivery: object) -> None:
        seen.append(delivery)

    consumers = [
        Consumer(transport, Subscription(unique, group), handle) for group in ("a", "b", "c")
    ]
    async with Publisher(transport) as publisher, consumers[0], consumers[1], consumers[2]:
        await asyncio.gather(*(publisher.publish(unique, m) for m in messages(500)))
        await eventually(lambda: len(seen) == 1_500)
        clients = (await link.call("CLIENT", "LIST")).decode()
        ours = clients.count(f"name=seawall-{transport._consumer}")
        assert ours == 1 + 3
    await transport.aclose()

    async def gone() -> bool:
        clients = (await link.call("CLIENT", "LIST")).decode()
        return f"seawall-{transport._consumer}" not in clients

    async with asyncio.timeout(5):
        while not await gone():
            pass


async def test_a_closed_transport_leaves_its_name_only_where_messages_are(
    server: Server, link: Link, unique: str
) -> None:
    sub = Subscription(unique, "g")
    keys = Keys.of(sub)
    transport = ValkeyTransport(server)
    await transport.publish(unique, messages(1))
    (held,) = await transport.fetch(sub, 1, wait=1, lease=30)
    await transport.retry(held, delay=0, error="")
    await transport.fetch(sub, 1, wait=1, lease=30)
    await transport.aclose()
    assert await link.call("XINFO", "CONSUMERS", keys.topic, "g") == []
    assert len(await link.call("XINFO", "CONSUMERS", keys.retry, "g")) == 1


async def test_durability_is_what_the_server_says(
    transport: ValkeyTransport, link: Link, unique: str
) -> None:
    seen = [transport.caps.durability]
    try:
        await link.call("CONFIG", "SET", "appendfsync", "everysec")
        await transport.open()
        seen.append(transport.caps.durability)
    finally:
        await link.call("CONFIG", "SET", "appendfsync", "always")
    assert seen == [Durability.FSYNC, Durability.OS]


async def test_a_key_of_another_kind_is_told(
    transport: ValkeyTransport, link: Link, unique: str
) -> None:
    sub = Subscription(unique, "g")
    await link.call("SET", Keys.of(sub).topic, "x")
    with pytest.raises(Misconfigured, match="WRONGTYPE"):
        await transport.lag(sub)
    (receipt,) = await transport.publish(unique, messages(1))
    assert isinstance(receipt.error, Misconfigured)


async def test_a_wrong_password_is_told(valkey: RespServer) -> None:
    transport = ValkeyTransport(Server.parse(f"redis://:wrong@127.0.0.1:{valkey.port}/0"))
    with pytest.raises(Misconfigured):
        await transport.open()
    await transport.aclose()


async def test_forgotten_scripts_are_sent_again(
    transport: ValkeyTransport, link: Link, unique: str
) -> None:
    sub = Subscription(unique, "g")
    await transport.publish(unique, messages(2))
    found = await transport.fetch(sub, 2, wait=1, lease=30)
    await link.call("SCRIPT", "FLUSH")
    await transport.ack(found)
    assert (await transport.lag(sub)).in_flight == 0


async def test_a_server_without_memory_refuses_and_nothing_is_stored(
    transport: ValkeyTransport, link: Link, unique: str
) -> None:
    await transport.publish(unique, messages(1))
    try:
        await link.call("CONFIG", "SET", "maxmemory", "1")
        (receipt,) = await transport.publish(unique, messages(1))
        assert isinstance(receipt.error, Full)
    finally:
        await link.call("CONFIG", "SET", "maxmemory", "0")
    assert await link.call("XLEN", Keys.of(Subscription(unique, "g")).topic) == 1


async def test_what_is_not_resp_is_told(unique: str) -> None:
    async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(10)
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(greet, "127.0.0.1", 0) as other:
        port = other.sockets[0].getsockname()[1]
        transport = ValkeyTransport(Server.parse(f"redis://127.0.0.1:{port}"))
        with pytest.raises(Unavailable):
            await transport.open()
        await transport.aclose()
