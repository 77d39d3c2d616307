"""Reading one subscription from a Valkey: blocking reads, and the group's regular chores.

A read that blocks holds its connection, so each subscription has one of its own. A fetch that
is cancelled leaves its read (or its chores) under way; what that still brings is handed to the
next fetch.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Any

import hiredis

from seawall.clock import Clock
from seawall.concurrency.tasks import Tasks
from seawall.errors import NotSent, OutcomeUnknown, SeawallError
from seawall.messaging.base import Delivery, Subscription
from seawall.messaging.transports import scripts
from seawall.messaging.transports.entries import RETRY, TOPIC, Keys, delivery_of
from seawall.messaging.transports.resp import Link, NoGroup, error_of, pack

# The longest time between two looks for what is due or lost its lease. It bounds how late a
# retry comes whose scheduling process died; and one script a second costs nothing.
CHORES_EVERY = 1.0  # seconds

# How often a quarter of the lease is looked at, so that a lost one is found soon after its end.
CHORES_A_LEASE = 4

TRIM_EVERY = 5.0  # seconds

# Messages kept of a topic that has no group yet; the oldest go.
UNREAD = 100_000

FORGET_CONSUMER = 3_600_000  # ms after which a consumer name without messages is deleted

LONGEST_BLOCK = 30.0  # seconds, so that a cut connection is noticed some time

UNBLOCK_TIMEOUT = 1.0  # seconds the server gets to answer an unblocked read

# Told before the server has the read, which came on another connection, it ends nothing.
UNBLOCK_AGAIN = 0.05  # seconds


class Reader:
    """Fetches for one subscription; one fetch at a time."""

    def __init__(
        self,
        subscription: Subscription,
        consumer: str,
        *,
        commands: Link,
        reads: Link,
        release: Callable[[Sequence[Delivery]], Awaitable[None]],
        timeout: float,
        clock: Clock,
    ) -> None:
        self._subscription = subscription
        self._keys = Keys.of(subscription)
        self._consumer = consumer
        self._commands = commands
        self._reads = reads
        self._release = release
        self._timeout = timeout
        self._clock = clock
        self._kept: list[Delivery] = []  # taken, and returned by no fetch yet
        self._pending: asyncio.Future[list[Any]] | None = None
        self._unblocked = False
        self._working: asyncio.Task[SeawallError | None] | None = None  # chores under way
        self._tasks = Tasks()
        self._nudge: asyncio.Future[None] | None = None
        self._chores_at = 0.0
        self._trim_at = 0.0
        self._cursors: tuple[bytes, bytes] = (b"0-0", b"0-0")
        self._retries_seen = False

    async def fetch(self, limit: int, *, wait: float, lease: float) -> Sequence[Delivery]:
        give_up = self._clock.now() + wait
        while True:
            try:
                await self._chores(limit, lease)
                if not self._kept:
                    await self._read(limit, give_up)
                elif self._pending is not None:
                    await self._end_read()  # what it brings would be nobody's until the next fetch
            except NoGroup:
                await self.provision()
                continue
            if self._kept:
                return await self._hand_out(limit)
            if self._clock.now() >= give_up:
                return []

    async def quiesce(self) -> None:
        """Have nothing under way, and give back what no fetch returned."""
        with suppress(NoGroup):
            if self._working is not None:
                await self._chores_done(self._working)
            await self._end_read()
        await self._give_back(0)

    async def provision(self) -> None:
        """Make the group on both of its streams, from the oldest entry there is."""
        commands = [
            pack(("XGROUP", "CREATE", stream, self._subscription.group, "0", "MKSTREAM"))
            for stream in (self._keys.topic, self._keys.retry)
        ]
        for reply in await self._commands.pipeline(b"".join(commands), len(commands)):
            if isinstance(reply, hiredis.ReplyError) and not str(reply).startswith("BUSYGROUP"):
                raise error_of(reply)

    def due_in(self, seconds: float) -> None:
        """Something was delayed by `seconds` here: be back for it."""
        self._chores_at = min(self._chores_at, self._clock.now() + seconds)
        if self._nudge is not None and not self._nudge.done():
            self._nudge.set_result(None)

    async def aclose(self) -> None:
        """Give back what a cancelled fetch left, and our consumer name; best effort, bounded."""
        with suppress(NotSent, OutcomeUnknown, NoGroup, TimeoutError):
            async with asyncio.timeout(2 * UNBLOCK_TIMEOUT):
                await self.quiesce()
                for stream in (self._keys.topic, self._keys.retry):
                    await self._commands.run(
                        scripts.LEAVE, (stream,), self._subscription.group, self._consumer
                    )
        await self._tasks.cancel()
        await self._reads.aclose()

    # Reading

    async def _read(self, limit: int, give_up: float) -> None:
        """Take what arrives until `give_up`, or until chores are due."""
        if self._unblocked:
            await self._end_read()
            return
        if self._pending is None:
            await self._ask(limit, give_up - self._clock.now())
        pending = self._pending
        assert pending is not None
        self._nudge = asyncio.get_running_loop().create_future()
        pause = max(0.0, self._chores_at - self._clock.now())
        try:
            await asyncio.wait(
                (pending, self._nudge), timeout=pause, return_when=asyncio.FIRST_COMPLETED
            )
        except asyncio.CancelledError:
            self._unblock()
            raise
        self._take(pending)

    async def _ask(self, limit: int, wait: float) -> None:
        # COUNT is for each stream: while there are retries, both together keep to the limit.
        count = max(1, limit // 2) if self._retries_seen else limit
        block = min(wait, LONGEST_BLOCK)
        command: list[str | int] = ["XREADGROUP", "GROUP", self._subscription.group]
        command += [self._consumer, "COUNT", count]
        if block > 0:
            command += ["BLOCK", max(1, int(block * 1000))]
        command += ["STREAMS", self._keys.retry, self._keys.topic, ">", ">"]
        wire = await self._reads.ready()
        timeout = self._timeout + max(0.0, block)
        self._pending = wire.send(pack(tuple(command)), 1, timeout)

    def _take(self, pending: asyncio.Future[list[Any]]) -> None:
        """Keep what the read brought, if it is answered and nobody else was quicker."""
        if self._pending is not pending or not pending.done():
            return
        self._pending = None
        self._unblocked = False
        (reply,) = pending.result()
        if isinstance(reply, hiredis.ReplyError):
            raise error_of(reply)
        self._retries_seen = False
        for key, entries in reply or ():
            stream, front = self._keys.topic, TOPIC
            if key.decode() == self._keys.retry:
                stream, front = self._keys.retry, RETRY
                self._retries_seen = True
            self._kept += [
                delivery_of(self._subscription, stream, front, entry, 1, fields)
                for entry, fields in entries
            ]

    def _unblock(self) -> None:
        """Have the read under way answered now, with entries or without; do not wait for it."""
        if self._pending is not None and not self._unblocked:
            self._unblocked = True
            self._commands.post("CLIENT", "UNBLOCK", self._reads.client_id)

    async def _end_read(self) -> None:
        """Have the read under way answered now, if there is one, and keep what it brought."""
        pending = self._pending
        if pending is None:
            return
        self._unblocked = True
        give_up = self._clock.now() + UNBLOCK_TIMEOUT
        while not pending.done():
            if self._clock.now() >= give_up:
                raise OutcomeUnknown(f"a read did not end within {UNBLOCK_TIMEOUT} s")
            await self._commands.call("CLIENT", "UNBLOCK", self._reads.client_id)
            await asyncio.wait((pending,), timeout=UNBLOCK_AGAIN)
        self._take(pending)

    async def _hand_out(self, limit: int) -> list[Delivery]:
        await self._give_back(limit)
        found, self._kept = self._kept, []
        return found

    async def _give_back(self, beyond: int) -> None:
        """Release what is kept beyond so many."""
        left = self._kept[beyond:]
        if not left:
            return
        del self._kept[beyond:]
        try:
            await self._release(left)
        except BaseException:
            self._kept += left
            raise

    # Chores

    async def _chores(self, limit: int, lease: float) -> None:
        """Move what is due and take over what lost its lease, if it is time for that."""
        if self._working is None:
            if self._clock.now() < self._chores_at:
                return
            self._working = self._tasks.start(self._work(limit, lease), name="valkey-chores")
        await self._chores_done(self._working)

    async def _chores_done(self, working: asyncio.Task[SeawallError | None]) -> None:
        # Not given up half-way: what they take over would be nobody's until its lease ends.
        await asyncio.wait((working,))
        if self._working is working:
            self._working = None
            if error := working.result():
                raise error

    async def _work(self, limit: int, lease: float) -> SeawallError | None:
        try:
            await self._take_over(limit, lease)
        except SeawallError as error:
            return error
        return None

    async def _take_over(self, limit: int, lease: float) -> None:
        keys = self._keys
        due, first, topic_entries, second, retry_entries = await self._commands.run(
            scripts.CHORES,
            (keys.topic, keys.topic_delayed, keys.retry, keys.delayed),
            *(self._subscription.group, self._consumer, max(1, int(lease * 1000)), limit),
            *self._cursors,
        )
        self._cursors = (first, second)
        found = [
            delivery_of(self._subscription, stream, front, entry, count, fields)
            for stream, front, entries in (
                (keys.topic, TOPIC, topic_entries),
                (keys.retry, RETRY, retry_entries),
            )
            for entry, count, fields in entries
        ]
        now = self._clock.now()
        pause = min(CHORES_EVERY, lease / CHORES_A_LEASE)
        if found or (first, second) != (b"0-0", b"0-0"):
            pause = 0.0  # there may be more
        elif due >= 0:
            pause = min(pause, due / 1000)
        self._chores_at = now + pause
        self._kept += found
        if now >= self._trim_at:
            self._trim_at = now + TRIM_EVERY
            await self.trim()

    async def trim(self) -> None:
        await self._commands.run(
            scripts.TRIM, (self._keys.topic, self._keys.retry), UNREAD, FORGET_CONSUMER
        )
