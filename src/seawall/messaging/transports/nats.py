"""NATS JetStream: streams on the server's disk, one durable pull consumer a group.

What goes where is in `nats_layout.py`. Delays, releases and retries are copies in a stream of
the group's own, since a negative acknowledgement counts as a delivery, and one with a delay
would look like a message in flight. Works with nats-server 2.9 and later ones.
"""

import asyncio
import ssl
import uuid
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from seawall.clock import SYSTEM, Clock
from seawall.errors import Full, Refused, SeawallError
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
from seawall.messaging.facts import LeaseLost, Unread
from seawall.messaging.transports.nats_headers import block
from seawall.messaging.transports.nats_later import Later
from seawall.messaging.transports.nats_layout import (
    HEADROOM,
    ID,
    MAX_HEADERS,
    Group,
    Topic,
    block_of,
    by_consumer,
    copy_of,
    headers_of,
    quoted,
)
from seawall.messaging.transports.nats_letters import Letters
from seawall.messaging.transports.nats_link import (
    EXISTS,
    Gone,
    NatsLink,
    checked,
    stored,
)
from seawall.messaging.transports.nats_options import Nats
from seawall.messaging.transports.nats_protocol import publish_to
from seawall.messaging.transports.nats_reader import ACK, NANOSECONDS, PROGRESS, Held, NatsReader
from seawall.messaging.transports.nats_wire import Post

USUAL_MAX_PAYLOAD = 1024 * 1024  # bytes: the server's default, until it told its own

DEAD_LETTERS = 100_000  # a group's; then `dead` raises `Full` and the message stays pending
MAX_ERROR = 4_000  # characters of a dead letter's error

BATCH = 128  # messages of one publish, of a busy process

USUAL_LEASE = 30.0  # seconds, of a group that was provisioned and not yet fetched from


class NatsTransport:
    """A `seawall.messaging.base.Transport` on NATS JetStream.

    Order: a topic's messages are stored in the order of `publish` and handed out in it, but
    competing consumers, retries and releases overtake. All members of a group are to use the
    same lease: the consumer has the last one. Calls connect by themselves, and again after a
    loss; `open` only learns early whether that works.

    JetStream does not fence acknowledgements, so it is done here: a delivery counts as lost when
    its lease has run out by this process's clock. A process that was stopped before it read what
    the server had sent can settle later than it should: that makes a duplicate, never a loss.
    """

    def __init__(
        self,
        options: Nats,
        *,
        observer: Observer = ignore,
        clock: Clock = SYSTEM,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._options = options
        self._observer = observer
        self._clock = clock
        self._link = NatsLink(
            options.servers,
            f"seawall-{uuid.uuid4().hex[:16]}",
            timeout=options.timeout,
            domain=options.domain,
            credentials=options.credentials,
            tls=tls,
        )
        self._readers: dict[Subscription, NatsReader] = {}
        self._later: dict[str, Later] = {}
        self._made: set[str] = set()  # streams that exist, as far as we know
        self.letters = Letters(self._link)
        self.lost = 0  # settlements refused because the lease had been lost

    @property
    def caps(self) -> Caps:
        durability = Durability.FSYNC if self._options.fsync else Durability.OS
        return Caps(
            durability=Durability.NONE if self._options.storage == "memory" else durability,
            ordered=False,
            native_delay=True,
            replay=True,
            max_body=(self._link.max_payload or USUAL_MAX_PAYLOAD) - HEADROOM,
            batch=BATCH,
        )

    async def open(self) -> None:
        """Connect, and learn how large a message may be."""
        await self._link.ready()

    async def aclose(self) -> None:
        readers, later = list(self._readers.values()), list(self._later.values())
        self._readers.clear()
        self._later.clear()
        for mover in later:
            await mover.aclose()
        for reader in readers:
            await reader.aclose()
        await self._link.aclose()

    # Setting up

    async def reconnect(self, subscription: Subscription) -> None:
        """See `seawall.messaging.watchdog.Reconnecting`."""
        reader = self._readers.pop(subscription, None)
        if reader is not None:
            await reader.aclose()

    async def provision(self, subscriptions: Sequence[Subscription]) -> None:
        for subscription in subscriptions:
            await self._again(self._reader(subscription).ensure, USUAL_LEASE)

    async def _again(self, call: Any, *arguments: Any) -> Any:
        """Call; if a stream has disappeared, make it and call once more."""
        try:
            return await call(*arguments)
        except Gone:
            self._made.clear()
            for reader in self._readers.values():
                reader.forget()
            return await call(*arguments)

    def _reader(self, subscription: Subscription) -> NatsReader:
        reader = self._readers.get(subscription)
        if reader is None:
            reader = self._readers[subscription] = NatsReader(
                subscription,
                self._link,
                streams=self._streams_of_group,
                release=self.release,
                timeout=self._options.timeout,
                clock=self._clock,
            )
        return reader

    async def _streams_of_group(self, subscription: Subscription) -> None:
        topic = Topic.of(subscription.topic)
        self._made -= {topic.stream, topic.work}  # a reader asks when it knows nothing
        await self._make(topic)
        await self._make_work(topic)

    async def _make(self, topic: Topic) -> None:
        await self._stream(topic.stream, topic.subject, max_msgs=self._options.backlog)

    async def _make_work(self, topic: Topic) -> None:
        name = topic.work.removeprefix("seawall_work_")
        subjects = (f"seawall.again.{name}.*", topic.all_later)
        await self._stream(
            topic.work, *subjects, max_msgs=self._options.backlog, retention="workqueue"
        )

    async def _make_dead(self, topic: Topic) -> None:
        name = topic.dead.removeprefix("seawall_dead_")
        await self._stream(
            topic.dead,
            f"seawall.dead.{name}.*",
            max_msgs_per_subject=DEAD_LETTERS,
            discard_new_per_subject=True,
        )

    async def _stream(self, stream: str, *subjects: str, **config: Any) -> None:
        if stream in self._made:
            return
        (answer,) = await self._link.api(
            (
                f"STREAM.CREATE.{stream}",
                {
                    "name": stream,
                    "subjects": subjects,
                    "storage": self._options.storage,
                    "num_replicas": self._options.replicas,
                    "discard": "new",
                    "duplicate_window": round(self._options.duplicates * NANOSECONDS),
                    **config,
                },
            )
        )
        # Made by somebody with other options: theirs stay.
        if answer.get("error", {}).get("err_code") not in EXISTS:
            checked(answer)
        self._made.add(stream)

    # Publishing

    async def publish(
        self, topic: str, messages: Sequence[Message], *, delay: float = 0.0
    ) -> Sequence[Receipt]:
        place = Topic.of(topic)
        fates: list[Exception | None] = []
        posts: list[Post] = []
        due = str(round((self._clock.wall() + delay) * 1000))
        await self._link.ready()
        most = self.caps.max_body
        for message in messages:
            post = self._post(place, message, due if delay > 0 else "", most)
            fates.append(post if isinstance(post, Refused) else None)
            if isinstance(post, Post):
                posts.append(post)
        stored = iter(await self._again(self._store, place, posts, delay > 0) if posts else ())
        return [
            Receipt(message.id, next(stored) if fate is None else fate)
            for message, fate in zip(messages, fates, strict=True)
        ]

    @staticmethod
    def _post(place: Topic, message: Message, due: str, most: int) -> Post | Refused:
        if len(message.body) > most:
            return Refused(f"a body of {len(message.body)} bytes; at most {most} are taken")
        packed = block_of(message)
        if len(packed) > MAX_HEADERS:
            return Refused(f"{len(packed)} bytes of headers; at most {MAX_HEADERS} are taken")
        if not due:
            return Post(place.subject, message.body, packed)
        name = f"later:{headers_of(message)[ID]}"
        headers = copy_of(message, name, due=due, target=place.subject)
        return Post(place.later, message.body, block(headers))

    async def _store(
        self, place: Topic, posts: Sequence[Post], later: bool
    ) -> list[SeawallError | None]:
        await (self._make_work(place) if later else self._make(place))
        fates = [stored(reply) for reply in await self._link.ask(posts)]
        for fate in fates:
            if isinstance(fate, Gone):
                raise fate
        if not later and any(isinstance(fate, Full) for fate in fates) and await self._room(place):
            left = [post for post, fate in zip(posts, fates, strict=True) if fate is not None]
            again = iter([stored(reply) for reply in await self._link.ask(left)])
            fates = [None if fate is None else next(again) for fate in fates]
        return fates

    async def _room(self, place: Topic) -> bool:
        """Make room in a full topic; tell whether there is some now."""
        (answer,) = await self._link.api((f"STREAM.INFO.{place.stream}", {}))
        state = checked(answer)["state"]
        if state["consumer_count"]:
            for subscription, reader in self._readers.items():
                if Topic.of(subscription.topic) == place:
                    await reader.trim()
                    return True
            return False
        keep = {"keep": self._options.unread}
        (answer,) = await self._link.api((f"STREAM.PURGE.{place.stream}", keep))
        dropped = checked(answer).get("purged", 0)
        if dropped:
            self._observer(Unread(place.stream, dropped))
        return bool(dropped)

    # Consuming

    async def fetch(
        self, subscription: Subscription, limit: int, *, wait: float, lease: float
    ) -> Sequence[Delivery]:
        reader = self._reader(subscription)
        await self._again(reader.ensure, lease)
        later = self._later.get(subscription.topic)
        if later is None:
            later = self._later[subscription.topic] = Later(
                Topic.of(subscription.topic), self._link, clock=self._clock, moved=_moved
            )
        await later.ensure()
        return await reader.fetch(limit, wait=wait, lease=lease)

    async def quiesce(self, subscription: Subscription) -> None:
        await self._reader(subscription).quiesce()

    def _ours(self, deliveries: Sequence[Delivery], during: str) -> list[Delivery]:
        """Those whose lease we have; the others are counted."""
        now = self._clock.now()
        ours = []
        for delivery in deliveries:
            held: Held = delivery.receipt
            if held.settled or held.until <= now:
                self.lost += 1
                self._observer(LeaseLost(delivery.subscription, delivery.message.id, during))
            else:
                ours.append(delivery)
        return ours

    async def ack(self, deliveries: Sequence[Delivery]) -> None:
        await self._done(self._ours(deliveries, "ack"))

    async def _done(self, deliveries: Sequence[Delivery]) -> None:
        await self._say(ACK, deliveries)
        for delivery in deliveries:
            delivery.receipt.settled = True

    async def _say(self, what: bytes, deliveries: Sequence[Delivery]) -> None:
        """Have it said of each. A consumer takes what it is told in order, so the answer about
        the last one of its deliveries is for all of them; another consumer's says nothing."""
        if not deliveries:
            return
        wire = await self._link.ready()
        consumers = by_consumer([delivery.receipt.reply for delivery in deliveries])
        await wire.ask(
            [Post(replies[-1], what) for replies in consumers],
            [publish_to(replies[:-1], what) for replies in consumers],
        )

    async def extend(self, deliveries: Sequence[Delivery], *, lease: float) -> Sequence[Delivery]:
        ours = self._ours(deliveries, "extend")
        for subscription in {delivery.subscription for delivery in ours}:
            await self._reader(subscription).ensure(lease)
        now = self._clock.now()
        await self._say(PROGRESS, ours)
        for delivery in ours:
            delivery.receipt.until = now + lease
        kept = {id(delivery) for delivery in ours}
        return [delivery for delivery in deliveries if id(delivery) not in kept]

    async def release(self, deliveries: Sequence[Delivery]) -> None:
        ours = self._ours(deliveries, "release")
        await self._copy(
            [self._to_group(delivery, delivery.attempt - 1, "release") for delivery in ours]
        )
        await self._done(ours)

    async def retry(self, delivery: Delivery, *, delay: float, error: str) -> None:
        if not self._ours([delivery], "retry"):
            return
        failed_at = delivery.failed_at or self._clock.wall()
        failed = replace(delivery, failed_at=failed_at)
        await self._copy([self._to_group(failed, delivery.attempt, "retry", delay)])
        await self._done([delivery])

    async def dead(self, delivery: Delivery, *, reason: str, error: str) -> None:
        if not self._ours([delivery], "dead"):
            return
        group = Group.of(delivery.subscription)
        headers = copy_of(
            delivery.message,
            _copy_id(delivery, "dead"),
            attempts=delivery.attempt,
            at=delivery.receipt.at,
            reason=quoted(reason),
            error=quoted(error[:MAX_ERROR]),
            failed=round(first_failure(delivery, self._clock.wall()) * 1000),
        )
        await self._again(self._make_dead, group.topic)
        await self._copy([Post(group.dead, delivery.message.body, block(headers))])
        await self._done([delivery])

    def _to_group(self, delivery: Delivery, attempts: int, how: str, delay: float = 0.0) -> Post:
        group = Group.of(delivery.subscription)
        ours: dict[str, object] = {"attempts": attempts, "at": delivery.receipt.at}
        if how == "release" and delivery.dropped:
            ours["dropped"] = 1
        if delivery.failed_at:
            ours["failed"] = round(delivery.failed_at * 1000)
        if delay > 0:
            due = round((self._clock.wall() + delay) * 1000)
            ours |= {"due": due, "target": group.again}
        headers = copy_of(delivery.message, _copy_id(delivery, how), **ours)
        where = group.later if delay > 0 else group.again
        return Post(where, delivery.message.body, block(headers))

    async def _copy(self, posts: Sequence[Post]) -> None:
        """Store copies; raises unless all are stored."""
        if posts:
            for reply in await self._link.ask(posts):
                error = stored(reply)
                if error is not None:
                    raise error

    # Looking and operating

    async def lag(self, subscription: Subscription) -> Lag:
        counts = await asyncio.gather(
            self.letters.consumers(subscription),
            self.letters.counts(subscription),
            self.letters.traffic(subscription),
        )
        (ready, in_flight, floors), (delayed, dead), (published, taken) = counts
        oldest = 0.0
        if ready or in_flight or delayed:
            oldest = await self.letters.oldest(subscription, floors)
        age = self._clock.wall() - oldest if oldest else 0.0
        return Lag(ready, in_flight, delayed, dead, max(0.0, age), published, taken)

    async def subscriptions(self) -> Sequence[Subscription]:
        return await self.letters.subscriptions()

    async def peek(self, subscription: Subscription, limit: int) -> Sequence[Waiting]:
        return await self.letters.peek(subscription, limit)

    async def dead_letters(
        self, subscription: Subscription, *, after: str | None = None, limit: int = 100
    ) -> Sequence[DeadLetter]:
        return await self.letters.page(subscription, int(after or 0), limit)

    async def redrive(self, subscription: Subscription, letter_ids: Sequence[str]) -> int:
        await self.provision([subscription])
        group = Group.of(subscription)
        count = 0
        for letter_id in letter_ids:
            letter = await self.letters.one(subscription, int(letter_id))
            if letter is not None:
                headers = copy_of(
                    letter.message,
                    f"redrive:{group.dead}:{letter_id}:{letter.died_at}",
                    attempts=0,
                    at=round(letter.died_at * 1000),
                )
                await self._copy([Post(group.again, letter.message.body, block(headers))])
                count += await self.letters.delete(subscription, int(letter_id))
        return count

    async def purge(self, subscription: Subscription, letter_ids: Sequence[str]) -> int:
        count = 0
        for letter_id in letter_ids:
            if await self.letters.one(subscription, int(letter_id)) is not None:
                count += await self.letters.delete(subscription, int(letter_id))
        return count

    async def bury(self, letter: DeadLetter) -> None:
        group = Group.of(letter.subscription)
        headers = copy_of(
            letter.message,
            f"bury:{group.dead}:{uuid.uuid4().hex}",
            attempts=letter.attempts,
            reason=quoted(letter.reason),
            error=quoted(letter.error),
            died=round(letter.died_at * 1000),
            failed=round(letter.failed_at * 1000),
            edited=round(letter.edited_at * 1000),
        )
        await self._again(self._make_dead, group.topic)
        await self._copy([Post(group.dead, letter.message.body, block(headers))])

    def __repr__(self) -> str:
        subscriptions = len(self._readers)
        servers = ",".join(server.rpartition("@")[2] for server in self._options.servers)
        return f"<NatsTransport {servers} {subscriptions} subscriptions, {self.lost} lost>"


def _copy_id(delivery: Delivery, how: str) -> str:
    """Names this copy of this delivery, so that to copy twice stores one."""
    place = delivery.receipt.place
    group = delivery.subscription.group
    where = f"{place.stream}:{place.sequence}:{place.stored}"
    return quoted(f"{how}:{group}:{where}:{place.deliveries}")


def _moved(copy_id: str) -> str:
    """The id of a delayed message that has become due."""
    return copy_id.removeprefix("later:") if copy_id.startswith("later:") else f"due:{copy_id}"


def from_url(url: str, observer: Observer, clock: Clock) -> NatsTransport:
    return NatsTransport(Nats.parse(url), observer=observer, clock=clock)
