"""How messages lie in a Valkey, also those that others put there."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seawall.messaging.base import DeadLetter, Message, Subscription
from seawall.messaging.transports.entries import (
    DEAD,
    RETRY,
    TOPIC,
    Keys,
    Place,
    delivery_of,
    fields_of,
    letter_fields,
    letter_of,
    message_of,
    subscription_of,
)
from seawall.messaging.transports.faststream import FIELD

SUB = Subscription("orders", "mail")
TEXT = st.text(st.characters(codec="utf-8"))


def stored(message: Message) -> list[bytes]:
    return [f.encode() if isinstance(f, str) else f for f in fields_of(message)]


@given(st.builds(Message, TEXT, st.binary(), st.dictionaries(TEXT, TEXT), st.none() | TEXT))
def test_what_is_stored_is_read_back(message: Message) -> None:
    assert message_of(b"1-0", stored(message)) == (message, "")


@given(st.lists(st.binary(), max_size=12).filter(lambda fields: len(fields) % 2 == 0))
def test_anything_else_is_read_or_called_damaged(fields: list[bytes]) -> None:
    message, damage = message_of(b"1-0", fields)
    if not {b"data", FIELD} & set(fields[::2]):
        assert damage
        assert message.id == "1-0"
        assert all(value in message.body for value in fields)


def test_another_clients_entry_needs_only_data() -> None:
    assert message_of(b"5-1", [b"x", b"y", b"data", b"{}"]) == (Message("5-1", b"{}"), "")


def test_broken_headers_are_damage_and_the_bytes_are_kept() -> None:
    message, damage = message_of(b"1-0", [b"id", b"a", b"data", b"\xff", b"headers", b"{"])
    assert "DecodeError" in damage
    assert message.body == b"id=a\ndata=\xff\nheaders={"


def test_attempts_of_a_retry_add_up() -> None:
    original = Message("a", b"b", {"h": "v"}, "k")
    fresh = delivery_of(SUB, "s", TOPIC, b"1-0", 1, stored(original))
    front = [b"attempt", b"3", b"dropped", b"0", b"failed", b"1500", b"at", b"99"]
    fields = [*front, *stored(original)]
    assert len(front) == RETRY
    again = delivery_of(SUB, "r", RETRY, b"2-0", 2, fields)
    assert (fresh.attempt, again.attempt) == (1, 5)
    assert (fresh.failed_at, again.failed_at) == (0.0, 1.5)
    assert fresh.message == again.message == original
    assert again.receipt == Place("r", RETRY, b"2-0", 2)


def test_a_dead_letter_keeps_the_original() -> None:
    original = Message("a", b"b", {"h": "v"}, "k")
    front = [b"reason", b"poison", b"error", b"oh", b"attempts", b"4", b"died", b"1500"]
    front += [b"failed", b"1200", b"edited", b"0", b"at", b"99"]
    fields = [*front, *stored(original)]
    assert len(front) == DEAD
    letter = letter_of(SUB, b"7-0", fields)
    assert (letter.letter_id, letter.reason, letter.error) == ("7-0", "poison", "oh")
    assert (letter.attempts, letter.died_at, letter.message) == (4, 1.5, original)
    assert (letter.failed_at, letter.edited_at) == (1.2, 0.0)


def test_a_letter_is_stored_as_it_is_read() -> None:
    letter = DeadLetter(
        letter_id="7-0",
        message=Message("a", b"b", {"h": "v"}, "k"),
        subscription=SUB,
        reason="rejected",
        error="oh",
        attempts=4,
        died_at=1.5,
        failed_at=1.2,
        edited_at=2.5,
    )
    packed = [
        field if isinstance(field, bytes) else str(field).encode()
        for field in letter_fields(letter)
    ]
    assert letter_of(SUB, b"7-0", packed) == letter


@pytest.mark.parametrize(
    "sub", [SUB, Subscription("a:b", "c:d"), Subscription("x}y", "z"), Subscription("{t}", "g")]
)
def test_a_key_tells_whose_it_is(sub: Subscription) -> None:
    assert subscription_of(Keys.of(sub).retry) == sub


def test_keys_of_one_topic_share_a_hash_tag() -> None:
    assert all("{orders}" in key for key in Keys.of(SUB).all)
    assert len(set(Keys.of(SUB).all)) == 5
