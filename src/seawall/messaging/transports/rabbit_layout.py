"""How messages lie in RabbitMQ: names, bindings, headers, and the way of a delay. Pure.

    seawall/T            exchange of a topic: a copy into the queue of each group
    seawall/T/unread     exchange and queue: what is published while there is no group
    seawall/T/group/G    quorum queue of a group
    seawall/T/dead/G     quorum queue of its dead letters
    seawall/delay/N      exchange and queue: holds what passes through for 2**N units
    seawall/due          exchange: what was delayed, on its way to a topic or a group

T and G are names in which everything but letters, digits, `-` and `_` is `:XX`.

A delay is written in binary, and its message goes down the levels, through the queue of each
level whose digit is 1. So there is a fixed number of queues, each with one time to live for all
that is in it: nothing waits behind something that waits longer.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pamqp import commands as spec

from seawall.messaging.base import DeadLetter, Message, Subscription
from seawall.messaging.transports.rabbit_frames import Content, short

UNIT = 0.05  # seconds; delays are rounded up to it
LEVELS = 26  # the longest delay is 2**26 units: 38 days
LONGEST = UNIT * (2**LEVELS - 1)

ID = "seawall-id"  # where the id is no AMQP message id: they are 255 bytes at most
KEY = "seawall-key"
AT = "seawall-at"  # when it was first published: milliseconds since 1970
ATTEMPTS = "seawall-attempts"  # deliveries before this copy
DROPPED = "seawall-dropped"  # set if the delivery before this copy ended with its lease
LETTER = "seawall-letter"  # a dead letter's id
REASON = "seawall-reason"
ERROR = "seawall-error"
DIED = "seawall-died"  # milliseconds since 1970
FAILED = "seawall-failed"  # when the group first failed over it, likewise
EDITED = "seawall-edited"  # when an operator changed a letter, likewise

# The broker's own, of what was dead-lettered (delays are) or delivered before.
_BROKERS = ("x-death", "x-first-death-", "x-last-death-", "x-delivery-count", "x-acquired-count")
_OURS = "seawall-"
_ATTRIBUTE = "cloudEvents:"

MAX_HEADERS = 64 * 1024  # bytes; with ours they must fit into a frame, 128 KiB
_MAX_EXCHANGE = 127  # bytes
_MAX_NAME = 255  # bytes of an AMQP short string: names of queues, headers, message ids

DUE = "seawall/due"

_UNSAFE = re.compile(r"[^A-Za-z0-9_-]")


def token(name: str) -> str:
    return _UNSAFE.sub(lambda m: "".join(f":{byte:02X}" for byte in m[0].encode()), name)


@dataclass(frozen=True, slots=True)
class Topic:
    exchange: str
    unread: str
    due: str  # the last word of the routing key of what is delayed for the topic

    @staticmethod
    def of(topic: str) -> "Topic":
        name = token(topic)
        return Topic(f"seawall/{name}", f"seawall/{name}/unread", name)


@dataclass(frozen=True, slots=True)
class Group:
    topic: Topic
    queue: str
    dead: str
    due: str

    @staticmethod
    def of(subscription: Subscription) -> "Group":
        topic, group = token(subscription.topic), token(subscription.group)
        return Group(
            topic=Topic.of(subscription.topic),
            queue=f"seawall/{topic}/group/{group}",
            dead=f"seawall/{topic}/dead/{group}",
            due=f"{topic}/{group}",
        )


def too_long(topic: str, group: str = "") -> bool:
    """Whether the broker has no room for these names. Delays have the longest routing keys."""
    topic, group = token(topic), token(group)
    key = 2 * LEVELS + len(f"seawall/{topic}/group/{group}")
    return len(f"seawall/{topic}/unread") > _MAX_EXCHANGE or key > _MAX_NAME


# Delays


def level_name(level: int) -> str:
    return f"seawall/delay/{level}"


def level_patterns(level: int) -> tuple[str, str]:
    """Routing keys of what waits at this level, and of what passes it by."""
    above = "*." * (LEVELS - 1 - level)
    return f"{above}1.#", f"{above}0.#"


def after_level(level: int) -> str:
    """The exchange that comes after a level."""
    return level_name(level - 1) if level else DUE


def units_of(delay: float) -> int:
    return int(min(max(1, -(-delay // UNIT)), 2**LEVELS - 1))


def way_of(delay: float, due: str) -> tuple[int, str]:
    """The level to begin at, and the routing key of a delay that ends at `due`."""
    units = units_of(delay)
    return units.bit_length() - 1, ".".join(f"{units:0{LEVELS}b}") + f".{due}"


# Messages


class Packing(spec.Basic.Properties):
    """Properties that are written at once: pamqp looks at each field by name and each value by
    type, which costs more than the rest of a message. Header values are texts and integers."""

    def marshal(self) -> bytes:
        content_type, message_id = self.content_type, self.message_id
        table = b"".join([_field(*field) for field in (self.headers or {}).items()])
        return b"".join(
            (
                (_FLAGS | (_HAS_CONTENT_TYPE if content_type else 0)).to_bytes(2, "big"),
                short(content_type) if content_type else b"",
                len(table).to_bytes(4, "big"),
                table,
                _DURABLE,
                short(message_id or ""),
            )
        )


# Of AMQP 0-9-1, class "basic": headers, delivery mode and message id are there.
_FLAGS, _HAS_CONTENT_TYPE = 0x2000 | 0x1000 | 0x0080, 0x8000
_DURABLE = b"\x02"


def _field(name: str, value: Any) -> bytes:
    if isinstance(value, int):
        return b"%bl%b" % (short(name), value.to_bytes(8, "big", signed=True))
    data = value.encode()
    return b"%bS%b%b" % (short(name), len(data).to_bytes(4, "big"), data)


def properties_of(message: Message, **ours: str | int) -> spec.Basic.Properties:
    """What a message is published with. `ours` are header values."""
    headers: dict[str, Any] = {_there(k): value for k, value in message.headers.items()}
    if message.key is not None:
        headers[KEY] = message.key
    for name, value in ours.items():
        headers[_NAMES[name]] = value
    name = message.id
    if not name or len(name.encode()) > _MAX_NAME:
        headers[ID], name = name, "long"
    content_type = None
    if 0 < len(message.headers.get("content-type", "").encode()) <= _MAX_NAME:
        content_type = headers.pop("content-type")
    return Packing(content_type=content_type, delivery_mode=2, message_id=name, headers=headers)


def _there(name: str) -> str:
    """A header as the AMQP binding of CloudEvents spells it."""
    return f"{_ATTRIBUTE}{name[3:]}" if name.startswith("ce-") else name


def _here(name: str) -> str:
    return f"ce-{name[len(_ATTRIBUTE) :]}" if name.startswith(_ATTRIBUTE) else name


_NAMES = {
    "dropped": DROPPED,
    "at": AT,
    "attempts": ATTEMPTS,
    "letter": LETTER,
    "reason": REASON,
    "error": ERROR,
    "died": DIED,
    "failed": FAILED,
    "edited": EDITED,
}


def why_not(message: Message) -> str:
    """Why this message's headers cannot be sent; "" if they can."""
    size = 0
    for name, value in message.headers.items():
        if not name or len(_there(name).encode()) > _MAX_NAME or name.startswith(_OURS):
            return f"a header called {name[:40]!r}"
        size += len(name) + len(value.encode())
    return f"{size} bytes of headers; at most {MAX_HEADERS} are taken" if size > MAX_HEADERS else ""


def message_of(
    place: str,
    properties: spec.Basic.Properties | Content,
    headers: Mapping[str, Any],
    body: bytes,
) -> Message:
    """The message; one that another client published without an id is called `place`."""
    own = {
        _here(name): value if isinstance(value, str) else _text(value)
        for name, value in headers.items()
        if not name.startswith(_OURS) and not name.startswith(_BROKERS)
    }
    if properties.content_type:
        own.setdefault("content-type", str(properties.content_type))
    key = headers.get(KEY)
    name = headers.get(ID)
    if name is None:
        name = properties.message_id or place
    return Message(name, body, own, key)


def _text(value: object) -> str:
    if isinstance(value, bytes | bytearray):
        return value.decode(errors="replace")
    return str(value)


def letter_of(
    subscription: Subscription, properties: spec.Basic.Properties, body: bytes
) -> DeadLetter:
    headers: Mapping[str, Any] = properties.headers or {}
    return DeadLetter(
        letter_id=str(headers.get(LETTER, "")),
        message=message_of("", properties, headers, body),
        subscription=subscription,
        reason=str(headers.get(REASON, "")),
        error=str(headers.get(ERROR, "")),
        attempts=int(headers.get(ATTEMPTS, 0)),
        died_at=int(headers.get(DIED, 0)) / 1000,
        failed_at=int(headers.get(FAILED, 0)) / 1000,
        edited_at=int(headers.get(EDITED, 0)) / 1000,
    )
