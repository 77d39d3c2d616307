"""Delays on JetStream: what is not due is handed back to the server until it is.

NATS 2.9 can hold back a message that was delivered before (a negative acknowledgement with a
delay), but not one that was published. So delayed messages lie in the topic's work stream; one
consumer, shared by all processes, delivers each of them once to be handed back and once when it
is due, and whoever gets it then moves it to where it belongs. Nothing is held in a process: it
may die at any moment, and the server asks another one.
"""

import math
from collections.abc import Callable
from contextlib import suppress

import msgspec

from seawall.clock import Clock
from seawall.concurrency.tasks import Tasks
from seawall.errors import SeawallError
from seawall.messaging.transports.nats_headers import block
from seawall.messaging.transports.nats_layout import DUE, ID, TARGET, Topic
from seawall.messaging.transports.nats_link import (
    NO_RESPONDERS,
    NatsLink,
    checked,
    stored,
)
from seawall.messaging.transports.nats_protocol import Msg, publish
from seawall.messaging.transports.nats_wire import Post, Wire

CONSUMER = "later"

# What one process has in hand at a time: enough for some thousand moves a second.
BATCH = 64

# A message whose process died while it was moving it is given to another after this.
MOVED_WITHIN = 5.0  # seconds

PULL_EVERY = 20.0  # seconds; the server forgets a request that is older

MILLISECONDS, NANOSECONDS = 1_000, 1_000_000_000


class Later:
    """Moves a topic's delayed messages when they are due, for as long as its connection lasts."""

    def __init__(
        self, topic: Topic, link: NatsLink, *, clock: Clock, moved: Callable[[str], str]
    ) -> None:
        self._topic = topic
        self._link = link
        self._clock = clock
        self._moved = moved  # from a stored id to the id of the copy that is moved
        self._wire: Wire | None = None
        self._inbox = ""
        self._tasks = Tasks()

    async def ensure(self) -> None:
        """Be at work, on the connection of now."""
        wire = await self._link.ready()
        if wire is self._wire:
            return
        await self._provision()
        self._inbox = wire.new_inbox()
        wire.subscribe(f"{self._inbox}.*", self._arrived)
        self._wire = wire
        for _ in range(BATCH):
            self._pull(wire)

    async def _provision(self) -> None:
        config = {
            "durable_name": CONSUMER,
            "ack_policy": "explicit",
            "deliver_policy": "all",
            "ack_wait": round(MOVED_WITHIN * NANOSECONDS),
            "filter_subject": self._topic.all_later,
            "max_deliver": -1,
            "max_ack_pending": -1,
        }
        (answer,) = await self._link.api(
            (
                f"CONSUMER.DURABLE.CREATE.{self._topic.work}.{CONSUMER}",
                {"stream_name": self._topic.work, "config": config},
            )
        )
        checked(answer)

    def _pull(self, wire: Wire) -> None:
        wanted = msgspec.json.encode({"batch": 1, "expires": round(PULL_EVERY * NANOSECONDS)})
        subject = self._link.api_subject(f"CONSUMER.MSG.NEXT.{self._topic.work}.{CONSUMER}")
        wire.send(publish(subject, wanted, f"{self._inbox}.0"))

    def _arrived(self, msg: Msg) -> None:
        wire = self._wire
        if wire is None or not wire.usable:
            return
        with suppress(SeawallError):
            if not msg.reply:
                if msg.status == NO_RESPONDERS:
                    self._wire = None  # the consumer is gone; made again by the next fetch
                else:
                    self._pull(wire)
                return
            due = msg.headers.get(DUE, "")  # anybody can publish there
            wait = (int(due) if due.isdecimal() else 0) - self._clock.wall() * MILLISECONDS
            if wait > 0:
                delay = math.ceil(wait * NANOSECONDS / MILLISECONDS)
                wire.send(publish(msg.reply, b'-NAK {"delay": %d}' % delay))
                self._pull(wire)
            else:
                self._tasks.start(self._move(wire, msg), name="nats-due")

    async def _move(self, wire: Wire, msg: Msg) -> None:
        headers = dict(msg.headers)
        headers.pop(DUE, None)
        target = headers.pop(TARGET, self._topic.subject)
        headers[ID] = self._moved(headers.get(ID, ""))
        # What fails is given to somebody again after `MOVED_WITHIN`.
        with suppress(SeawallError):
            (reply,) = await wire.ask([Post(target, msg.data, block(headers))])
            if stored(reply) is None:
                wire.send(publish(msg.reply, b"+ACK"))
            self._pull(wire)

    async def aclose(self) -> None:
        self._wire = None
        await self._tasks.cancel()
