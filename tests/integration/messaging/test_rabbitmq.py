"""What is peculiar to RabbitMQ: a topic without a group keeps its messages for the first one, and
publishes are under way together."""

import asyncio
import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest

from seawall.errors import OutcomeUnknown, Unavailable
from seawall.messaging.base import Message, Subscription
from seawall.messaging.connect import open_transport
from seawall.messaging.publisher import Publisher
from seawall.messaging.transports.rabbit_layout import Topic
from seawall.messaging.transports.rabbitmq import RabbitMQ, RabbitTransport
from tests.support import servers
from tests.support.brokers import PATIENCE, chosen
from tests.support.certificates import certificate
from tests.support.servers import free_port
from tests.support.transports import carries_a_message

pytestmark = [
    pytest.mark.skipif(not chosen("rabbitmq"), reason="not among SEAWALL_TEST_BROKERS"),
    pytest.mark.timeout(PATIENCE["rabbitmq"]),
]


async def test_the_first_group_gets_what_was_published_before_it(
    rabbitmq: servers.RabbitServer, unique: str
) -> None:
    transport = open_transport(rabbitmq.url)
    try:
        for name in ("a", "b"):
            (receipt,) = await transport.publish(unique, [Message(name, b"{}")])
            assert receipt.error is None
        first, later = Subscription(unique, "first"), Subscription(unique, "later")
        await transport.provision([first])
        await transport.provision([later])
        found = [
            delivery.message.id
            for _ in range(2)
            for delivery in await transport.fetch(first, 1, wait=5, lease=30)
        ]
        assert found == ["a", "b"]
        assert not await transport.fetch(later, 1, wait=0.2, lease=30)
    finally:
        await transport.aclose()


async def test_publishes_under_way_together_are_stored_in_their_order(
    rabbitmq: servers.RabbitServer, unique: str
) -> None:
    transport = open_transport(rabbitmq.url)
    sub = Subscription(unique, "g")
    try:
        await transport.provision([sub])
        cold = open_transport(rabbitmq.url)  # it connects and declares with the first of them
        try:
            async with Publisher(cold, batch=3) as publisher:
                await asyncio.gather(
                    *(publisher.publish(unique, Message(str(n), b"")) for n in range(100))
                )
        finally:
            await cold.aclose()
        found: list[str] = []
        while len(found) < 100:
            deliveries = await transport.fetch(sub, 100, wait=5, lease=30)
            assert deliveries
            found += [delivery.message.id for delivery in deliveries]
        assert found == [str(n) for n in range(100)]
    finally:
        await transport.aclose()


async def test_what_would_be_stored_behind_a_later_message_is_not_stored(
    rabbitmq: servers.RabbitServer, unique: str
) -> None:
    """Somebody deletes a topic while it is published to: its publisher decides about the order."""
    transport = open_transport(rabbitmq.url)
    assert isinstance(transport, RabbitTransport)
    sub = Subscription(unique, "g")
    try:
        await transport.provision([sub])
        await transport.publish(unique, [Message("first", b"")])
        link, exchange = transport._link, Topic.of(unique).exchange
        await link.on_channel(lambda channel: channel.exchange_delete(exchange))
        both = await asyncio.gather(
            transport.publish(unique, [Message("a", b"")]),
            transport.publish(unique, [Message("b", b"")]),
        )
        told = [receipts[0].error for receipts in both]
        assert isinstance(told[0], OutcomeUnknown)
        assert told[1] is None
        (again,) = await transport.publish(unique, [Message("a", b"")])
        assert again.error is None
    finally:
        await transport.aclose()


@pytest.fixture
def guarded(tmp_path: Path) -> Iterator[int]:
    """The port on which a server speaks TLS."""
    cert, key = certificate(tmp_path)
    port = free_port()
    config = f"""
    listeners.ssl.default = 127.0.0.1:{port}
    ssl_options.certfile = {cert}
    ssl_options.keyfile = {key}
    """
    server = servers.RabbitServer(config).start()
    yield port
    server.stop()


async def test_tls(guarded: int, tmp_path: Path, unique: str) -> None:
    options = RabbitMQ.parse(f"amqps://guest:guest@127.0.0.1:{guarded}/")
    trusting = ssl.create_default_context(cafile=str(tmp_path / "cert.pem"))
    assert await carries_a_message(RabbitTransport(options, tls=trusting), unique)
    stranger = RabbitTransport(options)
    with pytest.raises(Unavailable, match="certificate"):
        await stranger.open()
    await stranger.aclose()
