"""What one consumer has here: messages that wait, how many are handled, and room for more.

Fetching puts in, handling takes out; both wait here for each other. Nothing is awaited but that.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Iterator, Sequence

from seawall.messaging.base import Delivery
from seawall.messaging.ordering import Lanes, Ordered


class Holding:
    """The deliveries of one consumer, `limit` of them at most.

    `unsettled` tells how many were handled and are not acknowledged yet.
    """

    def __init__(self, limit: int, ordered: Ordered | None, unsettled: Callable[[], int]) -> None:
        self.limit = limit
        self._unsettled = unsettled
        self.buffer: deque[Delivery] = deque()  # may be handled
        self.suspects: list[Delivery] = []  # to be handled alone, once nothing else is here
        self.lanes: Lanes[Delivery] | None = None if ordered is None else Lanes(ordered)
        self.blocked: dict[int, Delivery] = {}  # failed ones that hold up their key, by id()
        self.running = 0
        self.idle: list[asyncio.Future[None]] = []
        self.spreading = False  # a worker will be woken by a callback
        self.room = asyncio.Event()
        self.came = asyncio.Event()  # something is new in the buffer
        self._quiet = asyncio.Event()

    def put(self, delivery: Delivery, *, alone: bool = False) -> None:
        """A delivery was fetched; one that may end the process is to be handled `alone`."""
        key = delivery.message.key
        if self.lanes is not None and key is not None:
            if self.lanes.add(key, delivery):
                self.buffer.append(delivery)
        elif alone and self.lanes is None:
            self.suspects.append(delivery)
        else:
            self.buffer.append(delivery)

    def arrived(self) -> None:
        """All of a fetch were put: let them be handled."""
        self.came.set()
        self.check_room()
        self.spread()

    @property
    def waiting(self) -> int:
        """How many are here and not being handled."""
        waiting = len(self.buffer) + len(self.suspects)
        if self.lanes is not None:
            waiting += len(self.lanes) + len(self.blocked)
        return waiting

    @property
    def free(self) -> int:
        """How many more messages may be held.

        Those whose acknowledgement is on its way no longer count, so that the next fetch and
        the last acknowledgements travel together; but not more than once over.
        """
        return 0 if self._unsettled() > self.limit else self.limit - self.waiting - self.running

    def check_room(self) -> None:
        # From half full on: a fetch for every single free place would be a round trip each.
        free = self.free
        if free * 2 >= self.limit or (free > 0 and not self.buffer):
            self.room.set()
        else:
            self.room.clear()

    # Workers

    async def wait_idle(self) -> None:
        """Be woken when there is something to handle."""
        waiter = asyncio.get_running_loop().create_future()
        self.idle.append(waiter)
        await waiter

    def spread(self) -> None:
        """Wake one idle worker if there is work; it wakes the next one when it has to wait."""
        self.spreading = False
        while self.buffer and self.idle:
            waiter = self.idle.pop()
            if not waiter.done():
                waiter.set_result(None)
                return

    def rest(self) -> None:
        """A worker has nothing to do, or lets others have their turn."""
        self.check_room()
        if self.running == 0:
            self._quiet.set()

    async def at_rest(self) -> None:
        """Return when nothing is handled, and nothing waits for it."""
        while self.running or self.buffer:
            self._quiet.clear()
            await self._quiet.wait()

    # Order

    def block(self, delivery: Delivery) -> None:
        """It failed and is tried again later: its key waits for it."""
        self.blocked[id(delivery)] = delivery

    def unblock(self, delivery: Delivery) -> None:
        if self.blocked.pop(id(delivery), None) is not None:
            self.buffer.append(delivery)
            self.spread()

    def go_on_after(self, delivery: Delivery) -> None:
        """It is done with, one way or the other: the next one of its key may be handled."""
        if self.lanes is None or delivery.message.key is None:
            return
        following = self.lanes.finished(delivery.message.key)
        if following is not None:
            self.buffer.append(following)
            self.spread()

    # Giving up

    def unstarted(self) -> list[Delivery]:
        """All that is here and not being handled; it is here no more."""
        unstarted = [*self.blocked.values(), *self.buffer, *self.suspects]
        self.blocked.clear()
        self.buffer.clear()
        self.suspects.clear()
        if self.lanes is not None:
            followers = self.lanes.clear()
            for head in unstarted:
                self.go_on_after(head)  # with nothing: its key may begin anew
            unstarted += followers
        self.check_room()
        return unstarted

    def drop(self, lost: Sequence[Delivery]) -> None:
        """Others have these now: forget those of them that wait."""
        gone = {id(delivery) for delivery in lost}
        heads = [delivery for delivery in self.buffer if id(delivery) in gone]
        heads += [self.blocked.pop(one) for one in gone if one in self.blocked]
        kept = [delivery for delivery in self.buffer if id(delivery) not in gone]
        self.buffer.clear()
        self.buffer.extend(kept)
        self.suspects = [each for each in self.suspects if id(each) not in gone]
        if self.lanes is not None:
            self.lanes.drop(gone)
            for head in heads:
                self.go_on_after(head)
        self.check_room()

    def __iter__(self) -> Iterator[Delivery]:
        """All that wait here."""
        yield from self.buffer
        yield from self.suspects
        yield from self.blocked.values()
        yield from self.lanes or ()

    def __repr__(self) -> str:
        return f"<Holding {self.waiting} wait, {self.running} run, limit {self.limit}>"
