"""Reading one subscription from JetStream: from the topic's stream and from the group's own.

A fetch first pulls what is there; only if that is nothing it waits, for one message of each
stream. Where little is there both travel together, and where a wait is under way nothing is there,
so a message by itself costs no round trip. The server cannot be told that we no longer wait (it
drops what is on its way to an inbox that was given up), so waits are short and end by themselves;
what one still brings after its fetch has ended is kept for the next fetch, or released if there is
none.
"""

import asyncio
import itertools
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Any

import msgspec

from seawall.clock import Clock
from seawall.concurrency.tasks import Tasks
from seawall.errors import OutcomeUnknown, SeawallError, Unavailable
from seawall.messaging.base import Delivery, Subscription
from seawall.messaging.transports.nats_headers import Headers
from seawall.messaging.transports.nats_layout import (
    AT,
    ATTEMPTS,
    DROPPED,
    FAILED,
    Group,
    Place,
    message_of,
    origin,
    plain_message,
)
from seawall.messaging.transports.nats_link import (
    EXISTS,
    NO_RESPONDERS,
    Gone,
    NatsLink,
    checked,
)
from seawall.messaging.transports.nats_protocol import Msg, publish
from seawall.messaging.transports.nats_pulls import Pulls
from seawall.messaging.transports.nats_wire import Wire

# The server counts a lease from when it sent the message, we from when it arrived here. It gives
# the message to others only this much later than we stop to settle it.
GRACE, MOST_GRACE = 0.1, 1.0  # of the lease; seconds

# How long one pull waits, in seconds. As long a message can lie at a process that stopped to
# fetch; and four small requests a second are nothing to the server.
LONGEST_WAIT = 0.5

# A wait that neither brought anything nor was ended by the server so long after its time is over:
# what it brought was taken for another pull's.
SLACK = 0.25  # seconds

# Of a larger batch the rest is asked for by the next fetch, while this part is handled: the server
# takes about as long to send a message as we take to handle one whose handler does not wait.
AT_ONCE = 256  # messages

# What pulls under way get to end when we close: the longest, and a slow answer.
CLOSE_WAIT = 2 * LONGEST_WAIT  # seconds

TRIM_EVERY = 5.0  # seconds

NANOSECONDS = 1_000_000_000

ACK, PROGRESS = b"+ACK", b"+WPI"


class Held:
    """A delivery's receipt: how to settle it, and until when it is ours."""

    __slots__ = ("_at", "reply", "settled", "until")

    def __init__(self, reply: str, at: int, until: float) -> None:
        self.reply = reply
        self._at = at
        self.until = until  # clock's seconds
        self.settled = False

    @property
    def place(self) -> Place:
        return Place.of(self.reply)

    @property
    def at(self) -> int:
        """When the message was first published, milliseconds since 1970."""
        return self._at or self.place.stored // 1_000_000


class NatsReader:
    """Fetches for one subscription; one fetch at a time."""

    def __init__(
        self,
        subscription: Subscription,
        link: NatsLink,
        *,
        streams: Callable[[Subscription], Awaitable[None]],
        release: Callable[[Sequence[Delivery]], Awaitable[None]],
        timeout: float,
        clock: Clock,
    ) -> None:
        self._subscription = subscription
        self._group = Group.of(subscription)
        self._link = link
        self._make_streams = streams
        self._streams = (self._group.topic.stream, self._group.topic.work)
        self._release = release
        self._timeout = timeout
        self._clock = clock
        self._buffer: deque[Delivery] = deque()
        self._lease = 0.0  # what the group's consumers are set to; 0 for not known
        self._wire: Wire | None = None
        self._inbox = ""
        self._pulls = Pulls()  # waits may outlive a fetch
        self._busy = True  # as much was there as the last pull could take, as far as we know
        self._active = False
        self._sweeping = False
        self._serial = itertools.count()
        self._changed: asyncio.Future[None] | None = None
        self._trim_at = 0.0
        self._trimmed = 0
        self._tasks = Tasks()

    # Setting up

    async def provision(self, lease: float) -> None:
        """Make streams and consumers, or set the consumers to another lease."""
        if self._lease == 0:
            await self._make_streams(self._subscription)
        await self._consumers(lease)

    async def ensure(self, lease: float) -> None:
        """Have the group's lease be at least this long."""
        if lease > self._lease:
            await self.provision(lease)

    async def _consumers(self, lease: float) -> None:
        group = self._group
        ack_wait = lease + min(MOST_GRACE, lease * GRACE)
        common = {
            "durable_name": group.consumer,
            "ack_policy": "explicit",
            "deliver_policy": "all",
            "ack_wait": round(ack_wait * NANOSECONDS),
            "max_deliver": -1,
            "max_ack_pending": -1,
        }
        answers = await self._link.api(
            *(
                (
                    f"CONSUMER.DURABLE.CREATE.{stream}.{group.consumer}",
                    {"stream_name": stream, "config": common | {"filter_subject": subject}},
                )
                for stream, subject in (
                    (group.topic.stream, group.topic.subject),
                    (group.topic.work, group.again),
                )
            )
        )
        for answer in answers:
            if answer.get("error", {}).get("err_code") not in EXISTS:
                checked(answer)
        self._lease = lease

    def forget(self) -> None:
        """What was made is not there any more."""
        self._lease = 0.0

    # Fetching

    async def fetch(self, limit: int, *, wait: float, lease: float) -> Sequence[Delivery]:
        give_up = self._clock.now() + wait
        self._active = True
        try:
            for _ in range(3):
                try:
                    return await self._fetch(limit, give_up, lease)
                except Gone:
                    self.forget()
        finally:
            self._active = False
            if self._waiting() and not self._sweeping:
                self._sweeping = True
                self._tasks.start(self._sweep(), name="nats-sweep")
        raise Unavailable(f"{self._group.topic.stream} disappears as soon as it is made")

    async def _fetch(self, limit: int, give_up: float, lease: float) -> Sequence[Delivery]:
        wire = await self._link.ready()
        if wire is not self._wire:
            self._attach(wire)
        if lease != self._lease:
            await self.provision(lease)
        if self._clock.now() >= self._trim_at:
            self._trim_at = self._clock.now() + TRIM_EVERY
            await self.trim()
        limit = min(limit, AT_ONCE)
        # Below, nothing is awaited with messages in hand: a fetch may be cancelled.
        found = self._kept(wire, limit)
        while not found:
            await self._pull(wire, limit, give_up)
            found = self._take(limit)
            self._busy = len(found) >= limit
            left = give_up - self._clock.now()
            if found or left <= 0:
                break
            await self._await_one(wire, left)
            found = self._take(limit)
            if not found and self._clock.now() >= give_up:
                break
        return found

    def _attach(self, wire: Wire) -> None:
        self._inbox = wire.new_inbox()
        wire.subscribe(f"{self._inbox}.*", self._arrived)
        wire.lost.add_done_callback(lambda _: self._wake())
        self._wire = wire
        self._pulls.clear()

    def _kept(self, wire: Wire, limit: int) -> list[Delivery]:
        """What came too late for an earlier fetch, with its lease renewed."""
        now = self._clock.now()
        kept = [delivery for delivery in self._take(limit) if delivery.receipt.until > now]
        try:
            for delivery in kept:
                wire.send(publish(delivery.receipt.reply, PROGRESS))
                delivery.receipt.until = now + self._lease
        except BaseException:
            self._buffer.extendleft(reversed(kept))
            raise
        return kept

    def _take(self, limit: int) -> list[Delivery]:
        return [self._buffer.popleft() for _ in range(min(limit, len(self._buffer)))]

    async def _pull(self, wire: Wire, limit: int, give_up: float) -> None:
        """Have what is there sent, and wait until it came."""
        now = self._clock.now()
        for stream in self._streams:
            # A wait would have brought it. But whoever does not wait is to be told surely.
            if now >= give_up or not self._pulls.waits_for(stream, now):
                # Without `expires`: with it, nats-server 2.9 waits in spite of `no_wait`.
                name = self._ask(wire, stream, {"batch": limit, "no_wait": True})
                self._pulls.pull(stream, name, limit)
        if now < give_up and not self._busy:
            self._wait_for_one(wire, give_up - now)
        await self._until(wire, lambda: self._pulls.answered, self._timeout)

    def _wait_for_one(self, wire: Wire, left: float) -> None:
        wait, now = min(left, LONGEST_WAIT), self._clock.now()
        wanted = {"batch": 1, "expires": max(1, round(wait * NANOSECONDS))}
        for stream in self._streams:
            if not self._pulls.waits_for(stream, now):
                self._pulls.wait(stream, self._ask(wire, stream, wanted), now + wait + SLACK)

    async def _await_one(self, wire: Wire, left: float) -> None:
        self._wait_for_one(wire, left)
        with suppress(TimeoutError):
            async with asyncio.timeout(min(left, LONGEST_WAIT + SLACK)):
                await self._until(
                    wire,
                    lambda: bool(self._buffer) or not self._waiting(),
                    LONGEST_WAIT + self._timeout,
                )

    def _waiting(self) -> bool:
        return self._pulls.waiting(self._clock.now())

    def _ask(self, wire: Wire, stream: str, wanted: dict[str, Any]) -> str:
        """Send a request; returns its name."""
        name = str(next(self._serial))
        subject = f"CONSUMER.MSG.NEXT.{stream}.{self._group.consumer}"
        body = msgspec.json.encode(wanted)
        wire.send(publish(self._link.api_subject(subject), body, f"{self._inbox}.{name}"))
        return name

    async def _until(self, wire: Wire, holds: Callable[[], bool], within: float) -> None:
        """Return when it holds; the connection is lost if that takes too long."""
        try:
            async with asyncio.timeout(within):
                while wire.usable and not holds():
                    self._changed = asyncio.get_running_loop().create_future()
                    await self._changed
        except TimeoutError:
            wire.lose(f"no answer within {within} s")
            raise OutcomeUnknown(f"no answer within {within} s") from None
        if not wire.usable:
            raise OutcomeUnknown("the connection was lost")
        if self._pulls.ended_with(NO_RESPONDERS):
            self._pulls.clear()
            raise Gone("no such consumer")

    def _wake(self) -> None:
        if self._changed is not None and not self._changed.done():
            self._changed.set_result(None)

    def _arrived(self, msg: Msg) -> None:
        reply = msg.reply
        if reply:
            stream, deliveries = origin(reply)
            until = self._clock.now() + self._lease
            headers = msg.headers
            plain = plain_message(headers, msg.data) if type(headers) is Headers else None
            if plain is not None:  # as nearly all are
                held, dropped = Held(reply, 0, until), deliveries > 1
                found = Delivery(plain, self._subscription, deliveries, held, "", dropped)
            else:
                found = self._other_delivery(msg, deliveries, until)
            self._buffer.append(found)
            self._pulls.arrived(stream)
        else:
            self._pulls.ended(msg)
        changed = self._changed
        if changed is not None and not changed.done():
            changed.set_result(None)

    def _other_delivery(self, msg: Msg, deliveries: int, until: float) -> Delivery:
        headers = msg.headers
        if isinstance(headers, Headers):
            headers = headers.read()
        place = Place.of(msg.reply)
        message, damage = message_of(f"{place.stream}/{place.sequence}", headers, msg.data)
        attempt, at = deliveries, 0
        failed_at = 0.0
        if ATTEMPTS in headers:
            try:
                attempt += int(headers[ATTEMPTS])
                at = int(headers[AT])
                failed_at = int(headers.get(FAILED, "0")) / 1000
            except (ValueError, KeyError) as error:  # written by somebody else
                damage = damage or f"{ATTEMPTS}: {type(error).__name__}: {error}"
        held = Held(msg.reply, at, until)
        # Only a lease that ran out has the server deliver again: the rest is copied.
        dropped = deliveries > 1 or DROPPED in headers
        return Delivery(message, self._subscription, attempt, held, damage, dropped, failed_at)

    async def quiesce(self) -> None:
        """Let waits end, which they do soon, and give back what they brought."""
        wire = self._wire
        if wire is not None and wire.usable:
            with suppress(TimeoutError):  # a wait whose end was not heard is over then, too
                async with asyncio.timeout(LONGEST_WAIT + SLACK):
                    await self._until(wire, self._at_rest, self._timeout)
        await self._give_back()

    # Chores

    async def trim(self) -> None:
        """Delete from the topic what every group has settled."""
        stream = self._group.topic.stream
        (answer,) = await self._link.api((f"CONSUMER.LIST.{stream}", {}))
        consumers = checked(answer).get("consumers") or []
        if not consumers or answer["total"] > len(consumers):
            return  # nobody reads it; or too many to look at, and its bound has to do
        floor = min(consumer["ack_floor"]["stream_seq"] for consumer in consumers)
        if floor > self._trimmed:
            (answer,) = await self._link.api((f"STREAM.PURGE.{stream}", {"seq": floor + 1}))
            checked(answer)
            self._trimmed = floor

    async def _sweep(self) -> None:
        """Release what came after its fetch had ended, if no other fetch wants it."""
        with suppress(SeawallError):
            while self._waiting() and self._wire is not None and self._wire.usable:
                await self._clock.sleep(LONGEST_WAIT)
                await self._give_back()
        self._sweeping = False

    async def _give_back(self) -> None:
        if self._buffer and not self._active:
            left = tuple(self._buffer)
            self._buffer.clear()
            try:
                await self._release(left)
            except BaseException:
                self._buffer.extendleft(reversed(left))
                raise

    def _at_rest(self) -> bool:
        """Nothing may come any more."""
        return self._pulls.answered and not self._waiting()

    async def aclose(self) -> None:
        """Give back what a cancelled fetch left; best effort, bounded."""
        await self._tasks.cancel()
        wire = self._wire
        with suppress(SeawallError, TimeoutError):
            if wire is not None and wire.usable:
                async with asyncio.timeout(CLOSE_WAIT):
                    await self._until(wire, self._at_rest, self._timeout)
        with suppress(SeawallError):
            await self._give_back()
