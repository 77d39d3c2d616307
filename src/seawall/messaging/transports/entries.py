"""How messages lie in a Valkey: names of keys, fields of entries. Pure. See scripts.py.

An entry has the fields `id`, `data`, `attributes` (a JSON object) and `key`. FastStream reads
`data` of it; a field called `headers` it would take for an object of its own.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import msgspec

from seawall.messaging.base import DeadLetter, Delivery, Message, Subscription, Waiting
from seawall.messaging.transports import faststream
from seawall.messaging.transports.resp import pack

# How many fields of our own (names and values) precede the original ones, a stream's "front".
TOPIC = 0
RETRY = 8  # attempt, dropped, failed, at
DEAD = 14  # reason, error, attempts, died, failed, edited, at


class Place(NamedTuple):
    """Where a delivery is pending, and its delivery count there: a transport's receipt."""

    stream: str
    front: int
    entry: bytes
    deliveries: int


@dataclass(frozen=True, slots=True)
class Keys:
    """The keys of one subscription."""

    topic: str
    topic_delayed: str
    retry: str
    delayed: str
    dead: str

    @staticmethod
    def of(subscription: Subscription) -> "Keys":
        topic = topic_key(subscription.topic)
        group = f"{topic}:{subscription.group}"
        return Keys(
            topic=topic,
            topic_delayed=f"{topic}:delayed",
            retry=f"{group}:retry",
            delayed=f"{group}:delayed",
            dead=f"{group}:dead",
        )

    @property
    def all(self) -> tuple[str, ...]:
        return (self.topic, self.topic_delayed, self.retry, self.delayed, self.dead)


def topic_key(topic: str) -> str:
    return f"seawall:{{{topic}}}"


GROUPS = "seawall:{*}:*:retry"  # every group has this key from when it was first made


def subscription_of(key: str) -> Subscription:
    """Whose key it is that `GROUPS` found."""
    topic, _, group = key.removeprefix("seawall:{").removesuffix(":retry").rpartition("}:")
    return Subscription(topic, group)


_encode_headers = msgspec.json.Encoder().encode
_decode_headers = msgspec.json.Decoder(dict[str, str]).decode


def fields_of(message: Message) -> tuple[str | bytes, ...]:
    """The original fields: what a topic's entry holds."""
    headers = _encode_headers(message.headers)
    if message.key is None:
        return ("id", message.id, "data", message.body, "attributes", headers)
    return ("id", message.id, "data", message.body, "attributes", headers, "key", message.key)


def packed_append(key: str, message: Message) -> bytes:
    """The command that stores a message in its topic."""
    return pack(("XADD", key, "*", *fields_of(message)))


def message_of(entry: bytes, fields: Sequence[bytes]) -> tuple[Message, str]:
    """The message in original fields, and what is wrong with them ("" if nothing is).

    Entries are not always ours: any client can append one. What cannot be read becomes a
    message whose body is the raw bytes, one `field=value` a line.
    """
    try:
        if len(fields) < 6 or fields[0] != b"id" or fields[2] != b"data":
            return _foreign(entry, fields)
        headers = _decode_headers(fields[5])
        key = fields[7].decode() if len(fields) > 7 else None
        return Message(fields[1].decode(), fields[3], headers, key), ""
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        return _raw(entry, fields), f"{type(error).__name__}: {error}"


def _foreign(entry: bytes, fields: Sequence[bytes]) -> tuple[Message, str]:
    """Another client's entry: readable if it has a field `data`, in any order, others optional;
    or if FastStream wrote it."""
    named = dict(_pairs(fields))
    if faststream.FIELD in named:
        headers, body = faststream.read(named[faststream.FIELD])
        return Message(entry.decode(), body, headers), ""
    if b"data" not in named:
        return _raw(entry, fields), "the entry has no field `data`"
    said = named.get(b"attributes") or named.get(b"headers")
    headers = _decode_headers(said) if said else {}
    key = named[b"key"].decode() if b"key" in named else None
    return Message(named.get(b"id", entry).decode(), named[b"data"], headers, key), ""


def _raw(entry: bytes, fields: Sequence[bytes]) -> Message:
    return Message(entry.decode(), b"\n".join(b"=".join(pair) for pair in _pairs(fields)))


def _pairs(flat: Sequence[bytes]) -> Iterator[tuple[bytes, bytes]]:
    return zip(flat[::2], flat[1::2], strict=True)


def delivery_of(
    subscription: Subscription,
    stream: str,
    front: int,
    entry: bytes,
    count: int,
    fields: Sequence[bytes],
) -> Delivery:
    """`count` is the server's delivery count of this entry."""
    attempt = count
    dropped = count > 1
    failed_at = 0.0
    if front == RETRY:
        attempt += int(fields[1])
        dropped = dropped or fields[3] == b"1"
        failed_at = int(fields[5]) / 1000
        fields = fields[front:]
    message, damage = message_of(entry, fields)
    place = Place(stream, front, entry, count)
    return Delivery(message, subscription, attempt, place, damage, dropped, failed_at)


def waiting_of(front: int, entry: bytes, fields: Sequence[bytes]) -> Waiting:
    message, _ = message_of(entry, fields[front:])
    if front == RETRY:
        return Waiting(message, int(fields[1]), int(fields[7]) / 1000)
    return Waiting(message, 0, int(entry.partition(b"-")[0]) / 1000)


def letter_fields(letter: DeadLetter) -> tuple[str | bytes | int, ...]:
    """The fields of an entry that is this letter; its message counts as published when it died."""
    died = round(letter.died_at * 1000)
    return (
        *("reason", letter.reason, "error", letter.error, "attempts", letter.attempts),
        *("died", died, "failed", round(letter.failed_at * 1000)),
        *("edited", round(letter.edited_at * 1000), "at", died),
        *fields_of(letter.message),
    )


def letter_of(subscription: Subscription, entry: bytes, fields: Sequence[bytes]) -> DeadLetter:
    message, _ = message_of(entry, fields[DEAD:])
    return DeadLetter(
        letter_id=entry.decode(),
        message=message,
        subscription=subscription,
        reason=fields[1].decode(),
        error=fields[3].decode(errors="replace"),
        attempts=int(fields[5]),
        died_at=int(fields[7]) / 1000,
        failed_at=int(fields[9]) / 1000,
        edited_at=int(fields[11]) / 1000,
    )
