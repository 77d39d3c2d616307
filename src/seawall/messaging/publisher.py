"""Publishing one message at a time, stored in batches."""

import asyncio
from collections.abc import Sequence
from typing import NamedTuple, Self

from seawall.clock import SYSTEM, Clock
from seawall.concurrency.batch import Batcher
from seawall.errors import SeawallError
from seawall.facts import Observer, ignore
from seawall.messaging.base import Message, Receipt, Transport
from seawall.messaging.facts import Published, PublishFailed


class _Parcel(NamedTuple):
    topic: str
    delay: float
    message: Message


class Publisher:
    """Publishes through one transport.

    `publish` returns once the message is as durable as the transport's `caps.durability` says.
    Calls made while as many batches are under way as the transport bears travel together in the
    next one. Messages published in order by one task stay in order; so do those of concurrent
    tasks, in the order of the calls.
    """

    def __init__(
        self,
        transport: Transport,
        *,
        observer: Observer = ignore,
        clock: Clock = SYSTEM,
        batch: int | None = None,  # messages at once, at most; None: as many as `caps` say
    ) -> None:
        self._transport = transport
        self._observer = observer
        self._clock = clock
        caps = transport.caps
        self._batcher: Batcher[_Parcel, None] = Batcher(
            self._send, cap=batch or caps.batch, under_way=caps.publishes
        )
        self._beginning = 0  # calls of the transport that the loop is still to make

    async def publish(self, topic: str, message: Message, *, delay: float = 0.0) -> None:
        """Store `message`.

        Raises `Unavailable` or `Full` (not stored; try again), `OutcomeUnknown` (perhaps stored;
        try again with the same message id) or `Refused` (too large, for example).
        """
        await self._batcher.submit(_Parcel(topic, delay, message))

    async def aclose(self) -> None:
        """Send what was submitted; then refuse more. The transport stays open."""
        await self._batcher.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def _send(self, parcels: Sequence[_Parcel]) -> Sequence[Exception | None]:
        groups: dict[tuple[str, float], list[int]] = {}
        for place, parcel in enumerate(parcels):
            groups.setdefault((parcel.topic, parcel.delay), []).append(place)
        if len(groups) == 1 and not self._beginning:
            ((topic, delay),) = groups
            receipts = await self._store(topic, delay, [parcel.message for parcel in parcels])
            return [receipt.error for receipt in receipts]
        fates: list[Exception | None] = [None] * len(parcels)
        self._beginning += len(groups)
        stored = await asyncio.gather(
            *(
                self._in_turn(topic, delay, [parcels[place].message for place in places])
                for (topic, delay), places in groups.items()
            )
        )
        for places, receipts in zip(groups.values(), stored, strict=True):
            for place, receipt in zip(places, receipts, strict=True):
                fates[place] = receipt.error
        return fates

    async def _in_turn(
        self, topic: str, delay: float, messages: Sequence[Message]
    ) -> Sequence[Receipt]:
        self._beginning -= 1
        return await self._store(topic, delay, messages)

    async def _store(
        self, topic: str, delay: float, messages: Sequence[Message]
    ) -> Sequence[Receipt]:
        began = self._clock.now()
        try:
            receipts = await self._transport.publish(topic, messages, delay=delay)
        except SeawallError as error:
            # One topic's failure is not that of the other topics in this batch.
            self._observer(PublishFailed(topic, len(messages), str(error)))
            return [Receipt(message.id, error) for message in messages]
        failed = [receipt.error for receipt in receipts if receipt.error is not None]
        if failed:
            self._observer(PublishFailed(topic, len(failed), str(failed[0])))
        if len(failed) < len(messages):
            seconds = self._clock.now() - began
            self._observer(Published(topic, len(messages) - len(failed), seconds))
        return receipts
