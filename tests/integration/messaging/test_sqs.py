"""What is peculiar to SQS: how a topic reaches the queues of its groups."""

import asyncio

import pytest

from seawall.errors import Misconfigured, Unavailable
from seawall.messaging.base import Message, Subscription, Transport
from seawall.messaging.connect import open_transport
from tests.support import servers
from tests.support.brokers import chosen

pytestmark = pytest.mark.skipif(not chosen("sqs"), reason="not among SEAWALL_TEST_BROKERS")


@pytest.mark.parametrize("scheme", ["eventbridge", "sqs"])
async def test_each_group_gets_each_message_without_sns(
    aws: servers.Child, unique: str, scheme: str
) -> None:
    tail = "&fanout=none" if scheme == "sqs" else ""
    endpoint = f"http://127.0.0.1:{aws.port}"
    transport = open_transport(f"{scheme}://key:secret@eu-west-1?endpoint={endpoint}{tail}")
    groups = [Subscription(unique, "mail"), Subscription(unique, "stock")]
    await transport.provision(groups)
    sent = Message("a", b'{"n": "\xff"}', {"ce-id": "a", "x-a": "\u017c"}, "key")
    (receipt,) = await transport.publish(unique, [sent])
    assert receipt.error is None
    for group in groups:
        (delivery,) = await transport.fetch(group, 10, wait=5, lease=30)
        assert (delivery.message, delivery.attempt) == (sent, 1)
        await transport.dead(delivery, reason="rejected", error="no")
        (letter,) = await transport.dead_letters(group)
        assert letter.message == sent
    await transport.aclose()


@pytest.mark.parametrize("kind", ["sqs://", "eventbridge://", "sqs://&fanout=none"])
async def test_the_first_group_gets_what_was_published_before_it(
    aws: servers.Child, unique: str, kind: str
) -> None:
    scheme, _, tail = kind.partition("://")
    endpoint = f"http://127.0.0.1:{aws.port}"
    url = f"{scheme}://key:secret@eu-west-1?endpoint={endpoint}{tail}"
    sender, receiver = open_transport(url), open_transport(url)
    await sender.publish(unique, [Message(str(n), b"{}", {"ce-id": str(n)}) for n in range(12)])
    first, second = Subscription(unique, "first"), Subscription(unique, "second")
    await receiver.provision([first, second])
    await sender.publish(unique, [Message("later", b"{}", {"ce-id": "later"})])
    assert await _all_of(receiver, first) == {*map(str, range(12)), "later"}
    assert await _all_of(receiver, second) == {"later"}
    for transport in (sender, receiver):
        await transport.aclose()


async def _all_of(transport: Transport, group: Subscription) -> set[str]:
    names: set[str] = set()
    while found := await transport.fetch(group, 20, wait=1, lease=30):
        names |= {delivery.message.id for delivery in found}
        await transport.ack(found)
    return names


async def test_no_service_is_told() -> None:
    port = servers.free_port()
    transport = open_transport(f"sqs://key:secret@eu-west-1?endpoint=http://127.0.0.1:{port}")
    async with asyncio.timeout(10):
        with pytest.raises(Unavailable):
            await transport.open()
    await transport.aclose()


@pytest.mark.parametrize(
    "url", ["sqs://r?fanout=kinesis", "sqs://r?odd=1", "sqs://r?retention=5", "sqs://r?timeout=x"]
)
def test_what_makes_no_sense_is_refused(url: str) -> None:
    with pytest.raises(Misconfigured):
        open_transport(url)
