"""What is declared on RabbitMQ, and when: idempotent, once a connection.

Queues are quorum queues: replicated in a cluster, on disk when a publish is confirmed, and they
count deliveries. Their bounds reject rather than drop.
"""

import uuid
from typing import Any

from aiormq.abc import AbstractChannel

from seawall.clock import Clock
from seawall.errors import Full, Misconfigured
from seawall.messaging.base import Subscription
from seawall.messaging.transports.rabbit_channel import Post
from seawall.messaging.transports.rabbit_layout import (
    DUE,
    UNIT,
    Group,
    Topic,
    after_level,
    level_name,
    level_patterns,
    too_long,
)
from seawall.messaging.transports.rabbit_link import RabbitLink
from seawall.messaging.transports.rabbit_taking import Busy, taken

# RabbitMQ 4 drops a message after 20 deliveries unless told otherwise; attempts are bounded by
# the retry policy, which keeps what it gives up.
DELIVERY_LIMIT = 1_000_000_000

ADOPT = 1_000  # messages in hand while the first group takes over what nobody has read

_QUORUM: dict[str, Any] = {"x-queue-type": "quorum"}


class Topology:
    """Declares through one link."""

    def __init__(
        self, link: RabbitLink, *, backlog: int, unread: int, dead: int, clock: Clock
    ) -> None:
        self._link = link
        self._clock = clock
        self._backlog = backlog
        self._unread = unread
        self._dead = dead

    async def topic(self, topic: Topic) -> None:
        async def declare(channel: AbstractChannel) -> None:
            unread = _QUORUM | {"x-max-length": self._unread, "x-overflow": "drop-head"}
            await channel.exchange_declare(topic.unread, exchange_type="fanout", durable=True)
            await channel.queue_declare(topic.unread, durable=True, arguments=unread)
            await channel.queue_bind(topic.unread, topic.unread)
            await channel.exchange_declare(
                topic.exchange,
                exchange_type="fanout",
                durable=True,
                arguments={"alternate-exchange": topic.unread},
            )
            await channel.exchange_declare(DUE, exchange_type="topic", durable=True)
            await channel.exchange_bind(topic.exchange, DUE, f"#.{topic.due}")

        await self._link.once(topic, declare)

    async def group(self, subscription: Subscription) -> None:
        group = Group.of(subscription)
        wire = await self._link.ready()
        if group in wire.declared:
            return
        if too_long(subscription.topic, subscription.group):
            raise Misconfigured(
                f"{subscription} has names too long for RabbitMQ",
                fix="100 bytes each, 180 together; others than a-z A-Z 0-9 - _ count triple",
            )
        await self.topic(group.topic)

        async def declare(channel: AbstractChannel) -> None:
            arguments = _QUORUM | {
                "x-max-length": self._backlog,
                "x-overflow": "reject-publish",
                "x-delivery-limit": DELIVERY_LIMIT,
            }
            await channel.queue_declare(group.queue, durable=True, arguments=arguments)
            await channel.queue_bind(group.queue, group.topic.exchange)
            await channel.queue_bind(group.queue, DUE, f"#.{group.due}")

        await self._link.once(group, declare)
        await self._adopt(group)

    async def dead(self, group: Group) -> None:
        async def declare(channel: AbstractChannel) -> None:
            arguments = _QUORUM | {
                "x-max-length": self._dead,
                "x-overflow": "reject-publish",
                "x-delivery-limit": DELIVERY_LIMIT,
            }
            await channel.queue_declare(group.dead, durable=True, arguments=arguments)

        await self._link.once(group.dead, declare)

    async def delays(self, top: int) -> None:
        """The levels of a delay, up to `top`."""
        for level in range(top + 1):
            await self._level(level)

    async def _level(self, level: int) -> None:
        async def declare(channel: AbstractChannel) -> None:
            name, after = level_name(level), after_level(level)
            waits, passes = level_patterns(level)
            arguments = _QUORUM | {
                "x-message-ttl": round(UNIT * 1000) << level,
                "x-dead-letter-exchange": after,
                # Moved with confirms: otherwise a crash at the wrong moment loses some.
                "x-dead-letter-strategy": "at-least-once",
                "x-overflow": "reject-publish",
            }
            await channel.exchange_declare(DUE, exchange_type="topic", durable=True)
            await channel.exchange_declare(name, exchange_type="topic", durable=True)
            await channel.queue_declare(name, durable=True, arguments=arguments)
            await channel.queue_bind(name, name, waits)
            await channel.exchange_bind(after, name, passes)

        await self._link.once(level_name(level), declare)

    async def _adopt(self, group: Group) -> None:
        """Move what was published before there was any group into this one's queue."""
        unread = group.topic.unread
        while count := await self._link.count(unread):
            if not await self._adopt_some(group, min(count, ADOPT)):
                return

    async def _adopt_some(self, group: Group, count: int) -> bool:
        wire = await self._link.ready()
        try:
            async with taken(wire, group.topic.unread, count, self._clock, exclusive=True) as found:
                posts = []
                for message in found.messages:
                    properties = message.header.properties
                    # Another client's has none: copies of it are to be known as the same.
                    properties.message_id = properties.message_id or uuid.uuid4().hex
                    posts.append(Post("", group.queue, message.body, properties))
                if not posts:
                    return False
                if any(await wire.publish(posts)):
                    raise Full(f"{group.queue} has no room for what nobody has read")
                await found.remove_all()
                return True
        except Busy:
            return False  # another group was first, and gets all of it
