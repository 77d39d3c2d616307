"""What is peculiar to RabbitMQ: a topic without a group keeps its messages for the first one."""

import pytest

from seawall.messaging.base import Message, Subscription
from seawall.messaging.connect import open_transport
from tests.support import servers
from tests.support.brokers import PATIENCE, chosen

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
