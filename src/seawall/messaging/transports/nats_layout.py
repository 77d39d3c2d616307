"""How messages lie in NATS JetStream: names of streams and subjects, headers of messages. Pure.

A topic has three streams, each made when it is first needed:

    seawall_topic_T    seawall.topic.T              what was published
    seawall_work_T     seawall.again.T.G            a group's own: retried, released, redriven
                       seawall.later.T.topic        published with a delay
                       seawall.later.T.group.G      a group's retries that are not due yet
    seawall_dead_T     seawall.dead.T.G             a group's dead letters

T and G are names in which everything but letters, digits, `-` and `_` is `=XX`.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple
from urllib.parse import unquote

from seawall.messaging.base import DeadLetter, Message, Subscription, Waiting
from seawall.messaging.transports.nats_headers import Headers, block

# Ours begin with these; whatever else a message carries is its own.
ID = "Nats-Msg-Id"  # what the server recognises duplicates by
KEY = "Seawall-Key"
PACKED = "Seawall-Packed"  # id, key and headers as JSON, where they are no plain header text
OWN_ID = "Seawall-Id"  # the message's id in streams where `Nats-Msg-Id` names one copy of it
ATTEMPTS = "Seawall-Attempts"  # deliveries before this copy
DROPPED = "Seawall-Dropped"  # set if the delivery before this copy ended with its lease
AT = "Seawall-At"  # when it was first published: milliseconds since 1970
DUE = "Seawall-Due"  # milliseconds since 1970
TARGET = "Seawall-Target"  # the subject that it goes to when it is due
REASON = "Seawall-Reason"
ERROR = "Seawall-Error"
FAILED = "Seawall-Failed"  # when the group first failed over it: milliseconds since 1970
DIED = "Seawall-Died"  # likewise, where it is not when the server stored the letter
EDITED = "Seawall-Edited"  # likewise, when an operator changed a letter

_OURS = ("Nats-", "Seawall-")
_FIRST = b"NATS/1.0\r\nNats-Msg-Id: "
_UNSAFE = re.compile(r"[^A-Za-z0-9_-]")
_VALUE = re.compile(r"[!-~](?:[ -~]*[!-~])?")
_NAME = re.compile(r"(?!Nats-|Seawall-)[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_PRINTABLE = bytes(range(0x20, 0x7F))

MAX_HEADERS = 12 * 1024  # bytes; a dead letter adds up to 24 KiB for its error

# What `max_payload` leaves for a body: a message travels with its headers and ours.
HEADROOM = 40 * 1024


_TOPIC, _GROUP = "seawall_topic_", "group_"
ALL_TOPICS = "seawall.topic.>"


def token(name: str) -> str:
    """`name` as one token of a subject, which is also good in the name of a stream."""
    return _UNSAFE.sub(lambda m: "".join(f"={byte:02X}" for byte in m[0].encode()), name)


def subscription_of(stream: str, consumer: str) -> Subscription | None:
    """Whose these names are; None if they are not ours."""
    if not stream.startswith(_TOPIC) or not consumer.startswith(_GROUP):
        return None
    return Subscription(_name(stream.removeprefix(_TOPIC)), _name(consumer.removeprefix(_GROUP)))


def _name(token: str) -> str:
    return unquote(token.replace("=", "%"), errors="replace")


@dataclass(frozen=True, slots=True)
class Topic:
    """The streams and subjects of one topic."""

    stream: str
    work: str
    dead: str
    subject: str
    later: str  # delayed for the whole topic
    all_later: str  # delayed for the topic or for one of its groups

    @staticmethod
    def of(topic: str) -> "Topic":
        name = token(topic)
        return Topic(
            stream=f"{_TOPIC}{name}",
            work=f"seawall_work_{name}",
            dead=f"seawall_dead_{name}",
            subject=f"seawall.topic.{name}",
            later=f"seawall.later.{name}.topic",
            all_later=f"seawall.later.{name}.>",
        )


@dataclass(frozen=True, slots=True)
class Group:
    """The subjects and the consumer of one group."""

    topic: Topic
    consumer: str
    again: str
    later: str
    dead: str

    @staticmethod
    def of(subscription: Subscription) -> "Group":
        topic, group = token(subscription.topic), token(subscription.group)
        return Group(
            topic=Topic.of(subscription.topic),
            consumer=f"{_GROUP}{group}",
            again=f"seawall.again.{topic}.{group}",
            later=f"seawall.later.{topic}.group.{group}",
            dead=f"seawall.dead.{topic}.{group}",
        )


@lru_cache(maxsize=1_000)
def _is_name(name: str) -> bool:
    """Whether a header may be called so. There are few names in many messages."""
    return _NAME.fullmatch(name) is not None


def _plain(message: Message) -> bool:
    """Whether everything about the message is text that headers carry as it is."""
    texts = [message.id, *message.headers.values()]
    if message.key is not None:
        texts.append(message.key)
    return all(map(_is_name, message.headers)) and all(map(_VALUE.fullmatch, texts))


def block_of(message: Message) -> bytes:
    """The headers that a message is published with, as they travel.

    As `headers_of` has them; of a message that is plain, as nearly all are, in one piece: that is
    done for each one.
    """
    own, key = message.headers, message.key
    if key is None and all(map(_is_name, own)):
        lines = "".join([f"{name}: {text}\r\n" for name, text in own.items()])
        text = f"NATS/1.0\r\n{ID}: {message.id}\r\n{lines}\r\n"
        if text.isascii():
            packed = text.encode()
            breaks = packed.translate(None, _PRINTABLE)
            if (
                breaks == b"\r\n" * (len(own) + 3)
                and b" \r\n" not in packed  # as is behind an empty value, too
                and b":  " not in packed
            ):
                return packed
    return block(headers_of(message))


def headers_of(message: Message) -> dict[str, str]:
    """The headers that a message is published with."""
    if _plain(message):
        headers = {ID: message.id, **message.headers}
        if message.key is not None:
            headers[KEY] = message.key
        return headers
    packed = json.dumps([message.id, message.key, dict(message.headers)])
    return {ID: json.dumps(message.id), PACKED: packed}


def copy_of(message: Message, copy_id: str, **ours: object) -> dict[str, str]:
    """The headers of a copy, which the server tells from other copies by `copy_id`."""
    headers = headers_of(message)
    headers[OWN_ID] = headers[ID]
    headers[ID] = copy_id
    return headers | {_NAMES[name]: str(value) for name, value in ours.items()}


_NAMES = {
    "attempts": ATTEMPTS,
    "dropped": DROPPED,
    "at": AT,
    "due": DUE,
    "target": TARGET,
    "reason": REASON,
    "error": ERROR,
    "failed": FAILED,
    "died": DIED,
    "edited": EDITED,
}


def plain_message(headers: Headers, body: bytes) -> Message | None:
    """The message with these headers, if it lies as we publish one without a key: its id first, and
    nothing else that is the server's or ours. They are its own from here on."""
    block, at = headers.block, len(_FIRST)
    if (
        not block.startswith(_FIRST)
        or block.find(b"\nNats-", at) >= 0
        or block.find(b"\nSeawall-", at) >= 0
    ):
        return None
    end = block.find(b"\r\n", at)
    if end == at:
        return None
    headers.skip(end)
    return Message(block[at:end].decode(errors="replace"), body, headers)


def message_of(place: str, headers: Mapping[str, str], body: bytes) -> tuple[Message, str]:
    """The message, and what is wrong with it ("" if nothing is).

    Any client can publish to a topic: without an id of its own a message is called `place`.
    """
    own = dict(headers)
    name, key = own.pop(ID, "") or place, own.pop(KEY, None)
    names = "\n".join(own)
    if "Nats-" not in names and "Seawall-" not in names:  # just published: nearly all are
        return Message(name, body, own, key), ""
    packed = headers.get(PACKED)
    if packed is None:
        own = {name: text for name, text in own.items() if not name.startswith(_OURS)}
        return Message(headers.get(OWN_ID) or name, body, own, key), ""
    try:
        name, key, own = json.loads(packed)
        return Message(str(name), body, {str(k): str(v) for k, v in own.items()}, key), ""
    except (ValueError, TypeError, AttributeError) as error:
        return Message(place, body), f"{PACKED}: {type(error).__name__}: {error}"


def letter_of(
    subscription: Subscription, sequence: int, headers: Mapping[str, str], body: bytes, at: float
) -> DeadLetter:
    """`at` is when the server stored the letter."""
    message, _ = message_of(str(sequence), headers, body)
    return DeadLetter(
        letter_id=str(sequence),
        message=message,
        subscription=subscription,
        reason=_unquoted(headers.get(REASON, "")),
        error=_unquoted(headers.get(ERROR, '""')),
        attempts=int(headers.get(ATTEMPTS, "0")),
        died_at=_seconds(headers, DIED) or at,
        failed_at=_seconds(headers, FAILED),
        edited_at=_seconds(headers, EDITED),
    )


def waiting_of(sequence: int, headers: Mapping[str, str], body: bytes, at: float) -> Waiting:
    """`at` is when the server stored this copy."""
    message, _ = message_of(str(sequence), headers, body)
    return Waiting(message, int(headers.get(ATTEMPTS, "0")), _seconds(headers, AT) or at)


def _seconds(headers: Mapping[str, str], name: str) -> float:
    return int(headers.get(name, "0")) / 1000


def quoted(text: str) -> str:
    """Any text as the value of a header."""
    return json.dumps(text, ensure_ascii=False).encode(errors="replace").decode()


def _unquoted(value: str) -> str:
    try:
        return str(json.loads(value))
    except ValueError:
        return value


class Place(NamedTuple):
    """What the subject to acknowledge a delivery by tells about it."""

    stream: str
    deliveries: int
    sequence: int
    stored: int  # nanoseconds since 1970

    @staticmethod
    def of(reply: str) -> "Place":
        parts = reply.split(".")
        # With a domain, or from 2.10 on, two tokens for domain and account come first.
        first = 4 if len(parts) >= 11 else 2
        return Place(
            parts[first], int(parts[first + 2]), int(parts[first + 3]), int(parts[first + 5])
        )


def by_consumer(replies: Sequence[str]) -> list[list[str]]:
    """Those that lead to the same consumer of the same stream together, in their order."""
    found, left = [], list(replies)
    while left:
        parts = left[0].split(".")
        lead = ".".join(parts[: 6 if len(parts) >= 11 else 4]) + "."
        found.append([reply for reply in left if reply.startswith(lead)])
        left = [reply for reply in left if not reply.startswith(lead)]
    return found


def origin(reply: str) -> tuple[str, int]:
    """The stream and the deliveries of a `Place`, which every message that comes is asked for."""
    parts = reply.split(".")
    first = 4 if len(parts) >= 11 else 2
    return parts[first], int(parts[first + 2])
