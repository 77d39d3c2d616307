"""How a topic reaches the queues of its groups: by SNS, by EventBridge, or sent to each queue.

All take chunks of ten; what one call says about each message is that message's receipt.
"""

import asyncio
import hashlib
import json
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import Any, Protocol

from seawall.errors import Refused, SeawallError, Unavailable
from seawall.messaging.transports.sqs_entries import (
    ATTRIBUTE,
    BATCH,
    LARGEST,
    SOURCE,
    Stored,
    detail,
    is_dead_name,
    queues_of,
    topic_name,
    unread_name,
)
from seawall.messaging.transports.sqs_link import Link, Missing

Fates = list[SeawallError | None]

PARALLEL = 8  # calls of one publish under way at the same time

LONGEST_DELAY = 900  # seconds, SQS's limit

_LONGEST_RULE = 64  # characters, EventBridge's limit


class Fanout(Protocol):
    """Between a topic and its queues."""

    async def attach(self, topic: str, queue: str, queue_arn: str) -> None:
        """From here on the queue of that name gets what is published. Idempotent."""

    async def detach(self, topic: str, queue: str, queue_arn: str) -> bool:
        """From here on it gets nothing; False if it got nothing before."""

    async def has_queue(self, topic: str) -> bool:
        """Does any queue get what is published?"""

    async def publish(self, topic: str, messages: Sequence[Stored]) -> Fates: ...


def chunks(messages: Sequence[Stored]) -> Iterator[list[int]]:
    """Places of messages that fit into one call."""
    places: list[int] = []
    total = 0
    for place, message in enumerate(messages):
        if places and (len(places) == BATCH or total + message.size > LARGEST):
            yield places
            places, total = [], 0
        places.append(place)
        total += message.size
    if places:
        yield places


async def in_chunks(
    messages: Sequence[Stored], send: Callable[[list[Stored]], Awaitable[Fates]]
) -> Fates:
    """Send all, some chunks at a time; a failed call is the fate of its messages, or raised if
    no other went well."""
    fates: Fates = [None] * len(messages)
    failures: list[SeawallError] = []
    room = asyncio.Semaphore(PARALLEL)

    async def one(places: list[int]) -> None:
        async with room:
            try:
                answers = await send([messages[place] for place in places])
            except SeawallError as error:
                failures.append(error)
                answers = [error] * len(places)
        for place, answer in zip(places, answers, strict=True):
            fates[place] = answer

    parcels = list(chunks(messages))
    await asyncio.gather(*map(one, parcels))
    if failures and len(failures) == len(parcels):
        raise failures[0]
    return fates


def attributes_of(message: Stored) -> dict[str, Any]:
    return {ATTRIBUTE: {"DataType": "String", "StringValue": message.note}}


def fates_of(count: int, failed: Sequence[dict[str, Any]]) -> Fates:
    """What a batch call says: entries are named by their place."""
    fates: Fates = [None] * count
    for each in failed:
        text = f"{each.get('Code')}: {each.get('Message', '')}"
        fates[int(each["Id"])] = Refused(text) if each.get("SenderFault") else Unavailable(text)
    return fates


class Sns:
    """A topic of SNS, and raw subscriptions."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._arns: dict[str, str] = {}

    async def _arn(self, topic: str) -> str:
        if topic not in self._arns:
            made = await self._link.call("sns", "create_topic", Name=topic_name(topic))
            self._arns[topic] = made["TopicArn"]
        return self._arns[topic]

    async def attach(self, topic: str, queue: str, queue_arn: str) -> None:
        self._arns.pop(topic, None)  # made again, should it have been deleted
        arn = await self._arn(topic)
        await self._link.call(
            "sns",
            "subscribe",
            TopicArn=arn,
            Protocol="sqs",
            Endpoint=queue_arn,
            Attributes={"RawMessageDelivery": "true"},
            ReturnSubscriptionArn=True,
        )

    async def detach(self, topic: str, queue: str, queue_arn: str) -> bool:
        found = [s for s in await self._subscriptions(topic) if s["Endpoint"] == queue_arn]
        for each in found:
            await self._link.call("sns", "unsubscribe", SubscriptionArn=each["SubscriptionArn"])
        return bool(found)

    async def has_queue(self, topic: str) -> bool:
        return bool(await self._subscriptions(topic))

    async def _subscriptions(self, topic: str) -> list[dict[str, str]]:
        # One page: 100 groups of a topic, of which the first is enough to know that there are any.
        answer = await self._link.call(
            "sns", "list_subscriptions_by_topic", TopicArn=await self._arn(topic)
        )
        return list(answer.get("Subscriptions", ()))

    async def publish(self, topic: str, messages: Sequence[Stored]) -> Fates:
        arn = await self._arn(topic)

        async def send(chunk: list[Stored]) -> Fates:
            entries = [
                {"Id": str(n), "Message": each.body, "MessageAttributes": attributes_of(each)}
                for n, each in enumerate(chunk)
            ]
            try:
                answer = await self._link.call(
                    "sns", "publish_batch", TopicArn=arn, PublishBatchRequestEntries=entries
                )
            except Missing:
                self._arns.pop(topic, None)
                raise
            return fates_of(len(chunk), answer.get("Failed", ()))

        return await in_chunks(messages, send)


class EventBridge:
    """An event bus, and a rule for each group. The topic is the event's detail type."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._bus = link.options.bus

    async def attach(self, topic: str, queue: str, queue_arn: str) -> None:
        rule = _rule_name(queue)
        pattern = {"source": [SOURCE], "detail-type": [topic]}
        await self._link.call(
            "events",
            "put_rule",
            Name=rule,
            EventBusName=self._bus,
            EventPattern=json.dumps(pattern),
            State="ENABLED",
        )
        await self._link.call(
            "events",
            "put_targets",
            Rule=rule,
            EventBusName=self._bus,
            Targets=[{"Id": "queue", "Arn": queue_arn}],
        )

    async def detach(self, topic: str, queue: str, queue_arn: str) -> bool:
        rule = _rule_name(queue)
        try:
            await self._link.call(
                "events", "remove_targets", Rule=rule, EventBusName=self._bus, Ids=["queue"]
            )
        except Missing:
            return False
        await self._link.call("events", "delete_rule", Name=rule, EventBusName=self._bus)
        return True

    async def has_queue(self, topic: str) -> bool:
        answer = await self._link.call(
            "events", "list_rules", NamePrefix=queues_of(topic), EventBusName=self._bus, Limit=1
        )
        return bool(answer.get("Rules"))

    async def publish(self, topic: str, messages: Sequence[Stored]) -> Fates:
        async def send(chunk: list[Stored]) -> Fates:
            entries = [
                {
                    "Source": SOURCE,
                    "DetailType": topic,
                    "Detail": each.body,
                    "EventBusName": self._bus,
                }
                for each in chunk
            ]
            answer = await self._link.call("events", "put_events", Entries=entries)
            return [
                Unavailable(f"{each['ErrorCode']}: {each.get('ErrorMessage', '')}")
                if each.get("ErrorCode")
                else None
                for each in answer["Entries"]
            ]

        # An event is its detail; that of a message near the limit may be larger than it.
        events = [Stored(detail(message), "") for message in messages]
        fit = [event for event in events if event.size <= LARGEST]
        fates = iter(await in_chunks(fit, send))
        return [
            next(fates)
            if event.size <= LARGEST
            else Refused(f"an event of {event.size} bytes; at most {LARGEST} are taken")
            for event in events
        ]


def _rule_name(name: str) -> str:
    """EventBridge takes 64 characters, of which a queue's name may need more."""
    if len(name) <= _LONGEST_RULE:
        return name
    return f"{name[:50]}_{hashlib.sha256(name.encode()).hexdigest()[:12]}"


class Queues:
    """The queues themselves: sending, and finding those of a topic. Also the fan-out without
    SNS: a message is sent to each queue there is."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._urls: dict[str, str] = {}

    async def url(self, name: str) -> str:
        """Raises `Missing` if there is no such queue."""
        if name not in self._urls:
            answer = await self._link.call("sqs", "get_queue_url", QueueName=name)
            self._urls[name] = answer["QueueUrl"]
        return self._urls[name]

    async def make(self, name: str) -> str:
        """The ARN of the queue, which is made unless it is there."""
        self._urls.pop(name, None)
        try:
            url = await self.url(name)
        except Missing:
            retention = str(self._link.options.retention)
            made = await self._link.call(
                "sqs",
                "create_queue",
                QueueName=name,
                Attributes={"MessageRetentionPeriod": retention},
            )
            url = self._urls[name] = made["QueueUrl"]
        return str((await self.attributes(url, "QueueArn"))["QueueArn"])

    async def attributes(self, url: str, *names: str) -> dict[str, str]:
        answer = await self._link.call(
            "sqs", "get_queue_attributes", QueueUrl=url, AttributeNames=list(names)
        )
        return dict(answer.get("Attributes", {}))

    def forget(self, name: str) -> None:
        self._urls.pop(name, None)

    async def send(self, url: str, messages: Sequence[Stored], *, delay: int = 0) -> Fates:
        async def send(chunk: list[Stored]) -> Fates:
            entries = [
                {
                    "Id": str(n),
                    "MessageBody": each.body,
                    "MessageAttributes": attributes_of(each),
                    "DelaySeconds": delay,
                }
                for n, each in enumerate(chunk)
            ]
            answer = await self._link.call(
                "sqs", "send_message_batch", QueueUrl=url, Entries=entries
            )
            return fates_of(len(chunk), answer.get("Failed", ()))

        return await in_chunks(messages, send)

    async def attach(self, topic: str, queue: str, queue_arn: str) -> None:
        """Nothing to do: `publish` looks for the queues."""

    async def detach(self, topic: str, queue: str, queue_arn: str) -> bool:
        """Nothing to do: where there is a group's queue, `publish` leaves the other one out."""
        return True

    async def has_queue(self, topic: str) -> bool:
        return bool(await self._of_topic(topic))

    async def publish(self, topic: str, messages: Sequence[Stored], *, delay: int = 0) -> Fates:
        """Send to the queue of every group; a message's fate is the first failure among them."""
        urls = await self._of_topic(topic)
        answers = await asyncio.gather(*(self.send(url, messages, delay=delay) for url in urls))
        return [
            next((fates[place] for fates in answers if fates[place] is not None), None)
            for place in range(len(messages))
        ]

    async def _of_topic(self, topic: str) -> list[str]:
        """The queues of its groups; as long as there is none, the one for what nobody reads."""
        urls = await self._listed(topic)
        return [url for url in urls if not url.endswith(f"/{unread_name(topic)}")] or urls

    async def _listed(self, topic: str) -> list[str]:
        urls: list[str] = []
        token: dict[str, Any] = {}
        while True:
            answer = await self._link.call(
                "sqs", "list_queues", QueueNamePrefix=queues_of(topic), MaxResults=1000, **token
            )
            urls += [url for url in answer.get("QueueUrls", ()) if not is_dead_name(url)]
            if "NextToken" not in answer:
                return urls
            token = {"NextToken": answer["NextToken"]}
