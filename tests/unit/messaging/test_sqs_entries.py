"""How a message looks in SQS."""

import json

from hypothesis import given
from hypothesis import strategies as st

from seawall.messaging.base import Message, Subscription
from seawall.messaging.transports.sqs_entries import (
    ATTRIBUTE,
    MAX_BODY,
    dead_name,
    detail,
    found,
    queue_name,
    queues_of,
    stored,
)

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=60)
MESSAGES = st.builds(
    Message,
    TEXT.filter(bool),
    st.binary(max_size=60),
    st.dictionaries(TEXT, TEXT),
    st.none() | TEXT,
)


@given(MESSAGES)
def test_what_is_stored_is_found(message: Message) -> None:
    entry = stored(message, attempts=3)
    assert entry.body
    assert entry.note.isascii()
    assert entry.note.isprintable()
    attributes = {ATTRIBUTE: {"DataType": "String", "StringValue": entry.note}}
    back = found({"Body": entry.body, "MessageId": "m", "MessageAttributes": attributes})
    assert (back.message, back.damage, back.note.attempts) == (message, "", 3)


@given(MESSAGES)
def test_an_event_carries_it_too(message: Message) -> None:
    event = {"source": "seawall", "detail": json.loads(detail(stored(message)))}
    assert found({"Body": json.dumps(event), "MessageId": "m"}).message == message


def test_a_text_is_left_readable() -> None:
    assert stored(Message("a", '{"n": "żółw"}'.encode())).body == '{"n": "żółw"}'


def test_anybodys_message_is_read() -> None:
    attributes = {"ce-id": {"DataType": "String", "StringValue": "7"}}
    ours = found({"Body": "hello", "MessageId": "m", "MessageAttributes": attributes})
    assert ours.message == Message("7", b"hello", {"ce-id": "7"})
    assert found({"Body": "hello", "MessageId": "m"}).message == Message("m", b"hello")


def test_a_damaged_note_is_told() -> None:
    attributes = {ATTRIBUTE: {"DataType": "String", "StringValue": "{"}}
    read = found({"Body": "raw", "MessageId": "m", "MessageAttributes": attributes})
    assert read.damage
    assert read.message == Message("m", b"raw")


def test_the_largest_body_fits_with_the_longest_error() -> None:
    entry = stored(Message("a", b"\xff" * MAX_BODY), error="🐢" * 4_000)
    assert entry.size < 256 * 1024 - 10_000


@given(TEXT.filter(bool), TEXT.filter(bool))
def test_names_are_what_sqs_takes(topic: str, group: str) -> None:
    name = dead_name(Subscription(topic, group))
    assert len(name) <= 80
    assert name.replace("-", "").replace("_", "").isalnum()
    assert name.isascii()
    assert name.startswith(queues_of(topic))


def test_names_tell_topics_and_groups_apart() -> None:
    pairs = [("a--b", "c"), ("a", "b--c"), ("a-b", "c"), ("a.b", "c"), ("a_2e_b", "c"), ("a", "b")]
    pairs += [("x" * 100, "g"), ("x" * 101, "g"), ("g", "x" * 100), ("g", "x" * 101)]
    assert len({queue_name(Subscription(*pair)) for pair in pairs}) == len(pairs)
