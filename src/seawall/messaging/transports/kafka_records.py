"""How messages lie in Kafka: names of topics, headers of records. Pure.

    TOPIC                 the messages; any client may write and read them
    TOPIC.GROUP.retry     copies that only this group reads: retries, delayed, redriven
    TOPIC.GROUP.dead      what this group gave up; a record without a value deletes a letter

Headers follow the Kafka binding of CloudEvents (`ce_id` for `ce-id`). Ours begin with `seawall-`.
"""

import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

from seawall.messaging.base import DeadLetter, Message, Subscription

ID = "seawall-id"  # only where it is not the event's own id
ATTEMPTS = "seawall-attempts"  # deliveries before this copy was written
DUE = "seawall-due"  # wall clock, seconds: not to be delivered before
PUBLISHED = "seawall-published"  # wall clock, seconds: when the original was
REASON = "seawall-reason"
ERROR = "seawall-error"
DIED = "seawall-died"
FAILED = "seawall-failed"  # wall clock, seconds: when the group first failed over it
EDITED = "seawall-edited"  # wall clock, seconds: when an operator changed a letter
KEY = "seawall-key"

_RETRY = ".retry"
_ILLEGAL = re.compile(r"[^A-Za-z0-9._-]")
_WRITTEN = re.compile(r"_x([0-9a-f]{1,6})_")
_LONGEST_NAME = 249  # characters, Kafka's limit

# Names of headers that are not translated anew: all messages have the same few.
_KNOWN = 256

Headers = Sequence[tuple[str, bytes | None]]


@dataclass(frozen=True, slots=True)
class Topics:
    """The topics of one subscription."""

    topic: str
    retry: str
    dead: str
    members: str  # the consumer group

    @staticmethod
    def of(subscription: Subscription) -> "Topics":
        topic = topic_name(subscription.topic)
        # Without a dot, so that where the group begins is certain.
        group = topic_name(subscription.group).replace(".", "_x2e_")
        # A consumer group of its own: in one for several topics, whoever comes or goes for one
        # of them would stop the others until all have agreed again.
        members = f"{topic}.{group}"
        return Topics(topic, f"{members}{_RETRY}", f"{members}.dead", members)

    @property
    def longest(self) -> int:
        return max(len(self.topic), len(self.retry))


def topic_name(name: str) -> str:
    """Kafka's name for a topic: itself, with what Kafka does not take written as `_xHEX_`."""
    return _ILLEGAL.sub(lambda match: f"_x{ord(match[0]):x}_", name)


def subscription_of(name: str) -> Subscription | None:
    """Whose retries are in the topic of that name; None if it is no such topic."""
    topic, _, group = name.removesuffix(_RETRY).rpartition(".")
    if not name.endswith(_RETRY) or not topic or not group:
        return None
    return Subscription(_plain_name(topic), _plain_name(group))


def _plain_name(name: str) -> str:
    return _WRITTEN.sub(_character, name)


def _character(written: re.Match[str]) -> str:
    number = int(written[1], 16)
    return chr(number) if number <= sys.maxunicode else written[0]


def is_too_long(topics: Topics) -> bool:
    return topics.longest > _LONGEST_NAME


def headers_of(message: Message, own: Mapping[str, str] | None = None) -> list[tuple[str, bytes]]:
    headers = [(_there(name), value.encode()) for name, value in message.headers.items()]
    if message.headers.get("ce-id") != message.id:
        headers.append((ID, message.id.encode()))
    if own:
        headers += [(name, value.encode()) for name, value in own.items()]
    return headers


@lru_cache(_KNOWN)
def _there(name: str) -> str:
    return f"ce_{name[3:]}" if name.startswith("ce-") else name


@lru_cache(_KNOWN)
def _here(name: str) -> str:
    return f"ce-{name[3:]}" if name.startswith("ce_") else name


@dataclass(frozen=True, slots=True)
class Read:
    """A record, understood."""

    message: Message
    own: Mapping[str, str]  # our headers
    damage: str = ""

    def number(self, name: str) -> float:
        """A number of ours; 0 where it is absent or, forged, not one."""
        said = self.own.get(name)
        if said is None:
            return 0.0
        try:
            return float(said)
        except ValueError:
            return 0.0


def read(place: str, key: bytes | None, value: bytes | None, headers: Headers) -> Read:
    """The message in a record. One of another client may lack an id: its place is that then."""
    body = value or b""
    own: dict[str, str] = {}
    theirs: dict[str, str] = {}
    try:
        for name, data in headers:
            if name.startswith("seawall-"):
                own[name] = (data or b"").decode()
            else:
                theirs[_here(name)] = (data or b"").decode()
        text = None if key is None else key.decode()
    except UnicodeDecodeError as error:
        return Read(Message(place, body), {}, f"{type(error).__name__}: {error}")
    known_as = own.get(ID) or theirs.get("ce-id") or place
    return Read(Message(known_as, body, theirs, text), own)


def letter_headers(letter: DeadLetter, *, published: float) -> list[tuple[str, bytes]]:
    message = letter.message
    own = {
        REASON: letter.reason,
        ERROR: letter.error,
        ATTEMPTS: str(letter.attempts),
        DIED: str(letter.died_at),
        FAILED: str(letter.failed_at),
        EDITED: str(letter.edited_at),
        PUBLISHED: str(published),
    }
    if message.key is not None:
        own[KEY] = message.key
    return headers_of(message, own)


def letter_of(
    subscription: Subscription, letter_id: str, value: bytes | None, headers: Headers
) -> tuple[DeadLetter, float]:
    """The letter in a record, and when its message was published."""
    found = read(letter_id, None, value, headers)
    message = found.message
    letter = DeadLetter(
        letter_id=letter_id,
        message=Message(message.id, message.body, message.headers, found.own.get(KEY)),
        subscription=subscription,
        reason=found.own.get(REASON, ""),
        error=found.own.get(ERROR, ""),
        attempts=int(found.number(ATTEMPTS)),
        died_at=found.number(DIED),
        failed_at=found.number(FAILED),
        edited_at=found.number(EDITED),
    )
    return letter, found.number(PUBLISHED)
