"""A user's function as the handler of batches.

    @orders.on(OrderPlaced, batch=100)
    async def placed(events: list[OrderPlaced], tx: Transaction) -> None: ...

One failure does not fail the batch. The function may return one outcome a message (None, `Retry`,
`Reject` or another exception). If it raises, each message is handled alone, at once, so that only
the one it cannot do fails; `Retry` and `Reject` are for the whole batch.
"""

import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, get_args, get_origin, get_type_hints

from pydantic import TypeAdapter
from sqlalchemy.ext.asyncio import AsyncSession

from seawall.errors import Misconfigured
from seawall.messaging import inbox
from seawall.messaging.base import Delivery
from seawall.messaging.batches import Outcome, outcomes_of
from seawall.messaging.foreign import understood
from seawall.messaging.outcomes import Reject, Retry
from seawall.service import context
from seawall.service.database import Database
from seawall.service.handlers import Declared, check_coroutine, decoded, wants
from seawall.telemetry import tracing


@dataclass(frozen=True, slots=True)
class _Wants:
    """The names of a function's parameters, by what is passed for them."""

    event: TypeAdapter[Any]
    tx: str | None
    deliveries: str | None


@dataclass(frozen=True, slots=True)
class _One:
    """A message that could be read."""

    place: int
    delivery: Delivery
    event: Any


class _Partly(Exception):
    """Some of a batch failed, and their transaction is that of all."""


def event_of(declared: Declared) -> TypeAdapter[Any] | None:
    """What a message is read as, for a handler of batches or of single messages."""
    many = declared.config.batch > 1
    return _wants(declared).event if many else wants(declared.function).event


def _wants(declared: Declared) -> _Wants:
    function = declared.function
    name = check_coroutine(function)
    parameters = list(inspect.signature(function).parameters)
    hints = get_type_hints(function, include_extras=True)
    first = hints.get(parameters[0]) if parameters else None
    if get_origin(first) is not list or first == list[Delivery]:
        raise Misconfigured(
            f"{name} is given batches, and does not say of what",
            fix=f"async def {name}(events: list[...])",
        )
    named: dict[Any, str] = {}
    for parameter in parameters[1:]:
        hint = hints.get(parameter)
        if hint is not AsyncSession and hint != list[Delivery]:
            raise Misconfigured(
                f"{name} wants {parameter}, and nothing fits",
                fix="the events first, then tx: Transaction and messages: list[Delivery]",
            )
        named["tx" if hint is AsyncSession else "deliveries"] = parameter
    adapter: TypeAdapter[Any] = TypeAdapter(get_args(first)[0])
    return _Wants(adapter, named.get("tx"), named.get("deliveries"))


class BatchHandler:
    """Handles the batches of one subscription; called by a `Consumer`."""

    def __init__(self, source: str, declared: Declared, database: Database | None) -> None:
        self._function = declared.function
        self._topic = declared.subscription.topic
        self._group = declared.subscription.group
        self._wants = _wants(declared)
        self._database = database
        if self._wants.tx and database is None:
            raise Misconfigured(
                f"{declared.function.__qualname__} wants a transaction",
                fix=f"database = {source}.database()",
            )

    async def __call__(self, batch: Sequence[Delivery]) -> Sequence[Outcome]:
        outcomes: list[Outcome] = [None] * len(batch)
        readable: list[_One] = []
        for place, delivery in enumerate(batch):
            try:
                known = understood(delivery)
                readable.append(_One(place, known, self._read(known)))
            except Reject as unreadable:
                outcomes[place] = unreadable
        if readable:
            attributes: dict[str, str | int] = {
                "messaging.system": "seawall",
                "messaging.destination.name": self._topic,
                "messaging.consumer.group.name": self._group,
                "messaging.batch.message_count": len(readable),
            }
            token = context.swap(context.Context(request_id=readable[0].delivery.message.id))
            try:
                with tracing.span(f"process {self._topic}", tracing.CONSUMER, attributes):
                    for one, outcome in zip(readable, await self._together(readable), strict=True):
                        outcomes[one.place] = outcome
            finally:
                context.restore(token)
        return outcomes

    def _read(self, delivery: Delivery) -> Any:
        if "ce-replyto" in delivery.message.headers:
            raise Reject("a handler of batches answers nobody")
        return decoded(self._wants.event, delivery.message.body)

    async def _together(self, batch: Sequence[_One]) -> Sequence[Outcome]:
        try:
            return await self._call(batch)
        except (Retry, Reject) as said:
            return [said] * len(batch)
        except Exception as error:  # noqa: BLE001 - of any kind; each message is tried alone
            if len(batch) == 1:
                return [error]
            return [(await self._together([one]))[0] for one in batch]

    async def _call(self, batch: Sequence[_One]) -> Sequence[Outcome]:
        if self._database is None or not self._wants.tx:
            return await self._outcomes(batch, {})
        async with self._database.shared_transaction() as tx:
            new = [
                one
                for one in batch
                if await inbox.first_time(tx, self._group, one.delivery.message.id)
            ]
            outcomes = await self._outcomes(new, {self._wants.tx: tx}) if new else ()
            failed = next((outcome for outcome in outcomes if outcome is not None), None)
            if failed is not None:
                # The transaction is one for all: nothing of it may stay.
                raise failed if len(batch) == 1 else _Partly
        return [None] * len(batch)

    async def _outcomes(self, batch: Sequence[_One], named: dict[str, Any]) -> Sequence[Outcome]:
        deliveries = [one.delivery for one in batch]
        if self._wants.deliveries:
            named[self._wants.deliveries] = deliveries
        result = await self._function([one.event for one in batch], **named)
        if isinstance(result, Retry | Reject):
            raise result
        return outcomes_of(result, deliveries)
