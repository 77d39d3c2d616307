"""RabbitMQ: a fanout exchange a topic, a quorum queue a group.

What goes where is in `rabbit_layout.py`. Retries, releases and redriven letters are copies that
go straight into the group's queue: a message that was put back would look like one whose
consumer had died. Works with RabbitMQ 3.10 and later ones.
"""

import asyncio
import itertools
import ssl
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, replace
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from seawall.clock import SYSTEM, Clock
from seawall.errors import Full, Misconfigured, OutcomeUnknown, Refused, SeawallError
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
from seawall.messaging.transports.rabbit_channel import Gone, Post
from seawall.messaging.transports.rabbit_layout import (
    LETTER,
    LONGEST,
    Group,
    Topic,
    letter_of,
    level_name,
    properties_of,
    too_long,
    way_of,
    why_not,
)
from seawall.messaging.transports.rabbit_link import RabbitLink
from seawall.messaging.transports.rabbit_reader import Held, RabbitReader
from seawall.messaging.transports.rabbit_taking import taken
from seawall.messaging.transports.rabbit_topology import Topology

# A larger body would hold up everybody else on the connection for tens of milliseconds.
MAX_BODY = 8 * 1024 * 1024  # bytes

# A message waits for none before it that the broker is still writing to disk, up to so many.
PUBLISHES = 8

BACKLOG = 1_000_000  # messages a group may be behind; then `publish` refuses with `Full`
UNREAD = 100_000  # messages kept of a topic that has no group yet; the oldest go
DEAD_LETTERS = 100_000  # a group's; then `dead` raises `Full` and the message stays pending
MAX_ERROR = 4_000  # characters of a dead letter's error


@dataclass(frozen=True, kw_only=True, slots=True)
class RabbitMQ:
    """Where a RabbitMQ is; `amqp://USER:PASSWORD@HOST:5672/VHOST?heartbeat=10` says the same.

    The bounds are those of queues that are declared now; a queue that exists keeps its own, and
    another value for it is refused by the broker.
    """

    url: str  # without a query
    heartbeat: int = 10  # seconds; three missed ones end the connection, and all its leases
    timeout: float = 5.0  # seconds an answer may take
    backlog: int = BACKLOG
    unread: int = UNREAD

    def __post_init__(self) -> None:
        if self.heartbeat < 1 or self.timeout <= 0:
            raise Misconfigured(f"heartbeat={self.heartbeat} s, timeout={self.timeout} s")
        if self.backlog < 1 or self.unread < 0:
            raise Misconfigured(f"backlog={self.backlog}, unread={self.unread}")

    @staticmethod
    def parse(url: str) -> "RabbitMQ":
        parts = urlsplit(url)
        options: dict[str, float] = {}
        for name, text in parse_qsl(parts.query):
            if name not in ("heartbeat", "timeout", "backlog", "unread"):
                raise Misconfigured(
                    f"{name!r} in a RabbitMQ URL", fix="heartbeat, timeout, backlog or unread"
                )
            try:
                options[name] = float(text) if name == "timeout" else int(text)
            except ValueError:
                raise Misconfigured(f"{name}={text!r} in a RabbitMQ URL", fix="a number") from None
        plain = urlunsplit((parts.scheme, parts.netloc, parts.path, "", ""))
        return RabbitMQ(url=plain, **options)  # type: ignore[arg-type]  # int where it has to be

    @property
    def address(self) -> str:
        """The URL as aiormq reads it."""
        return f"{self.url}?{urlencode({'heartbeat': self.heartbeat})}"


class RabbitTransport:
    """A `seawall.messaging.base.Transport` on RabbitMQ.

    Order: a topic's messages are queued in the order of `publish` and handed out in it, but
    competing consumers, retries and releases overtake. Calls connect by themselves, and again
    after a loss; `open` only learns early whether that works.

    A lease is this process's own: when it runs out the message is rejected, and goes to others
    with one attempt more. It ends at once with the connection, that is with the process; a
    process that is stopped loses its leases when the broker misses its heartbeats. Nothing can
    be settled through a connection that was lost, so fencing is exact.

    A new group gets what was published while the topic had no group at all, and of what was
    published later what comes from then on: RabbitMQ keeps nothing for those who may come.
    """

    def __init__(
        self,
        options: RabbitMQ,
        *,
        observer: Observer = ignore,
        clock: Clock = SYSTEM,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._options = options
        self._observer = observer
        self._clock = clock
        self._link = RabbitLink(options.address, timeout=options.timeout, tls=tls)
        self._topology = Topology(
            self._link,
            backlog=options.backlog,
            unread=options.unread,
            dead=DEAD_LETTERS,
            clock=clock,
        )
        self._readers: dict[Subscription, RabbitReader] = {}
        self._me = uuid.uuid4().hex[:12]
        self._serial = itertools.count()
        self._in_order = asyncio.Lock()  # held from what is asked before a publish until it is sent
        self._sent: dict[Topic, int] = {}  # the last publish to each
        self.lost = 0  # settlements refused because the lease had been lost

    @property
    def caps(self) -> Caps:
        return Caps(
            durability=Durability.FSYNC,
            ordered=False,
            native_delay=True,
            replay=False,
            max_body=MAX_BODY,
            publishes=PUBLISHES,
            counts_delayed=False,
            peeks=False,
            lists=False,
        )

    async def open(self) -> None:
        await self._link.ready()

    async def aclose(self) -> None:
        readers = list(self._readers.values())
        self._readers.clear()
        for reader in readers:
            await reader.aclose()
        await self._link.aclose()

    async def reconnect(self, subscription: Subscription) -> None:
        """See `seawall.messaging.watchdog.Reconnecting`."""
        reader = self._readers.pop(subscription, None)
        if reader is not None:
            await reader.aclose()

    async def provision(self, subscriptions: Sequence[Subscription]) -> None:
        for subscription in subscriptions:
            await self._topology.group(subscription)

    def _reader(self, subscription: Subscription) -> RabbitReader:
        reader = self._readers.get(subscription)
        if reader is None:
            reader = self._readers[subscription] = RabbitReader(
                subscription,
                self._link,
                provision=self._topology.group,
                release=self.release,
                clock=self._clock,
            )
        return reader

    # Publishing

    async def publish(
        self, topic: str, messages: Sequence[Message], *, delay: float = 0.0
    ) -> Sequence[Receipt]:
        if too_long(topic):
            raise Refused(f"RabbitMQ takes no topic with a name as long as {topic!r}")
        place = Topic.of(topic)
        fates: list[Exception | None] = [self._refusal(message) for message in messages]
        good = [message for message, fate in zip(messages, fates, strict=True) if fate is None]
        stored = iter(await self._store(place, good, delay) if good else ())
        return [
            Receipt(message.id, next(stored) if fate is None else fate)
            for message, fate in zip(messages, fates, strict=True)
        ]

    @staticmethod
    def _refusal(message: Message) -> Refused | None:
        if len(message.body) > MAX_BODY:
            return Refused(f"a body of {len(message.body)} bytes; at most {MAX_BODY} are taken")
        reason = why_not(message)
        return Refused(reason) if reason else None

    async def _way(self, delay: float, due: str) -> tuple[str, str]:
        if delay > LONGEST:
            raise Refused(f"a delay of {delay} s; at most {LONGEST:.0f} s are taken")
        top, key = way_of(delay, due)
        await self._topology.delays(top)
        return level_name(top), key

    async def _store(
        self, place: Topic, messages: Sequence[Message], delay: float
    ) -> list[SeawallError | None]:
        async with self._in_order:
            await self._topology.topic(place)
            exchange, key = place.exchange, ""
            if delay > 0:
                exchange, key = await self._way(delay, place.due)
            at = round(self._clock.wall() * 1000)
            posts = [
                Post(exchange, key, message.body, properties_of(message, at=at))
                for message in messages
            ]
            wire = await self._link.ready()
            told = await wire.send(posts)
            self._sent[place] = serial = next(self._serial)
        fates = await told
        gone = [at for at, fate in enumerate(fates) if isinstance(fate, Gone)]
        if gone:  # somebody deleted what was declared: declare it again, and try once more
            wire.declared.clear()
            async with self._in_order:
                if self._sent[place] == serial:
                    await self._topology.topic(place)
                    wire = await self._link.ready()
                    again = await wire.publish([posts[at] for at in gone])
                else:  # they would come behind what was sent since
                    again = [OutcomeUnknown("RabbitMQ: the topic was deleted") for _ in gone]
            for at, fate in zip(gone, again, strict=True):
                fates[at] = fate
        return fates

    # Consuming

    async def fetch(
        self, subscription: Subscription, limit: int, *, wait: float, lease: float
    ) -> Sequence[Delivery]:
        return await self._reader(subscription).fetch(limit, wait=wait, lease=lease)

    async def quiesce(self, subscription: Subscription) -> None:
        await self._reader(subscription).quiesce()

    def _ours(self, deliveries: Sequence[Delivery], during: str) -> list[Delivery]:
        """Those whose lease we have; the others are counted."""
        now = self._clock.now()
        ours = []
        for delivery in deliveries:
            held: Held = delivery.receipt
            if held.settled or held.until <= now or not held.session.usable:
                self.lost += 1
                self._observer(LeaseLost(delivery.subscription, delivery.message.id, during))
            else:
                ours.append(delivery)
        return ours

    async def ack(self, deliveries: Sequence[Delivery]) -> None:
        await self._done(self._ours(deliveries, "ack"))

    async def _done(self, deliveries: Sequence[Delivery]) -> None:
        await self._link.ready()
        parcels: dict[Subscription, list[Held]] = {}
        for delivery in deliveries:
            parcels.setdefault(delivery.subscription, []).append(delivery.receipt)
        for subscription, parcel in parcels.items():
            # One channel a subscription: those of an earlier one are not ours any more.
            session = parcel[-1].session
            session.settle(parcel)
            self._reader(subscription).settled()

    async def extend(self, deliveries: Sequence[Delivery], *, lease: float) -> Sequence[Delivery]:
        ours = self._ours(deliveries, "extend")
        until = self._clock.now() + lease
        for delivery in ours:
            delivery.receipt.until = until
            self._reader(delivery.subscription).watch(lease)
        kept = {id(delivery) for delivery in ours}
        return [delivery for delivery in deliveries if id(delivery) not in kept]

    async def release(self, deliveries: Sequence[Delivery]) -> None:
        ours = self._ours(deliveries, "release")
        for subscription in {delivery.subscription for delivery in ours}:
            await self._reader(subscription).pause()  # else they would come straight back
        await self._copy(
            [
                self._to_group(
                    delivery, delivery.attempt - 1, **({"dropped": 1} if delivery.dropped else {})
                )
                for delivery in ours
            ],
            ours,
        )

    async def retry(self, delivery: Delivery, *, delay: float, error: str) -> None:
        if not self._ours([delivery], "retry"):
            return
        failed_at = delivery.failed_at or self._clock.wall()
        post = self._to_group(replace(delivery, failed_at=failed_at), delivery.attempt)
        if delay <= 0:
            # A copy that is pushed while the consumer is ended would count as delivered twice.
            await self._reader(delivery.subscription).pause()
        else:
            due = Group.of(delivery.subscription).due
            exchange, key = await self._way(min(delay, LONGEST), due)
            post = post._replace(exchange=exchange, routing_key=key)
        await self._copy([post], [delivery])

    async def dead(self, delivery: Delivery, *, reason: str, error: str) -> None:
        if not self._ours([delivery], "dead"):
            return
        group = Group.of(delivery.subscription)
        await self._topology.dead(group)
        died_at = self._clock.wall()
        properties = properties_of(
            delivery.message,
            at=delivery.receipt.at,
            attempts=delivery.attempt,
            letter=self._letter_id(),
            reason=reason,
            error=error[:MAX_ERROR],
            died=round(died_at * 1000),
            failed=round(first_failure(delivery, died_at) * 1000),
        )
        await self._copy([Post("", group.dead, delivery.message.body, properties)], [delivery])

    def _letter_id(self) -> str:
        """Sorted as text it is sorted by time."""
        now = round(self._clock.wall() * 1000)
        return f"{now:013}-{self._me}-{next(self._serial):010}"

    @staticmethod
    def _to_group(delivery: Delivery, attempts: int, **ours: int) -> Post:
        ours |= {"at": delivery.receipt.at, "attempts": attempts}
        if delivery.failed_at:
            ours["failed"] = round(delivery.failed_at * 1000)
        properties = properties_of(delivery.message, **ours)
        queue = Group.of(delivery.subscription).queue
        return Post("", queue, delivery.message.body, properties)

    async def _copy(self, posts: Sequence[Post], deliveries: Sequence[Delivery]) -> None:
        """Store copies, all of them; then acknowledge what they are copies of."""
        if not posts:
            return
        wire = await self._link.ready()
        for fate in await wire.publish(posts):
            if isinstance(fate, Full):
                raise Full(f"{posts[0].routing_key} is at its bound: redrive or purge some")
            if fate is not None:
                wire.declared.clear()
                raise fate
        await self._done(deliveries)

    # Looking and operating

    async def subscriptions(self) -> Sequence[Subscription]:
        raise Refused("RabbitMQ does not tell its queues over AMQP: name topic and group")

    async def peek(self, subscription: Subscription, limit: int) -> Sequence[Waiting]:
        raise Refused("RabbitMQ shows a message only by handing it out, which counts as an attempt")

    async def lag(self, subscription: Subscription) -> Lag:
        """What AMQP tells: `in_flight` is this process's own, `delayed` is 0 for not known, and
        the age is that of the oldest message held here or, where none is, of the last one seen
        here: the oldest that waits is not older."""
        group = Group.of(subscription)
        reader = self._reader(subscription)
        await reader.pause()
        ready, dead = await asyncio.gather(
            self._link.count(group.queue), self._link.count(group.dead)
        )
        ready += reader.buffered
        oldest = reader.oldest or (reader.newest if ready else 0)
        age = self._clock.wall() - oldest / 1000 if oldest else 0.0
        return Lag(ready, reader.in_flight, 0, dead, max(0.0, age))

    async def dead_letters(
        self, subscription: Subscription, *, after: str | None = None, limit: int = 100
    ) -> Sequence[DeadLetter]:
        """Letters behind `after` are reached through those before it: the queue is read from its
        front, and what was read goes back to where it was."""
        queue = Group.of(subscription).dead
        count = await self._link.count(queue)
        if not count:
            return []
        wire = await self._link.ready()
        most = count if after is not None else min(count, limit)
        async with taken(wire, queue, most, self._clock) as found:
            letters = [
                letter_of(subscription, message.header.properties, message.body)
                for message in found.messages
            ]
        return [letter for letter in letters if after is None or letter.letter_id > after][:limit]

    async def redrive(self, subscription: Subscription, letter_ids: Sequence[str]) -> int:
        if letter_ids:
            await self.provision([subscription])
        return await self._remove(subscription, letter_ids, redrive=True)

    async def purge(self, subscription: Subscription, letter_ids: Sequence[str]) -> int:
        return await self._remove(subscription, letter_ids, redrive=False)

    async def _remove(
        self, subscription: Subscription, letter_ids: Sequence[str], *, redrive: bool
    ) -> int:
        group = Group.of(subscription)
        wanted = set(letter_ids)
        count = await self._link.count(group.dead, missing=-1) if wanted else -1
        if count < 0:
            return 0
        # What was looked at a moment ago may be on its way back, and not be counted.
        count = max(count, len(wanted))
        wire = await self._link.ready()
        removed = 0
        async with taken(wire, group.dead, count, self._clock) as found:
            for message in found.messages:
                properties = message.header.properties
                if (properties.headers or {}).get(LETTER) not in wanted:
                    continue
                if redrive:
                    letter = letter_of(subscription, properties, message.body)
                    at = round(letter.died_at * 1000)
                    again = properties_of(letter.message, at=at)
                    post = Post("", group.queue, message.body, again)
                    for fate in await wire.publish([post]):
                        if fate is not None:
                            raise fate
                await found.remove(message)
                removed += 1
        return removed

    async def bury(self, letter: DeadLetter) -> None:
        group = Group.of(letter.subscription)
        await self._topology.dead(group)
        properties = properties_of(
            letter.message,
            attempts=letter.attempts,
            letter=self._letter_id(),
            reason=letter.reason,
            error=letter.error,
            died=round(letter.died_at * 1000),
            failed=round(letter.failed_at * 1000),
            edited=round(letter.edited_at * 1000),
        )
        await self._copy([Post("", group.dead, letter.message.body, properties)], [])

    def __repr__(self) -> str:
        place = urlsplit(self._options.url)
        where = f"{place.hostname}:{place.port or 5672}{place.path}"
        return f"<RabbitTransport {where} {len(self._readers)} subscriptions, {self.lost} lost>"


def from_url(url: str, observer: Observer, clock: Clock) -> RabbitTransport:
    return RabbitTransport(RabbitMQ.parse(url), observer=observer, clock=clock)
