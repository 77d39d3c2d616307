"""How messages lie in SQS: names of queues, bodies and attributes. Pure.

A body is the message's own, so that any client reads it; what is not text that SQS takes, is
base64. All else is in one attribute, `seawall`, as JSON: SQS allows ten attributes at most. An
event of EventBridge has no attributes, so both are in its `detail`.
"""

import base64
import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec

from seawall.messaging.base import DeadLetter, Message, Subscription

ATTRIBUTE = "seawall"
SOURCE = "seawall"  # of events in EventBridge
FORM = "seawall-message"  # the field of an event's detail that says it is ours

# SNS and EventBridge take 256 KiB with attributes. In base64 three bytes are four, and a dead
# letter's error, escaped, may be 48,000.
LARGEST = 256 * 1024  # bytes
MAX_BODY = 150_000  # bytes; leaves some 14,000 for headers
BATCH = 10  # messages a call

# SQS allows 80 characters: the prefix, the topic, two dashes, the group, `--dead`.
PREFIX = "seawall-"
_TOPIC, _GROUP = 40, 24
_DEAD = "--dead"

# What a body may contain: SQS takes the characters of XML 1.0.
_NOT_TEXT = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_ILLEGAL = re.compile("[^A-Za-z0-9-]")


class Note(msgspec.Struct, omit_defaults=True):
    """What stands beside a body."""

    id: str = ""
    headers: dict[str, str] = {}
    key: str | None = None
    coded: bool = False  # the body is base64
    attempts: int = 0  # deliveries before this copy was written
    dropped: bool = False  # the delivery before this copy ended with its lease
    due: float = 0.0  # wall clock: not to be delivered before
    reason: str = ""  # of a dead letter, like the rest
    error: str = ""
    died: float = 0.0
    failed: float = 0.0
    edited: float = 0.0


@dataclass(frozen=True, slots=True)
class Stored:
    """A message as SQS has it."""

    body: str
    note: str

    @property
    def size(self) -> int:
        return len(self.body.encode()) + len(self.note) + len(ATTRIBUTE) + len("String")


@dataclass(frozen=True, slots=True)
class Found:
    """A stored message, understood."""

    message: Message
    note: Note = field(default_factory=Note)
    damage: str = ""


def topic_name(topic: str) -> str:
    return f"{PREFIX}{_short(topic, _TOPIC)}"


def queue_name(subscription: Subscription) -> str:
    return f"{queues_of(subscription.topic)}{_short(subscription.group, _GROUP)}"


def queues_of(topic: str) -> str:
    """What the names of a topic's queues, of all its groups, begin with."""
    return f"{topic_name(topic)}--"


def unread_name(topic: str) -> str:
    """The queue for what is published before the topic has a group. No group's name begins with
    a dash, so none has this queue."""
    return f"{queues_of(topic)}-unread"


def dead_name(subscription: Subscription) -> str:
    return queue_name(subscription) + _DEAD


def is_dead_name(name: str) -> bool:
    return name.endswith(_DEAD)


def _short(name: str, limit: int) -> str:
    """The name in the characters of SQS, and no longer than `limit`: with a hash if it has to be.
    Two dashes only ever separate parts."""
    plain = _ILLEGAL.sub(lambda match: f"_{ord(match[0]):x}_", name).replace("--", "-_2d_")
    if len(plain) <= limit and not plain.startswith("-") and not plain.endswith("-"):
        return plain
    digest = hashlib.sha256(name.encode()).hexdigest()[:12]
    return f"{plain[: limit - 13].strip('-')}_{digest}"


def stored(message: Message, **beside: Any) -> Stored:
    """`beside` are further fields of its `Note`."""
    note = Note(id=message.id, headers=dict(message.headers), key=message.key, **beside)
    body = _text(message.body)
    if body is None:
        note.coded = True
        body = base64.b64encode(message.body).decode() or "-"  # SQS takes no empty body
    return Stored(body, _ascii(note))


def _text(body: bytes) -> str | None:
    try:
        text = body.decode()
    except UnicodeDecodeError:
        return None
    return None if not text or _NOT_TEXT.search(text) else text


def _ascii(note: Note) -> str:
    """JSON without any character that an attribute may not have."""
    text = msgspec.json.encode(note).decode()
    return "".join(char if " " <= char <= "~" else _escaped(char) for char in text)


def _escaped(char: str) -> str:
    units = char.encode("utf-16-be")
    return "".join(f"\\u{units[at : at + 2].hex()}" for at in range(0, len(units), 2))


def found(received: Mapping[str, Any]) -> Found:
    """What ReceiveMessage gave. What is not ours is a body, and string attributes as headers."""
    body = str(received["Body"])
    attributes = received.get("MessageAttributes", {})
    place = str(received["MessageId"])
    if ATTRIBUTE in attributes:
        return _ours(place, body, str(attributes[ATTRIBUTE].get("StringValue", "")))
    event = _event(body)
    if event is not None:
        return _ours(place, *event)
    headers = {
        name: str(value["StringValue"])
        for name, value in attributes.items()
        if "StringValue" in value
    }
    return Found(Message(headers.get("ce-id", place), body.encode(), headers))


def _ours(place: str, body: str, text: str) -> Found:
    try:
        note = msgspec.json.decode(text, type=Note)
        raw = body.encode()
        if note.coded:
            raw = b"" if body == "-" else base64.b64decode(raw, validate=True)
    except (msgspec.DecodeError, ValueError) as error:
        return Found(Message(place, body.encode()), damage=f"{type(error).__name__}: {error}")
    return Found(Message(note.id or place, raw, note.headers, note.key), note)


class _Detail(msgspec.Struct):
    body: str
    note: str = msgspec.field(name=FORM)


class _Event(msgspec.Struct):
    source: str
    detail: _Detail


def detail(message: Stored) -> str:
    """The detail of an event that carries a message."""
    return msgspec.json.encode(_Detail(message.body, message.note)).decode()


def _event(body: str) -> tuple[str, str] | None:
    """Body and note of an event of ours; None if this is none."""
    if FORM not in body:
        return None
    try:
        event = msgspec.json.decode(body, type=_Event)
    except msgspec.DecodeError:
        return None
    return event.detail.body, event.detail.note


def letter_of(subscription: Subscription, received: Mapping[str, Any]) -> DeadLetter:
    found_ = found(received)
    return DeadLetter(
        letter_id=str(received["MessageId"]),
        message=found_.message,
        subscription=subscription,
        reason=found_.note.reason,
        error=found_.note.error,
        attempts=found_.note.attempts,
        died_at=found_.note.died,
        failed_at=found_.note.failed,
        edited_at=found_.note.edited,
    )
