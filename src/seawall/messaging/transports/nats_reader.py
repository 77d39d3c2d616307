"""Reading one subscription from JetStream: from the topic's stream and from the group's own.

A fetch first pulls what is there; only if that is nothing it waits, for one message of each
stream. The server cannot be told that we no longer wait (it drops what is on its way to an inbox
that was given up), so waits are short and end by themselves; what one still brings after its
fetch has ended is kept for the next fetch, or released if there is none.
"""

import asyncio
import itertools
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Any

import msgspec
from nats.aio.msg import Msg

from seawall.clock import Clock
from seawall.concurrency.tasks import Tasks
from seawall.errors import OutcomeUnknown, SeawallError, Unavailable
from seawall.messaging.base import Delivery, Subscription
from seawall.messaging.transports.nats_layout import (
    AT,
    ATTEMPTS,
    DROPPED,
    Group,
    Place,
    message_of,
)
from seawall.messaging.transports.nats_link import (
    EXISTS,
    NO_RESPONDERS,
    Gone,
    NatsLink,
    Wire,
    checked,
    status_of,
)

# The server counts a lease from when it sent the message, we from when it arrived here. It gives
# the message to others only this much later than we stop to settle it.
GRACE, MOST_GRACE = 0.1, 1.0  # of the lease; seconds

# How long one pull waits, in seconds. As long a message can lie at a process that stopped to
# fetch; and four small requests a second are nothing to the server.
LONGEST_WAIT = 0.5

# What pulls under way get to end when we close: the longest, and a slow answer.
CLOSE_WAIT = 2 * LONGEST_WAIT  # seconds

TRIM_EVERY = 5.0  # seconds

NANOSECONDS = 1_000_000_000

PROGRESS = b"+WPI"


class Held:
    """A delivery's receipt: how to settle it, and until when it is ours."""

    __slots__ = ("at", "place", "reply", "settled", "until")

    def __init__(self, reply: str, place: Place, at: int, until: float) -> None:
        self.reply = reply
        self.place = place
        self.at = at  # when the message was first published, milliseconds since 1970
        self.until = until  # clock's seconds
        self.settled = False


class _Pull:
    """A request for messages, until it is used up or the server ended it."""

    def __init__(self, name: str, batch: int) -> None:
        self.name = name
        self.left = batch
        self.status = ""

    @property
    def over(self) -> bool:
        return self.left <= 0 or self.status != ""


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
        self._pulls: dict[str, _Pull] = {}  # of what is there, by stream
        self._waits: dict[str, _Pull] = {}  # for what is to come, by stream; may outlive a fetch
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
            await self._attach(wire)
        if lease != self._lease:
            await self.provision(lease)
        if self._clock.now() >= self._trim_at:
            self._trim_at = self._clock.now() + TRIM_EVERY
            await self.trim()
        # Below, nothing is awaited with messages in hand: a fetch may be cancelled.
        found = await self._kept(wire, limit)
        while not found:
            await self._pull(wire, limit)
            found = self._take(limit)
            left = give_up - self._clock.now()
            if found or left <= 0:
                break
            await self._await_one(wire, left)
            found = self._take(limit)
            if not found and self._clock.now() >= give_up:
                break
        return found

    async def _attach(self, wire: Wire) -> None:
        self._inbox = wire.client.new_inbox()
        await wire.subscribe(f"{self._inbox}.*", self._arrived)
        wire.lost.add_done_callback(lambda _: self._wake())
        self._wire = wire
        self._pulls = {}
        self._waits = {}

    async def _kept(self, wire: Wire, limit: int) -> list[Delivery]:
        """What came too late for an earlier fetch, with its lease renewed."""
        now = self._clock.now()
        kept = [delivery for delivery in self._take(limit) if delivery.receipt.until > now]
        try:
            for delivery in kept:
                await wire.send(delivery.receipt.reply, PROGRESS)
                delivery.receipt.until = now + self._lease
        except BaseException:
            self._buffer.extendleft(reversed(kept))
            raise
        return kept

    def _take(self, limit: int) -> list[Delivery]:
        return [self._buffer.popleft() for _ in range(min(limit, len(self._buffer)))]

    async def _pull(self, wire: Wire, limit: int) -> None:
        """Have what is there sent, and wait until it came."""
        # Without `expires`: with it, nats-server 2.9 waits in spite of `no_wait`.
        for stream in self._streams:
            await self._ask(wire, self._pulls, stream, {"batch": limit, "no_wait": True})
        await self._until(
            wire, lambda: all(pull.over for pull in self._pulls.values()), self._timeout
        )

    async def _await_one(self, wire: Wire, left: float) -> None:
        wait = min(left, LONGEST_WAIT)
        wanted = {"batch": 1, "expires": max(1, round(wait * NANOSECONDS))}
        for stream in self._streams:
            if stream not in self._waits or self._waits[stream].over:
                await self._ask(wire, self._waits, stream, wanted)
        with suppress(TimeoutError):
            async with asyncio.timeout(left):
                await self._until(
                    wire, lambda: bool(self._buffer) or not self._waiting(), wait + self._timeout
                )

    def _waiting(self) -> bool:
        return any(not pull.over for pull in self._waits.values())

    def _pulling(self) -> bool:
        """Something may still come."""
        return self._waiting() or any(not pull.over for pull in self._pulls.values())

    async def _ask(
        self, wire: Wire, pulls: dict[str, _Pull], stream: str, wanted: dict[str, Any]
    ) -> None:
        name = str(next(self._serial))
        pulls[stream] = _Pull(name, wanted["batch"])
        subject = f"CONSUMER.MSG.NEXT.{stream}.{self._group.consumer}"
        body = msgspec.json.encode(wanted)
        await wire.send(self._link.api_subject(subject), body, f"{self._inbox}.{name}")

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
        if any(
            pull.status == NO_RESPONDERS for pull in (*self._pulls.values(), *self._waits.values())
        ):
            self._waits = {}
            raise Gone("no such consumer")

    def _wake(self) -> None:
        if self._changed is not None and not self._changed.done():
            self._changed.set_result(None)

    async def _arrived(self, msg: Msg) -> None:
        if not msg.reply:
            self._ended(msg.subject[msg.subject.rfind(".") + 1 :], status_of(msg))
            return
        delivery = self._delivery(msg)
        self._buffer.append(delivery)
        stream = delivery.receipt.place.stream
        pull = self._pulls.get(stream)
        if pull is None or pull.over:
            pull = self._waits.get(stream)
        if pull is not None:
            pull.left -= 1
        self._wake()

    def _ended(self, name: str, status: str) -> None:
        """The server will send nothing (more) for a pull, if it is one of now."""
        for pull in (*self._pulls.values(), *self._waits.values()):
            if pull.name == name:
                pull.status = status
        self._wake()

    def _delivery(self, msg: Msg) -> Delivery:
        headers = msg.headers or {}
        place = Place.of(msg.reply)
        message, damage = message_of(f"{place.stream}/{place.sequence}", headers, msg.data)
        attempt, at = place.deliveries, place.stored // 1_000_000
        if ATTEMPTS in headers:
            attempt += int(headers[ATTEMPTS])
            at = int(headers[AT])
        held = Held(msg.reply, place, at, self._clock.now() + self._lease)
        # Only a lease that ran out has the server deliver again: the rest is copied.
        dropped = place.deliveries > 1 or DROPPED in headers
        return Delivery(message, self._subscription, attempt, held, damage, dropped)

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

    async def aclose(self) -> None:
        """Give back what a cancelled fetch left; best effort, bounded."""
        await self._tasks.cancel()
        wire = self._wire
        with suppress(SeawallError, TimeoutError):
            if wire is not None and wire.usable:
                async with asyncio.timeout(CLOSE_WAIT):
                    await self._until(wire, lambda: not self._pulling(), self._timeout)
        with suppress(SeawallError):
            await self._give_back()
