"""Reading one subscription from RabbitMQ: a consumer while somebody fetches, and leases.

The broker pushes, up to a prefetch, and ties what it pushed to the channel: when that ends, all
of it goes to others. So a consumer is there only as long as one fetch follows another, what it
was pushed beyond that is given back, and leases are kept here: what is not settled or renewed in
time is rejected, which the broker counts as a delivery that failed.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from contextlib import suppress
from functools import partial
from typing import Any

from pamqp import commands as spec

from seawall.clock import Clock
from seawall.concurrency.tasks import Tasks
from seawall.errors import OutcomeUnknown, SeawallError
from seawall.messaging.base import Delivery, Subscription
from seawall.messaging.transports.rabbit_channel import Arrived, Channel
from seawall.messaging.transports.rabbit_layout import (
    AT,
    ATTEMPTS,
    DROPPED,
    FAILED,
    Group,
    message_of,
)
from seawall.messaging.transports.rabbit_link import RabbitLink, Wire

# A consumer without a fetch ends after this: others are to have what it would be pushed.
LINGER = 0.05  # seconds

# What was pushed and not fetched is given back after this. Longer than handlers usually take,
# so that a busy consumer finds it there.
KEEP = 1.0  # seconds

# A fetch that comes before the last acknowledgements left waits this long for the room they make.
ROOM = 0.02  # seconds

MOST_PREFETCH = 65_535  # a number of 16 bits


class Held:
    """A delivery's receipt: how to settle it, and until when it is ours."""

    __slots__ = ("at", "session", "settled", "tag", "until")

    def __init__(self, session: "_Session", tag: int, at: int) -> None:
        self.session = session
        self.tag = tag
        self.at = at  # when the message was first published, milliseconds since 1970; 0: unknown
        self.until = 0.0  # clock's seconds; 0 until a fetch returned it
        self.settled = False


class _Session:
    """A channel, and what was delivered through it and is not settled."""

    def __init__(self, wire: Wire, channel: Channel) -> None:
        self.wire = wire
        self.channel = channel
        self.unsettled: dict[int, Held] = {}  # by delivery tag, which rise
        self.consumer = ""
        self.prefetch = 0
        self.first = 0  # the tag before the first delivery of the consumer of now
        self.last = 0

    @property
    def usable(self) -> bool:
        return self.wire.usable and not self.channel.closed

    @property
    def room(self) -> int:
        """What the broker may still push to the consumer of now."""
        return self.prefetch - sum(1 for tag in self.unsettled if tag > self.first)

    def settle(self, settled: Sequence[Held]) -> None:
        """Acknowledge: everything up to a tag at once, where all of that is settled."""
        unsettled = self.unsettled
        for held in settled:
            held.settled = True
            unsettled.pop(held.tag, None)
        oldest = next(iter(unsettled), self.last + 1)
        tags = [held.tag for held in settled]
        up_to = max([tag for tag in tags if tag < oldest], default=0)
        self.channel.ack([tag for tag in tags if tag > oldest], up_to=up_to)

    def reject(self, lost: Sequence[Held]) -> None:
        """Let others have them, and count."""
        for held in lost:
            held.settled = True
            self.unsettled.pop(held.tag, None)
        self.channel.reject([held.tag for held in lost])


class RabbitReader:
    """Fetches for one subscription; one fetch at a time."""

    def __init__(
        self,
        subscription: Subscription,
        link: RabbitLink,
        *,
        provision: Callable[[Subscription], Awaitable[None]],
        release: Callable[[Sequence[Delivery]], Awaitable[None]],
        clock: Clock,
    ) -> None:
        self._subscription = subscription
        self._group = Group.of(subscription)
        self._link = link
        self._provision = provision
        self._release = release
        self._clock = clock
        self._session: _Session | None = None
        self._buffer: deque[Delivery] = deque()
        self._changed: asyncio.Future[None] | None = None
        self._active = False
        self._lingering: asyncio.Task[None] | None = None
        self._alarm: asyncio.TimerHandle | None = None
        self._doing = asyncio.Lock()
        self._giving = asyncio.Lock()
        self._tasks = Tasks()
        self.newest = 0  # when the last message delivered here was published, ms since 1970

    @property
    def buffered(self) -> int:
        return len(self._buffer)

    @property
    def in_flight(self) -> int:
        return 0 if self._session is None else len(self._session.unsettled) - len(self._buffer)

    @property
    def oldest(self) -> int:
        """When the oldest message held here was published, milliseconds since 1970; 0 if none."""
        if self._session is None:
            return 0
        return min((held.at for held in self._session.unsettled.values() if held.at), default=0)

    # Fetching

    async def fetch(self, limit: int, *, wait: float, lease: float) -> Sequence[Delivery]:
        give_up = self._clock.now() + wait
        self._active = True
        if self._lingering is not None:
            self._lingering.cancel()
            self._lingering = None
        try:
            session = await self._begin()
            if not self._buffer:
                await self._whole(self._have_consumer(session, limit))
            while not self._buffer and session.usable:
                left = give_up - self._clock.now()
                if left <= 0 or not await self._change(left):
                    break
                if not self._buffer and session.usable and not session.consumer:
                    await self._whole(self._have_consumer(session, limit))
            if not session.usable:
                raise OutcomeUnknown("the connection was lost")
            if not self._buffer:
                await self._whole(self._is_there(session))
            return self._take(limit, lease)
        finally:
            self._active = False
            self._lingering = self._tasks.start(self._linger(), name="rabbitmq-linger")

    async def _begin(self) -> _Session:
        """The channel of this subscription; everything before it is lost with the connection."""
        session = self._session
        wire = await self._link.ready()
        if session is not None and session.usable and session.wire is wire:
            return session
        self._forget()
        await self._provision(self._subscription)
        channel = await wire.open()
        session = self._session = _Session(wire, channel)
        channel.deliver, channel.cancelled = partial(self._arrived, session), self._cancelled
        channel.ended.add_done_callback(lambda _: self._wake())
        return session

    def _forget(self) -> None:
        self._buffer.clear()
        if self._session is not None:
            for held in self._session.unsettled.values():
                held.settled = True
            self._session = None

    def _cancelled(self) -> None:
        """The broker ended the consumer: its queue was deleted, or its node is leaving."""
        if self._session is not None:
            self._session.consumer = ""
            self._session.wire.declared.clear()
            self._session.wire.lose()
        self._wake()

    async def _whole(self, work: Coroutine[Any, Any, None]) -> None:
        """Do something to its end, even if our caller is cancelled: aiormq closes a channel when
        a call on it is, and all leases would be lost. One thing after another."""

        async def alone() -> None:
            async with self._doing:
                await work

        await asyncio.shield(self._tasks.start(alone(), name="rabbitmq-reader"))

    @staticmethod
    async def _is_there(session: _Session) -> None:
        """Raises if the broker does not answer."""
        await session.wire.call(session.channel.ask(spec.Basic.Qos()))

    async def _have_consumer(self, session: _Session, limit: int) -> None:
        """Have the broker push up to `limit`, and wait for what is there already."""
        limit = min(limit, MOST_PREFETCH)
        if session.consumer:
            if session.room <= 0:
                await self._change(ROOM)
            if self._buffer or session.room > 0:
                return
            await self._stop_consuming(session)
        call, ask = session.wire.call, session.channel.ask
        session.first, session.prefetch = session.last, limit
        await call(ask(spec.Basic.Qos(prefetch_count=limit)))
        answer = await call(ask(spec.Basic.Consume(queue=self._group.queue)))
        session.consumer = answer.consumer_tag or ""
        # Deliveries come before the answer to what is asked after them: two such questions tell
        # what was there, for a queue hands out in bursts.
        before = -1
        while before < len(self._buffer) < limit:
            before = len(self._buffer)
            await call(ask(spec.Basic.Qos(prefetch_count=limit)))

    async def _stop_consuming(self, session: _Session) -> None:
        if not session.consumer or not session.usable:
            session.consumer = ""
            return
        if session.room > 0:
            # What is on its way when a consumer ends goes back, and counts as delivered. What
            # earlier acknowledgements made room for comes before the answer to this, which may
            # bring one more.
            await session.wire.call(session.channel.ask(spec.Basic.Get(queue=self._group.queue)))
        consumer, session.consumer = session.consumer, ""
        await session.wire.call(session.channel.ask(spec.Basic.Cancel(consumer_tag=consumer)))

    async def _change(self, within: float) -> bool:
        """Wait until something happens; false if nothing does."""
        self._changed = asyncio.get_running_loop().create_future()
        try:
            async with asyncio.timeout(within):
                await self._changed
        except TimeoutError:
            return False
        return True

    def _wake(self) -> None:
        if self._changed is not None and not self._changed.done():
            self._changed.set_result(None)

    def _arrived(self, session: _Session, message: Arrived) -> None:
        if session is not self._session:
            return
        tag, content, body = message
        headers = content.headers
        at = headers.get(AT, 0)
        held = Held(session, tag, at if isinstance(at, int) else 0)
        session.unsettled[tag] = held
        session.last = tag
        found = message_of(f"{self._group.queue}/{tag}", content, headers, body)
        attempt, failed_at, damage, dropped = 1, 0.0, "", DROPPED in headers
        try:
            before = int(headers.get("x-delivery-count", 0))
            attempt += before + int(headers.get(ATTEMPTS, 0))
            failed_at = int(headers.get(FAILED, 0)) / 1000
            dropped = dropped or before > 0
        except (ValueError, TypeError) as error:  # written by somebody else
            damage = f"{ATTEMPTS}: {type(error).__name__}: {error}"
        self._buffer.append(
            Delivery(found, self._subscription, attempt, held, damage, dropped, failed_at)
        )
        self.newest = held.at or self.newest
        self._wake()

    def _take(self, limit: int, lease: float) -> list[Delivery]:
        until = self._clock.now() + lease
        taken = [self._buffer.popleft() for _ in range(min(limit, len(self._buffer)))]
        for delivery in taken:
            delivery.receipt.until = until
        if taken:
            self.watch(lease)
        return taken

    # Leases

    def watch(self, lease: float) -> None:
        """Look at the leases when this one ends, or earlier."""
        loop = asyncio.get_running_loop()
        if self._alarm is None or self._alarm.when() > loop.time() + lease:
            if self._alarm is not None:
                self._alarm.cancel()
            self._alarm = loop.call_later(lease, self._ring)

    def _ring(self) -> None:
        self._alarm = None
        self._tasks.start(self._expire(), name="rabbitmq-leases")

    async def _expire(self) -> None:
        session = self._session
        if session is None or not session.usable:
            return
        now = self._clock.now()
        leased = [held for held in session.unsettled.values() if held.until]
        lost = [held for held in leased if held.until <= now]
        with suppress(SeawallError):
            if lost:
                await self.pause()
                session.reject(lost)
        ends = min((held.until for held in leased if held.until > now), default=None)
        if ends is not None:
            self.watch(ends - now)

    # Giving back

    async def _linger(self) -> None:
        with suppress(SeawallError):
            await self._clock.sleep(LINGER)
            await self.pause()
            if self._buffer:
                await self._clock.sleep(KEEP)
                await self._give_back()

    async def pause(self) -> None:
        """Have no more pushed until the next fetch, if none is under way."""
        if self._session is not None and not self._active:
            await self._whole(self._stop_consuming(self._session))

    def settled(self) -> None:
        """There is room again."""
        self._wake()

    async def quiesce(self) -> None:
        """Have nothing pushed until the next fetch, and give back what was and none fetched."""
        await self.pause()
        await self._give_back()

    async def _give_back(self) -> None:
        async with self._giving:
            now = self._clock.now()
            left = tuple(self._buffer)
            self._buffer.clear()
            for delivery in left:
                delivery.receipt.until = now + KEEP
            await self._release(left)

    async def aclose(self) -> None:
        """Give back what was not fetched; best effort, bounded."""
        await self._tasks.cancel()
        if self._alarm is not None:
            self._alarm.cancel()
        session = self._session
        if session is not None and session.usable:
            with suppress(SeawallError):
                await self.pause()
                await self._give_back()
        self._forget()
