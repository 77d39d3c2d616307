"""The transport's protocol: what every broker promises here, and its vocabulary.

Everything above (batching, handlers, retries, outbox, sagas) is written once against this.
The suite in `tests/contract/test_transport.py` is this file as code; memory passes it too.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Protocol

# What is made for every message says itself how: a frozen dataclass is given an `__init__` that
# looks `object.__setattr__` up for each field, which takes nearly twice as long.


@dataclass(frozen=True, slots=True, init=False)
class Message:
    """A body and what is said about it. `headers` carry CloudEvents attributes and trace context
    (see `seawall.wire.envelope`); `id` survives retries, dead letters and redrive, since
    receivers recognise duplicates by it."""

    id: str
    body: bytes
    headers: Mapping[str, str]
    key: str | None  # messages of one key are kept in order where `caps.ordered`

    def __init__(
        self,
        id: str,  # noqa: A002 - its name
        body: bytes,
        headers: Mapping[str, str] | None = None,
        key: str | None = None,
    ) -> None:
        set_id, set_body, set_headers, set_key = _MESSAGE
        set_id(self, id)
        set_body(self, body)
        set_headers(self, {} if headers is None else headers)
        set_key(self, key)


_MESSAGE = tuple(vars(Message)[name].__set__ for name in Message.__slots__)


@dataclass(frozen=True, slots=True)
class Subscription:
    """A consumer group's interest in a topic. Each group gets every message once; the members
    of a group share them."""

    topic: str
    group: str


@dataclass(frozen=True, slots=True, init=False)
class Delivery:
    """A message, ours alone until `lease` runs out.

    `attempt` counts deliveries to this group, from 1; a crash counts, `release` does not.
    `receipt` is the transport's own and means nothing elsewhere. `dropped` says that the delivery
    before this one ended with its lease: its process may have died, perhaps of this message. It
    stays true over a `release`.
    """

    message: Message
    subscription: Subscription
    attempt: int
    receipt: Any = field(repr=False)
    damage: str  # why the stored form cannot be read; `message.body` then is its raw bytes
    dropped: bool
    # When this group first failed over it and asked for a retry: wall clock; 0 if nobody knows.
    failed_at: float

    def __init__(
        self,
        message: Message,
        subscription: Subscription,
        attempt: int,
        receipt: Any,
        damage: str = "",
        dropped: bool = False,
        failed_at: float = 0.0,
    ) -> None:
        set_message, set_topic, set_attempt, set_receipt, set_damage, set_dropped, set_at = (
            _DELIVERY
        )
        set_message(self, message)
        set_topic(self, subscription)
        set_attempt(self, attempt)
        set_receipt(self, receipt)
        set_damage(self, damage)
        set_dropped(self, dropped)
        set_at(self, failed_at)


_DELIVERY = tuple(vars(Delivery)[name].__set__ for name in Delivery.__slots__)


class Durability(StrEnum):
    """What is certain when `publish` returns."""

    NONE = "none"  # in this process's memory
    OS = "os"  # written; survives kill -9, not a power cut
    FSYNC = "fsync"  # on disk


@dataclass(frozen=True, slots=True)
class Caps:
    """What this transport can do. The rest is emulated above or refused at start.

    The fields with defaults say where a broker cannot do as the others do; the contract suite
    reads them, so what is not said here holds for every broker.
    """

    durability: Durability
    ordered: bool  # keeps the order of one key
    native_delay: bool  # holds delayed messages itself
    replay: bool  # a new group may start from retained messages
    max_body: int  # bytes
    resolution: float = 0.0  # seconds: leases and delays are rounded up to a multiple of it
    fifo: bool = True  # one consumer gets a topic in its order, as long as nothing fails
    repeats: bool = False  # hands out a message twice now and then, though its lease holds
    shared: bool = True  # any member may get any message of its group; else each owns a part
    reads_ahead: bool = False  # what was just stored may escape `lag`, and a fetch without wait
    counts_delayed: bool = True  # `lag` knows how many are delayed, and how old they are
    counts_retries: bool = True  # `lag` knows them from what is in flight
    tells_age: bool = True  # else `Lag.oldest_age` is nan
    tells_dropped: bool = True  # else `Delivery.dropped` is true of what was retried, too
    keeps_failed_at: bool = True  # else a dead letter knows only its last failure
    peeks: bool = True  # else `peek` is refused: to look at a message is to receive it there
    lists: bool = True  # else `subscriptions` is refused: the broker does not tell its groups
    # Messages that go best into one `publish`. Where storing them takes about as long as making the
    # next ones, it is half of what a busy process has under way: one half is made meanwhile.
    batch: int = 256
    # Calls of `publish` that may be under way together: their messages are stored in the order in
    # which they were begun.
    publishes: int = 1


@dataclass(frozen=True, slots=True)
class Receipt:
    """The fate of one published message: stored, or not and why."""

    message_id: str
    error: Exception | None = None


@dataclass(frozen=True, slots=True)
class Lag:
    """How far a group is behind."""

    ready: int
    in_flight: int
    delayed: int
    dead: int
    # Seconds since the oldest message not yet settled was published; 0 if there is none, nan
    # where the broker does not tell.
    oldest_age: float
    # How many were ever published to the topic, and how many of them this group ever took. Only
    # their growth means something; None where the broker does not count.
    published: int | None = None
    taken: int | None = None


@dataclass(frozen=True, slots=True)
class Waiting:
    """A message that is ready for a group, as somebody sees it who does not take it."""

    message: Message
    attempts: int  # deliveries so far
    published_at: float  # wall clock, seconds since 1970


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A message given up by a group, with why."""

    letter_id: str  # its place among the dead letters
    message: Message
    subscription: Subscription
    reason: str  # poison, undecodable, rejected, exhausted, expired
    error: str  # the last failure, as text, with its stack; at most 4,000 characters
    attempts: int
    died_at: float  # of the last failure: wall clock, seconds since 1970
    failed_at: float = 0.0  # of the first one; 0 where nobody knows
    edited_at: float = 0.0  # when an operator last changed the message; 0 for never


def first_failure(delivery: Delivery, now: float) -> float:
    """When this group first failed over a message that is given up `now`. After a death of its
    process that nobody saw fail, nobody knows: 0."""
    return delivery.failed_at or (0.0 if delivery.dropped else now)


class Transport(Protocol):
    """A broker.

    At least once: a delivery that is not settled within its lease comes back, so handlers are
    idempotent. Settling after the lease was lost does nothing and is counted, not raised. What
    takes two steps is copied first and acknowledged second: a crash in between makes a
    duplicate, never a loss. Every method raises `Unavailable` when the broker cannot be reached
    (nothing happened) or `OutcomeUnknown` (it may have happened; with the same message id it
    is safe to try again).
    """

    @property
    def caps(self) -> Caps: ...

    async def open(self) -> None: ...

    async def aclose(self) -> None:
        """Give back connections. Calling it twice is fine."""

    async def provision(self, subscriptions: Sequence[Subscription]) -> None:
        """Make sure these groups exist, so that they miss nothing from here on. Idempotent.

        A new group starts with the oldest message the topic still holds.
        """

    async def publish(
        self, topic: str, messages: Sequence[Message], *, delay: float = 0.0
    ) -> Sequence[Receipt]:
        """Store messages; return once they are as durable as `caps.durability` says.

        Each message has its own receipt. Messages of one key that one process publishes in
        order stay in order.
        """

    async def fetch(
        self, subscription: Subscription, limit: int, *, wait: float, lease: float
    ) -> Sequence[Delivery]:
        """Take up to `limit` messages for `lease` seconds; wait up to `wait` seconds for one.

        Includes messages whose retry is due and those whose consumer let its lease run out: the
        lease that counts is the group's, so all its members fetch with the same one. A fetch may
        be cancelled: what was already taken for it goes to the next fetch of this subscription,
        and `aclose` (or `quiesce`) releases it if there is none.
        """

    async def quiesce(self, subscription: Subscription) -> None:
        """Take nothing until the next fetch, and release what was taken and not fetched.

        A fetch may leave a request under way, and what that brings counts as delivered, though
        nobody handles it. Not while a fetch runs.
        """

    async def ack(self, deliveries: Sequence[Delivery]) -> None:
        """They are done; the group never sees them again."""

    async def release(self, deliveries: Sequence[Delivery]) -> None:
        """They were not processed: give them to somebody at once; no attempt is counted."""

    async def retry(self, delivery: Delivery, *, delay: float, error: str) -> None:
        """It failed: deliver it to this group (and no other) again after `delay` seconds."""

    async def dead(self, delivery: Delivery, *, reason: str, error: str) -> None:
        """Give it up: keep it among the group's dead letters."""

    async def extend(self, deliveries: Sequence[Delivery], *, lease: float) -> Sequence[Delivery]:
        """Renew leases to `lease` seconds from now; return those that were already lost."""

    async def subscriptions(self) -> Sequence[Subscription]:
        """The groups this broker knows, of all topics. Refused unless `caps.lists`."""

    async def lag(self, subscription: Subscription) -> Lag: ...

    async def peek(self, subscription: Subscription, limit: int) -> Sequence[Waiting]:
        """The messages that are ready for a group, those it would get next first. Changes nothing:
        no attempt, no lease, no order. Refused unless `caps.peeks`."""

    async def dead_letters(
        self, subscription: Subscription, *, after: str | None = None, limit: int = 100
    ) -> Sequence[DeadLetter]:
        """Dead letters, oldest first, from behind the letter id `after`. Changes nothing."""

    async def redrive(self, subscription: Subscription, letter_ids: Sequence[str]) -> int:
        """Send dead letters to this group again, as attempt 1; return how many there were."""

    async def purge(self, subscription: Subscription, letter_ids: Sequence[str]) -> int:
        """Delete dead letters for good; return how many there were."""

    async def bury(self, letter: DeadLetter) -> None:
        """Store a dead letter that no delivery became: an edited copy of one. It gets a place,
        and thereby a letter id, of its own."""
