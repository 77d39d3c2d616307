"""What tests do with a transport: store, take, and give up messages."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from seawall.messaging.base import Delivery, Message, Subscription, Transport

LEASE = 30.0  # longer than any test
SHORT = 0.3  # one that is meant to run out; see `short`

Opener = Callable[[], Awaitable[Transport]]


def short(transport: Transport) -> float:
    return max(SHORT, transport.caps.resolution)


def message(name: str = "a", body: bytes = b"{}", key: str | None = None) -> Message:
    return Message(name, body, {"ce-id": name, "ce-type": "tested"}, key)


async def store(transport: Transport, topic: str, *messages: Message, delay: float = 0) -> None:
    receipts = await transport.publish(topic, messages, delay=delay)
    assert [receipt.error for receipt in receipts] == [None] * len(messages)


async def take(
    transport: Transport, sub: Subscription, *, wait: float = 10.0, lease: float = LEASE
) -> Delivery:
    (delivery,) = await transport.fetch(sub, 1, wait=wait, lease=lease)
    return delivery


async def nothing(transport: Transport, sub: Subscription, within: float = 0.15) -> bool:
    return not await transport.fetch(sub, 10, wait=within, lease=LEASE)


async def take_all(
    transport: Transport, sub: Subscription, count: int, *, lease: float = LEASE
) -> list[Delivery]:
    found: list[Delivery] = []
    async with asyncio.timeout(20):
        while (left := count - len(set(ids(found)))) > 0:
            found += await transport.fetch(sub, left, wait=1, lease=lease)
    return found


def ids(deliveries: Sequence[Delivery]) -> list[str]:
    return [delivery.message.id for delivery in deliveries]


async def bury(transport: Transport, sub: Subscription, *names: str) -> None:
    await store(transport, sub.topic, *(message(name) for name in names))
    for delivery in await take_all(transport, sub, len(names)):
        await transport.dead(delivery, reason="rejected", error="no")


async def carries_a_message(transport: Transport, topic: str) -> bool:
    """Publish, fetch and acknowledge one."""
    sub = Subscription(topic, "group")
    try:
        await transport.provision([sub])
        (receipt,) = await transport.publish(topic, [Message("m", b"{}")])
        found = await transport.fetch(sub, 1, wait=5, lease=30)
        await transport.ack(found)
        return receipt.error is None and [each.message.id for each in found] == ["m"]
    finally:
        await transport.aclose()
