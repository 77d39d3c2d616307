"""A user's function as the handler of a subscription.

What the function wants is read from its annotations once: the first parameter is the event (a
pydantic model, or anything pydantic can validate), further ones are recognised by type:
`Transaction`, `Delivery`. With a transaction the inbox row, the effects and what is published
commit together, so a redelivery is harmless.
"""

import inspect
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, get_type_hints

from pydantic import TypeAdapter, ValidationError
from pydantic_core import from_json
from sqlalchemy.ext.asyncio import AsyncSession

from seawall.clock import SYSTEM
from seawall.errors import Misconfigured
from seawall.messaging import inbox, outbox
from seawall.messaging.base import Delivery, Message, Subscription
from seawall.messaging.consumer import ConsumerConfig
from seawall.messaging.foreign import understood
from seawall.messaging.outcomes import Reject, Retry, Undecodable
from seawall.messaging.policy import RetryPolicy
from seawall.resilience.deadline import Deadline
from seawall.service import context, publishing
from seawall.service.database import Database
from seawall.telemetry import tracing
from seawall.wire.trace import TraceContext

Function = Callable[..., Awaitable[object]]
Publish = Callable[[str, Message], Awaitable[None]]

# An event that a handler must not miss although its publisher wrote a slightly different one:
# pydantic's lax mode (numbers in strings, for example) is what HTTP bodies get, too.
_MAX_REASON = 4_000  # characters of an error that are kept with a dead letter


@dataclass(frozen=True, kw_only=True, slots=True)
class Declared:
    """A handler as it was declared on the service."""

    function: Function
    subscription: Subscription
    config: ConsumerConfig = field(default_factory=ConsumerConfig)
    retry: RetryPolicy = field(default_factory=RetryPolicy)


@dataclass(frozen=True, slots=True)
class _Wants:
    """The names of a function's parameters, by what is passed for them."""

    event: TypeAdapter[Any] | None
    tx: str | None
    delivery: str | None


def check_coroutine(function: Function) -> str:
    """The function's name; raises `Misconfigured` if it is no coroutine function."""
    name = getattr(function, "__qualname__", repr(function))
    if not inspect.iscoroutinefunction(function) and not inspect.iscoroutinefunction(
        getattr(function, "__call__", None)  # noqa: B004 - an object with an async __call__
    ):
        raise Misconfigured(f"{name} is no coroutine function", fix=f"async def {name}(...)")
    return str(name)


def wants(function: Function) -> _Wants:
    """Read a handler's parameters. Raises `Misconfigured` for one that nothing fits."""
    name = check_coroutine(function)
    parameters = list(inspect.signature(function).parameters.values())
    try:
        hints = get_type_hints(function, include_extras=True)
    except NameError as exc:
        raise Misconfigured(f"{name}: {exc}", fix="import the names its annotations use") from exc
    event: TypeAdapter[Any] | None = None
    special: dict[type, str] = {}
    for place, parameter in enumerate(parameters):
        hint = hints.get(parameter.name, Any)
        kind = next((k for k in (AsyncSession, Delivery) if hint is k), None)
        if kind is not None:
            special[kind] = parameter.name
        elif place == 0:
            event = TypeAdapter(hint)
        elif parameter.default is inspect.Parameter.empty:
            raise Misconfigured(
                f"{name} wants {parameter.name}, and nothing fits",
                fix="the event first, then tx: Transaction and message: Delivery as needed",
            )
    return _Wants(event, special.get(AsyncSession), special.get(Delivery))


class MessageHandler:
    """Handles the deliveries of one subscription; called by a `Consumer`."""

    def __init__(
        self, source: str, declared: Declared, database: Database | None, publish: Publish
    ) -> None:
        self._source = source
        self._function = declared.function
        self._group = declared.subscription.group
        self._wants = wants(declared.function)
        self._database = database
        self._publish = publish
        if self._wants.tx and database is None:
            raise Misconfigured(
                f"{declared.function.__qualname__} wants a transaction",
                fix=f"database = {source}.database()",
            )

    async def __call__(self, delivery: Delivery) -> object:
        delivery = understood(delivery)
        message = delivery.message
        parent = TraceContext.parse(
            message.headers.get("ce-traceparent"), message.headers.get("ce-tracestate")
        )
        topic = delivery.subscription.topic
        attributes: dict[str, str | int] = {
            "messaging.system": "seawall",
            "messaging.destination.name": topic,
            "messaging.consumer.group.name": self._group,
            "messaging.message.id": message.id,
            "seawall.attempt": delivery.attempt,
        }
        token = context.swap(context.Context(message.id, _deadline(message)))
        try:
            with tracing.span(
                f"process {topic}", tracing.CONSUMER, attributes, parent=parent, linked=parent
            ):
                return await self._handle(delivery)
        finally:
            context.restore(token)

    async def _handle(self, delivery: Delivery) -> object:
        reply_to = delivery.message.headers.get("ce-replyto")
        try:
            arguments = self._arguments(delivery)
        except Undecodable as unreadable:
            if reply_to:  # whoever asked is not to wait in vain
                await self._publish(reply_to, self._rejected(delivery, reply_to, unreadable))
            raise
        # A handler that wants no transaction may take long (it calls somebody): none is held open
        # around it. It is called at least once, and so is what it answers.
        if self._database is None or not self._wants.tx:
            return await self._without_transaction(delivery, arguments, reply_to)
        try:
            async with self._database.shared_transaction() as tx:
                if await inbox.first_time(tx, self._group, delivery.message.id):
                    arguments[1][self._wants.tx] = tx
                    result = await self._outcome(arguments)
                    if reply_to:
                        await outbox.write(tx, reply_to, self._ok(delivery, reply_to, result))
        except Reject as rejected:
            if not reply_to:
                raise
            async with self._database.shared_transaction() as tx:
                if await inbox.first_time(tx, self._group, delivery.message.id):
                    no = self._rejected(delivery, reply_to, rejected)
                    await outbox.write(tx, reply_to, no)
        return None

    async def _without_transaction(
        self,
        delivery: Delivery,
        arguments: tuple[tuple[Any, ...], dict[str, Any]],
        reply_to: str | None,
    ) -> object:
        if not reply_to:
            return await self._outcome(arguments)
        try:
            result = await self._outcome(arguments)
        except Reject as rejected:
            await self._publish(reply_to, self._rejected(delivery, reply_to, rejected))
        else:
            await self._publish(reply_to, self._ok(delivery, reply_to, result))
        return None

    async def _outcome(self, arguments: tuple[tuple[Any, ...], dict[str, Any]]) -> object:
        """Call the function; `Retry` and `Reject` are raised, so that a transaction rolls back."""
        result = await self._function(*arguments[0], **arguments[1])
        if isinstance(result, Retry | Reject):
            raise result
        return result

    def _arguments(self, delivery: Delivery) -> tuple[tuple[Any, ...], dict[str, Any]]:
        named: dict[str, Any] = {}
        if self._wants.delivery:
            named[self._wants.delivery] = delivery
        if self._wants.event is None:
            return (), named
        return (decoded(self._wants.event, delivery.message.body),), named

    def _ok(self, delivery: Delivery, reply_to: str, result: object) -> Message:
        return publishing.answer(self._source, reply_to, delivery.message, result, outcome="ok")

    def _rejected(self, delivery: Delivery, reply_to: str, rejected: Reject) -> Message:
        return publishing.answer(
            self._source,
            reply_to,
            delivery.message,
            {"reason": rejected.reason},
            outcome="rejected",
        )


def _deadline(message: Message) -> Deadline | None:
    """When nobody wants a message any more, whoever is called for it need not answer either."""
    expires = message.headers.get("ce-expires")
    if expires is None:
        return None
    return Deadline.after(float(expires) - SYSTEM.wall(), SYSTEM.now())


def decoded(event: TypeAdapter[Any], body: bytes) -> Any:
    """The event that `body` says; raises `Undecodable`."""
    try:
        # Parsed alone first, so that NaN is refused whatever the type of the event.
        from_json(body, allow_inf_nan=False)
        return event.validate_json(body)
    except ValidationError as exc:
        raise Undecodable(_without_input(exc)) from None
    except ValueError as exc:
        raise Undecodable(f"the body is not JSON: {exc}"[:_MAX_REASON]) from None


def _without_input(exc: ValidationError) -> str:
    """What does not fit, without repeating what was sent: it may be a secret."""
    faults = [
        f"{'.'.join(str(part) for part in error['loc']) or 'body'}: {error['msg']}"
        for error in exc.errors(include_input=False, include_url=False)[:10]
    ]
    return "; ".join(faults)[:_MAX_REASON]
