"""What happens to messages, as facts: metrics, logs and dashboard come from these.

Facts of the fast path (`Published`, `Fetched`, `Acked`) are one a batch; those of failures are
one a message.
"""

from dataclasses import dataclass

from seawall.messaging.base import Subscription


@dataclass(frozen=True, slots=True)
class Published:
    """A batch was stored."""

    topic: str
    messages: int
    seconds: float


@dataclass(frozen=True, slots=True)
class PublishFailed:
    """Messages of one batch were not stored, or nobody knows."""

    topic: str
    messages: int
    error: str


@dataclass(frozen=True, slots=True)
class Unread:
    """A topic has no group at all, and its oldest messages were dropped at the bound."""

    topic: str
    dropped: int


@dataclass(frozen=True, slots=True)
class Fetched:
    """Deliveries arrived at a consumer."""

    subscription: Subscription
    messages: int


@dataclass(frozen=True, slots=True)
class Acked:
    """Messages were handled and settled; `seconds` is how long each one's handler ran."""

    subscription: Subscription
    seconds: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Retried:
    """A handler failed; the message comes again after `delay` seconds."""

    subscription: Subscription
    message_id: str
    attempt: int
    delay: float
    error: str


@dataclass(frozen=True, slots=True)
class Died:
    """A message was given up and is among the dead letters."""

    subscription: Subscription
    message_id: str
    attempt: int
    reason: str
    error: str


@dataclass(frozen=True, slots=True)
class Released:
    """Messages were given back unhandled: their consumer stops, or pauses."""

    subscription: Subscription
    messages: int


@dataclass(frozen=True, slots=True)
class LeaseLost:
    """A delivery was no longer ours when we wanted to settle or renew it; nothing was done."""

    subscription: Subscription
    message_id: str
    during: str  # ack, release, retry, dead, extend


@dataclass(frozen=True, slots=True)
class BrokerAway:
    """The broker could not be reached; the consumer keeps trying."""

    subscription: Subscription
    error: str


@dataclass(frozen=True, slots=True)
class BrokerBack:
    """The broker answers again."""

    subscription: Subscription
    away: float  # seconds


@dataclass(frozen=True, slots=True)
class ConsumerStalled:
    """Messages wait, and none was delivered for `seconds`; the consumer connects anew."""

    subscription: Subscription
    ready: int
    seconds: float


@dataclass(frozen=True, slots=True)
class ConsumerRecovered:
    """Messages are delivered again, or none waits any more."""

    subscription: Subscription


@dataclass(frozen=True, slots=True)
class ConsumptionPaused:
    """Too many handlers failed: nothing is fetched for a while."""

    subscription: Subscription
    reason: str
    seconds: float


@dataclass(frozen=True, slots=True)
class ConsumptionResumed:
    """A message taken on trial was handled: all go on."""

    subscription: Subscription


@dataclass(frozen=True, slots=True)
class KeyParked:
    """A key's message was given up, and what follows it goes to the dead letters, too."""

    subscription: Subscription
    key: str
    message_id: str
    followers: int  # that were here already
