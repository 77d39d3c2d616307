"""AWS SQS: a queue a group, filled by SNS, by EventBridge or directly.

A lease is SQS's visibility timeout, in whole seconds. SQS does not say that a receipt is out of
date, so a lease is also measured here, and nothing is settled after its end. What SQS cannot
change in a stored message is written as a copy, and the original deleted after that.
"""

import asyncio
import json
import math
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

from seawall.clock import SYSTEM, Clock
from seawall.errors import Refused, SeawallError, Unavailable
from seawall.facts import Observer, ignore
from seawall.messaging.base import (
    Caps,
    DeadLetter,
    Delivery,
    Durability,
    Lag,
    Message,
    Receipt,
    Subscription,
    Waiting,
    first_failure,
)
from seawall.messaging.facts import LeaseLost
from seawall.messaging.transports.sqs_batches import in_batches
from seawall.messaging.transports.sqs_entries import (
    BATCH,
    LARGEST,
    MAX_BODY,
    Found,
    Stored,
    dead_name,
    found,
    letter_of,
    queue_name,
    stored,
)
from seawall.messaging.transports.sqs_fanout import (
    LONGEST_DELAY,
    EventBridge,
    Fanout,
    Fates,
    Queues,
    Sns,
)
from seawall.messaging.transports.sqs_link import Link, Missing, Sqs
from seawall.messaging.transports.sqs_reader import Hold, Reader, seconds, until_of, visibility
from seawall.messaging.transports.sqs_unread import Unread

MAX_ERROR = 4_000  # characters of a dead letter's error

# A message stays invisible for twelve hours at most, counted from when it was received.
LONGEST_HOLD = 12 * 3600  # seconds

# Dead letters one look takes in: SQS shows a message only by receiving it.
LOOK_AT = 10_000
LOOK_LEASE = 60  # seconds until letters come back that a look did not give back

_COUNTS = (
    "ApproximateNumberOfMessages",
    "ApproximateNumberOfMessagesNotVisible",
    "ApproximateNumberOfMessagesDelayed",
)


class SqsTransport:
    """A `seawall.messaging.base.Transport` on SQS.

    Order is not kept: these are standard queues. A group gets what is published from when it was
    provisioned, and the first one of a topic what was published before. Counts are SQS's own, and
    approximate.
    """

    def __init__(self, options: Sqs, *, observer: Observer = ignore, clock: Clock = SYSTEM) -> None:
        self._options = options
        self._observer = observer
        self._clock = clock
        self._link = Link(options, clock)
        self._queues = Queues(self._link)
        fanouts: dict[str, Callable[[], Fanout]] = {
            "sns": lambda: Sns(self._link),
            "eventbridge": lambda: EventBridge(self._link),
            "none": lambda: self._queues,
        }
        self._fanout = fanouts[options.fanout]()
        self._unread = Unread(self._link, self._queues, self._fanout, connect=self._connect)
        self._readers: dict[Subscription, Reader] = {}
        self._made: set[Subscription] = set()  # groups that exist, as far as we know
        self.lost = 0  # settlements refused because the lease had been lost

    @property
    def caps(self) -> Caps:
        return Caps(
            durability=Durability.FSYNC,  # on the disks of several data centres
            ordered=False,
            native_delay=True,
            replay=False,
            max_body=MAX_BODY,
            resolution=1.0,
            fifo=False,
            repeats=True,
            counts_retries=False,
            tells_age=False,
            tells_dropped=False,
            keeps_failed_at=False,
            peeks=False,
            lists=False,
        )

    async def open(self) -> None:
        await self._link.call("sqs", "list_queues", QueueNamePrefix="seawall-none", MaxResults=1)

    async def aclose(self) -> None:
        readers, self._readers = list(self._readers.values()), {}
        for reader in readers:
            left = await reader.aclose()
            if left and not self._link.closed:
                await self._briefly_release(left)
        await self._link.aclose()

    async def _briefly_release(self, deliveries: Sequence[Delivery]) -> None:
        with suppress(SeawallError):  # else their leases run out, and they count
            await self.release(deliveries)

    async def provision(self, subscriptions: Sequence[Subscription]) -> None:
        for subscription in subscriptions:
            if subscription in self._made:
                continue
            arn, _ = await asyncio.gather(
                self._queues.make(queue_name(subscription)),
                self._queues.make(dead_name(subscription)),
            )
            await self._connect(subscription.topic, queue_name(subscription), arn)
            await self._unread.adopt(subscription)
            self._made.add(subscription)

    async def _connect(self, topic: str, queue: str, arn: str) -> None:
        await self._admit(queue, arn)
        await self._fanout.attach(topic, queue, arn)

    async def _admit(self, queue: str, arn: str) -> None:
        """Let SNS and EventBridge of this account send to the queue."""
        account = arn.split(":")[4]
        statement = {
            "Effect": "Allow",
            "Principal": {"Service": ["sns.amazonaws.com", "events.amazonaws.com"]},
            "Action": "sqs:SendMessage",
            "Resource": arn,
            "Condition": {"StringEquals": {"aws:SourceAccount": account}},
        }
        policy = {"Version": "2012-10-17", "Statement": [statement]}
        await self._link.call(
            "sqs",
            "set_queue_attributes",
            QueueUrl=await self._queues.url(queue),
            Attributes={"Policy": json.dumps(policy)},
        )

    # Publishing

    async def publish(
        self, topic: str, messages: Sequence[Message], *, delay: float = 0.0
    ) -> Sequence[Receipt]:
        due = self._clock.wall() + delay if delay > LONGEST_DELAY else 0.0
        copies = [stored(message, due=due) for message in messages]
        refused = [
            _too_large(message, copy) for message, copy in zip(messages, copies, strict=True)
        ]
        fit = [copy for copy, fate in zip(copies, refused, strict=True) if fate is None]
        fates = iter(await self._send(topic, fit, delay))
        return [
            Receipt(message.id, next(fates) if fate is None else fate)
            for message, fate in zip(messages, refused, strict=True)
        ]

    async def _send(self, topic: str, copies: Sequence[Stored], delay: float) -> Fates:
        if not copies:
            if self._link.closed:
                raise Unavailable("closed")
            return []
        await self._unread.keep(topic)
        if delay <= 0:
            return await self._fanout.publish(topic, copies)
        # Only a queue can delay a message, so it is sent to that of each group.
        return await self._queues.publish(topic, copies, delay=min(LONGEST_DELAY, seconds(delay)))

    # Consuming

    def _reader(self, subscription: Subscription) -> Reader:
        if self._link.closed:
            raise Unavailable("closed")
        if subscription not in self._readers:
            self._readers[subscription] = Reader(
                subscription,
                receive=self._receive,
                release=self.release,
                postpone=self._postpone,
                clock=self._clock,
            )
        return self._readers[subscription]

    async def fetch(
        self, subscription: Subscription, limit: int, *, wait: float, lease: float
    ) -> Sequence[Delivery]:
        return await self._reader(subscription).fetch(limit, wait=wait, lease=lease)

    async def quiesce(self, subscription: Subscription) -> None:
        await self._reader(subscription).quiesce()

    async def _receive(
        self, subscription: Subscription, *, wait: float, **request: Any
    ) -> tuple[str, Sequence[dict[str, Any]]]:
        name = queue_name(subscription)
        try:
            url = await self._queues.url(name)
            answer = await self._link.call(
                "sqs", "receive_message", wait=wait, QueueUrl=url, **request
            )
        except Missing:  # never provisioned, or deleted: then its messages are gone
            self._queues.forget(name)
            self._made.discard(subscription)
            await self.provision([subscription])
            return await self._queues.url(name), []
        return url, answer.get("Messages", [])

    async def _postpone(self, delivery: Delivery, what: Found) -> None:
        """It is not due yet: a copy waits on, for as long as SQS delays a message."""
        left = what.note.due - self._clock.wall()
        copy = stored(delivery.message, due=what.note.due, attempts=what.note.attempts)
        await self._replace(delivery, copy, delay=min(LONGEST_DELAY, seconds(left)))

    async def _replace(self, delivery: Delivery, copy: Stored, *, delay: int = 0) -> None:
        hold: Hold = delivery.receipt
        (fate,) = await self._queues.send(hold.url, [copy], delay=delay)
        if fate is not None:
            raise fate
        await self._delete([hold])

    def _held(self, delivery: Delivery, during: str) -> Hold | None:
        """The receipt of what is still ours; None, counted, if it is not."""
        if self._link.closed:
            raise Unavailable("closed")
        hold: Hold = delivery.receipt
        if hold.settled or self._clock.now() >= hold.until:
            self.lost += 1
            self._observer(LeaseLost(delivery.subscription, delivery.message.id, during))
            return None
        return hold

    async def _delete(self, holds: Sequence[Hold]) -> None:
        await self._in_batches("delete_message_batch", holds, {})
        for hold in holds:
            hold.settled = True

    async def _in_batches(
        self, operation: str, holds: Sequence[Hold], beside: dict[str, int]
    ) -> list[Hold]:
        return await in_batches(self._link, operation, holds, beside)

    async def ack(self, deliveries: Sequence[Delivery]) -> None:
        holds = [hold for each in deliveries if (hold := self._held(each, "ack")) is not None]
        await self._delete(holds)

    async def release(self, deliveries: Sequence[Delivery]) -> None:
        """As a copy: SQS counts what it hands out, and cannot be told that it does not count."""
        ours = [each for each in deliveries if self._held(each, "release") is not None]
        room = asyncio.Semaphore(BATCH)

        async def one(delivery: Delivery) -> None:
            async with room:
                if delivery.damage:  # a copy would not have its form
                    await self._in_batches(
                        "change_message_visibility_batch",
                        [delivery.receipt],
                        {"VisibilityTimeout": 0},
                    )
                    delivery.receipt.settled = True
                    return
                copy = stored(
                    delivery.message, attempts=delivery.attempt - 1, dropped=delivery.dropped
                )
                await self._replace(delivery, copy)

        await asyncio.gather(*map(one, ours))

    async def retry(self, delivery: Delivery, *, delay: float, error: str) -> None:
        hold = self._held(delivery, "retry")
        if hold is None:
            return
        used = self._clock.now() - hold.since
        if used + delay < LONGEST_HOLD:
            await self._in_batches(
                "change_message_visibility_batch", [hold], {"VisibilityTimeout": seconds(delay)}
            )
            hold.settled = True
            return
        due = self._clock.wall() + delay
        copy = stored(delivery.message, attempts=delivery.attempt, due=due)
        await self._replace(delivery, copy, delay=min(LONGEST_DELAY, seconds(delay)))

    async def dead(self, delivery: Delivery, *, reason: str, error: str) -> None:
        hold = self._held(delivery, "dead")
        if hold is None:
            return
        died_at = self._clock.wall()
        letter = stored(
            delivery.message,
            attempts=delivery.attempt,
            reason=reason,
            error=error[:MAX_ERROR],
            died=died_at,
            failed=first_failure(delivery, died_at),
        )
        (fate,) = await self._queues.send(await self._dead(delivery.subscription), [letter])
        if fate is not None:
            raise fate
        await self._delete([hold])

    async def extend(self, deliveries: Sequence[Delivery], *, lease: float) -> Sequence[Delivery]:
        now = self._clock.now()
        lost, kept = [], {}
        for delivery in deliveries:
            hold = self._held(delivery, "extend")
            if hold is None:
                lost.append(delivery)
            else:
                kept[id(hold)] = delivery
        gone = await self._in_batches(
            "change_message_visibility_batch",
            [delivery.receipt for delivery in kept.values()],
            {"VisibilityTimeout": visibility(lease)},
        )
        for hold in gone:
            delivery = kept.pop(id(hold))
            hold.settled = True
            self.lost += 1
            self._observer(LeaseLost(delivery.subscription, delivery.message.id, "extend"))
            lost.append(delivery)
        for delivery in kept.values():
            delivery.receipt.until = until_of(lease, now)
        return lost

    # Looking and operating

    async def _dead(self, subscription: Subscription) -> str:
        name = dead_name(subscription)
        try:
            return await self._queues.url(name)
        except Missing:
            await self._queues.make(name)
            return await self._queues.url(name)

    async def subscriptions(self) -> Sequence[Subscription]:
        raise Refused("SQS has long names only as a hash of them: name topic and group")

    async def peek(self, subscription: Subscription, limit: int) -> Sequence[Waiting]:
        raise Refused("SQS shows a message only by receiving it, which counts as an attempt")

    async def lag(self, subscription: Subscription) -> Lag:
        ready, in_flight, delayed = await self._counts(queue_name(subscription))
        dead = sum(await self._counts(dead_name(subscription)))
        age = math.nan if ready + in_flight + delayed else 0.0
        return Lag(ready, in_flight, delayed, dead, age)

    async def _counts(self, name: str) -> tuple[int, int, int]:
        try:
            counts = await self._queues.attributes(await self._queues.url(name), *_COUNTS)
        except Missing:
            self._queues.forget(name)
            return 0, 0, 0
        ready, in_flight, delayed = (int(counts.get(each, 0)) for each in _COUNTS)
        return ready, in_flight, delayed

    async def dead_letters(
        self, subscription: Subscription, *, after: str | None = None, limit: int = 100
    ) -> Sequence[DeadLetter]:
        letters = await self._look(subscription)
        await self._give_back([hold for hold, _ in letters.values()])
        ordered = sorted(
            (letter_of(subscription, received) for _, received in letters.values()),
            key=lambda letter: (letter.died_at, letter.edited_at, letter.letter_id),
        )
        places = {letter.letter_id: place for place, letter in enumerate(ordered)}
        start = 0 if after is None else places.get(after, -1) + 1
        return ordered[start : start + limit]

    async def _look(
        self, subscription: Subscription, least: int = 0
    ) -> dict[str, tuple[Hold, dict[str, Any]]]:
        """Receive every dead letter, and `least` if there are; they are ours for `LOOK_LEASE`
        seconds."""
        url = await self._dead(subscription)
        expected = max(least, (await self._counts(dead_name(subscription)))[0])
        letters: dict[str, tuple[Hold, dict[str, Any]]] = {}
        now = self._clock.now()
        while len(letters) < min(expected, LOOK_AT):
            answer = await self._link.call(
                "sqs",
                "receive_message",
                wait=1.0,
                QueueUrl=url,
                MaxNumberOfMessages=BATCH,
                WaitTimeSeconds=1,
                VisibilityTimeout=LOOK_LEASE,
                MessageAttributeNames=["All"],
            )
            if not answer.get("Messages"):
                break
            for received in answer["Messages"]:
                hold = Hold(url, received["ReceiptHandle"], now, now + LOOK_LEASE)
                letters[received["MessageId"]] = (hold, received)
        return letters

    async def _give_back(self, holds: Sequence[Hold]) -> None:
        await self._in_batches("change_message_visibility_batch", holds, {"VisibilityTimeout": 0})

    async def _pick(
        self, subscription: Subscription, letter_ids: Sequence[str]
    ) -> list[tuple[Hold, dict[str, Any]]]:
        """The letters of these ids; the others are given back."""
        if not letter_ids:
            return []
        letters = await self._look(subscription, len(set(letter_ids)))
        picked = [letters.pop(name) for name in dict.fromkeys(letter_ids) if name in letters]
        await self._give_back([hold for hold, _ in letters.values()])
        return picked

    async def redrive(self, subscription: Subscription, letter_ids: Sequence[str]) -> int:
        picked = await self._pick(subscription, letter_ids)
        if not picked:
            return 0
        await self.provision([subscription])
        url = await self._queues.url(queue_name(subscription))
        copies = [stored(found(received).message) for _, received in picked]
        fates = await self._queues.send(url, copies)
        sent = [hold for (hold, _), fate in zip(picked, fates, strict=True) if fate is None]
        await self._delete(sent)
        return len(sent)

    async def purge(self, subscription: Subscription, letter_ids: Sequence[str]) -> int:
        picked = await self._pick(subscription, letter_ids)
        await self._delete([hold for hold, _ in picked])
        return len(picked)

    async def bury(self, letter: DeadLetter) -> None:
        copy = stored(
            letter.message,
            attempts=letter.attempts,
            reason=letter.reason,
            error=letter.error,
            died=letter.died_at,
            failed=letter.failed_at,
            edited=letter.edited_at,
        )
        (fate,) = await self._queues.send(await self._dead(letter.subscription), [copy])
        if fate is not None:
            raise fate

    def __repr__(self) -> str:
        region, subscriptions = self._options.region or "?", len(self._readers)
        return f"<SqsTransport {region} {subscriptions} subscriptions, {self.lost} lost>"


def _too_large(message: Message, copy: Stored) -> SeawallError | None:
    if len(message.body) > MAX_BODY:
        return Refused(f"a body of {len(message.body)} bytes; at most {MAX_BODY} are taken")
    if copy.size > LARGEST:
        return Refused(f"{copy.size} bytes with headers; at most {LARGEST} are taken")
    return None


def from_url(url: str, observer: Observer, clock: Clock) -> SqsTransport:
    return SqsTransport(Sqs.parse(url), observer=observer, clock=clock)
