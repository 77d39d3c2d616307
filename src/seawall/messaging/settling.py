"""How deliveries end: acknowledged in natural batches, retried, given up, or given back."""

import asyncio
from collections.abc import Callable, Sequence

from seawall.facts import Observer
from seawall.messaging.base import Delivery, Subscription, Transport
from seawall.messaging.facts import Acked, Died, KeyParked, Released, Retried
from seawall.messaging.failures import taken_apart
from seawall.messaging.reach import Reach


class Settling:
    """Tells the broker of one subscription what became of its deliveries.

    `acked` is called after each batch of acknowledgements, with the seconds that their handlers
    ran.
    """

    def __init__(
        self,
        transport: Transport,
        subscription: Subscription,
        reach: Reach,
        observer: Observer,
        acked: Callable[[Sequence[float]], None],
    ) -> None:
        self._transport = transport
        self._subscription = subscription
        self._reach = reach
        self._observer = observer
        self._acked = acked
        self._done: list[Delivery] = []
        self._seconds: list[float] = []
        self._acking = 0
        self._woken = asyncio.Event()

    @property
    def under_way(self) -> int:
        """Handled messages whose acknowledgement has not been taken yet."""
        return len(self._done) + self._acking

    def done(self, delivery: Delivery, seconds: float) -> None:
        """It was handled, which took `seconds`: have it acknowledged."""
        self._done.append(delivery)
        self._seconds.append(seconds)
        self._woken.set()

    async def run(self) -> None:
        """Acknowledge what is done, for ever: what is done while a batch is sent is the next."""
        while True:
            await self._woken.wait()
            self._woken.clear()
            await self.flush()

    async def flush(self) -> None:
        while self._done:
            done, self._done = self._done, []
            seconds, self._seconds = self._seconds, []
            self._acking = len(done)
            try:
                await self._reach.persistently(lambda done=done: self._transport.ack(done))  # type: ignore[misc]
            except asyncio.CancelledError:
                # Given back, so that the last flush of a drain sends them; settling twice
                # does nothing the second time.
                self._done[:0], self._seconds[:0] = done, seconds
                raise
            finally:
                self._acking = 0
            self._observer(Acked(self._subscription, tuple(seconds)))
            self._acked(seconds)

    async def retry(self, delivery: Delivery, delay: float, error: str) -> None:
        await self._reach.persistently(
            lambda: self._transport.retry(delivery, delay=delay, error=error)
        )
        self.retried(delivery, delay, error)

    def retried(self, delivery: Delivery, delay: float, error: str) -> None:
        """Say that it is tried again."""
        said, _ = taken_apart(error)
        self._observer(
            Retried(self._subscription, delivery.message.id, delivery.attempt, delay, said)
        )

    async def die(self, delivery: Delivery, reason: str, error: str) -> None:
        await self._reach.persistently(
            lambda: self._transport.dead(delivery, reason=reason, error=error)
        )
        said, _ = taken_apart(error)
        self._observer(
            Died(self._subscription, delivery.message.id, delivery.attempt, reason, said)
        )

    def parked(self, delivery: Delivery, key: str, followers: int) -> None:
        """Say that a key is parked since `delivery` was given up."""
        self._observer(KeyParked(self._subscription, key, delivery.message.id, followers))

    async def release(self, deliveries: Sequence[Delivery]) -> None:
        if deliveries:
            await self._transport.release(deliveries)
            self._observer(Released(self._subscription, len(deliveries)))

    async def give_back(self, deliveries: Sequence[Delivery]) -> None:
        """`release`, until the broker has heard it."""
        await self._reach.persistently(lambda: self.release(deliveries))
