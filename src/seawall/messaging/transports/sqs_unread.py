"""What is published before a topic has a group: kept in a queue, for the first group that comes.

SNS and EventBridge drop what no queue takes, and a job that was sent before its worker was there
for the first time would be lost. So a topic without any queue gets one, `TOPIC---unread`. The
first group disconnects it when its own queue is connected, and then moves what is in it: what is
published at that moment is in one of them, or in both.
"""

from collections.abc import Awaitable, Callable

from seawall.messaging.base import Subscription
from seawall.messaging.transports.sqs_entries import (
    BATCH,
    found,
    queue_name,
    stored,
    unread_name,
)
from seawall.messaging.transports.sqs_fanout import Fanout, Queues
from seawall.messaging.transports.sqs_link import Link, Missing

# While they are moved. What a mover that died had in hand is moved by the next one.
LEASE = 30  # seconds

_COUNT = "ApproximateNumberOfMessages"

Connect = Callable[[str, str, str], Awaitable[None]]


class Unread:
    """The queues of one transport's topics that nobody reads yet."""

    def __init__(self, link: Link, queues: Queues, fanout: Fanout, *, connect: Connect) -> None:
        self._link = link
        self._queues = queues
        self._fanout = fanout
        self._connect = connect
        self._kept: set[str] = set()  # topics that have a queue, as far as we know

    async def keep(self, topic: str) -> None:
        """Make sure that some queue gets what is published."""
        if topic in self._kept:
            return
        if not await self._fanout.has_queue(topic):
            name = unread_name(topic)
            await self._connect(topic, name, await self._queues.make(name))
        self._kept.add(topic)

    async def adopt(self, subscription: Subscription) -> None:
        """Move what nobody has read into the queue of this group, which is connected."""
        topic, name = subscription.topic, unread_name(subscription.topic)
        try:
            url = await self._queues.url(name)
            said = await self._queues.attributes(url, "QueueArn", _COUNT)
        except Missing:
            self._queues.forget(name)
            return
        disconnected = await self._fanout.detach(topic, name, said["QueueArn"])
        if disconnected or int(said[_COUNT]):
            while await self._move_some(url, subscription):
                pass

    async def _move_some(self, url: str, subscription: Subscription) -> bool:
        answer = await self._link.call(
            "sqs",
            "receive_message",
            wait=1.0,  # what was just published may still be on its way
            QueueUrl=url,
            MaxNumberOfMessages=BATCH,
            WaitTimeSeconds=1,
            VisibilityTimeout=LEASE,
            MessageAttributeNames=["All"],
        )
        messages = answer.get("Messages", ())
        if not messages:
            return False
        finds = [found(received) for received in messages]
        copies = [stored(each.message, due=each.note.due) for each in finds]
        own = await self._queues.url(queue_name(subscription))
        for fate in await self._queues.send(own, copies):
            if fate is not None:
                raise fate
        entries = [
            {"Id": str(n), "ReceiptHandle": received["ReceiptHandle"]}
            for n, received in enumerate(messages)
        ]
        await self._link.call("sqs", "delete_message_batch", QueueUrl=url, Entries=entries)
        return True
