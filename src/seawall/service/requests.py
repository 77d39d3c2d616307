"""A request by message, and its answer: `await orders.request("price", ask, reply=Price)`.

Each process has one topic for the answers to its own requests, named after its instance, so that
a process started anew in its place goes on with it. An answer nobody waits for any more is dropped
and counted.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError
from pydantic_core import from_json

from seawall.clock import SYSTEM, Clock
from seawall.errors import DeadlineExceeded, Full, OutcomeUnknown, Refused
from seawall.facts import Observer
from seawall.messaging.base import Delivery, Message, Subscription, Transport
from seawall.messaging.consumer import Consumer, ConsumerConfig
from seawall.service import context, publishing

# Requests that wait for an answer: as many as this process serves at once, and some.
WAITING = 10_000

GROUP = "replies"

R = TypeVar("R")

Publish = Callable[[str, Message], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class ReplyDropped:
    """An answer came that nobody waits for: it is late, or its process was started anew."""

    topic: str
    correlation_id: str


class Requests:
    """The requests of one process that wait for answers; listens from the first one on."""

    def __init__(
        self,
        source: str,
        instance_id: str,
        transport: Transport,
        publish: Publish,
        *,
        observer: Observer,
        clock: Clock = SYSTEM,
    ) -> None:
        self._source = source
        self._transport = transport
        self._publish = publish
        self._observer = observer
        self._clock = clock
        self._answers = Subscription(f"{source}.replies.{instance_id}", GROUP)
        self._waiting: dict[str, asyncio.Future[Message]] = {}
        self._consumer: Consumer | None = None
        self._starting = asyncio.Lock()

    async def ask(
        self, topic: str, body: object, reply: type[R], within: float, key: str | None
    ) -> R:
        """Send `body` to `topic`, and return the answer. See `Service.request`."""
        within = self._limit(topic, within)
        if len(self._waiting) >= WAITING:
            raise Full(f"{len(self._waiting)} requests wait for their answers already")
        message = publishing.message(
            *(self._source, topic, body),
            key=key,
            reply_to=self._answers.topic,
            headers={"ce-expires": f"{self._clock.wall() + within:.3f}"},
        )
        answer: asyncio.Future[Message] = asyncio.get_running_loop().create_future()
        self._waiting[message.id] = answer
        try:
            async with self._clock.timeout(within):
                await self._listen()
                await self._publish(topic, message)
                return _read(topic, await answer, reply)
        except TimeoutError as exc:
            raise DeadlineExceeded(f"{topic}: no answer within {within:g} s") from exc
        finally:
            del self._waiting[message.id]

    def _limit(self, topic: str, within: float) -> float:
        """`within`, or what is left of the time of whoever asked us."""
        remaining = context.current().remaining(self._clock)
        if remaining is None:
            return within
        if not remaining:
            raise DeadlineExceeded(f"{topic}: no time was left to ask")
        return min(within, remaining)

    async def _listen(self) -> None:
        async with self._starting:
            if self._consumer is None:
                await self._transport.provision([self._answers])
                consumer = Consumer(
                    *(self._transport, self._answers, self._answered),
                    config=ConsumerConfig(concurrency=1, prefetch=64),
                    observer=self._observer,
                    clock=self._clock,
                )
                await consumer.start()
                self._consumer = consumer

    async def _answered(self, delivery: Delivery) -> None:
        correlation = delivery.message.headers.get("ce-correlationid", "")
        waiting = self._waiting.get(correlation)
        if waiting is None or waiting.done():
            self._observer(ReplyDropped(self._answers.topic, correlation))
        else:
            waiting.set_result(delivery.message)

    async def aclose(self) -> None:
        if self._consumer is not None:
            await self._consumer.drain(0.0)

    def __repr__(self) -> str:
        return f"<Requests {self._answers.topic} {len(self._waiting)} waiting>"


def _read(topic: str, answer: Message, reply: type[R]) -> R:
    if answer.headers.get("ce-outcome") == "rejected":
        raise Refused(f"{topic} answered: {_reason(answer.body)}")
    try:
        adapter: TypeAdapter[Any] = TypeAdapter(reply)
        value: R = adapter.validate_json(answer.body)
    except ValidationError as exc:
        raise OutcomeUnknown(
            f"{topic} did it, and its answer is no {getattr(reply, '__name__', reply)}"
        ) from exc
    return value


def _reason(body: bytes) -> str:
    try:
        return str(from_json(body)["reason"])
    except (ValueError, KeyError, TypeError):
        return "no"
