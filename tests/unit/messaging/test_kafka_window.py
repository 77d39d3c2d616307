"""What is remembered of a Kafka partition beside its offset."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seawall.messaging.base import Message
from seawall.messaging.transports.kafka_window import (
    LONGEST_TEXT,
    SPAN,
    Entry,
    Window,
    decode,
    encode,
)


def add(window: Window, offset: int, body: bytes = b"") -> Entry | None:
    return window.add(offset, lambda window: Entry(window, offset, Message(str(offset), body)))


def filled(count: int, *, first: int = 0) -> tuple[Window, list[Entry]]:
    window = Window(first)
    found = [add(window, first + n) for n in range(count)]
    return window, [entry for entry in found if entry is not None]


def hold(entry: Entry) -> None:
    entry.window.hold(entry, token=7)


def give_back(entry: Entry, *, dropped: bool = False) -> None:
    entry.window.take_back(entry)
    entry.dropped = dropped


def test_only_what_is_done_without_a_gap_is_committed() -> None:
    window, entries = filled(5)
    window.finish(entries[1])
    window.finish(entries[2])
    assert window.commit() == (0, "0,-2")
    window.finish(entries[0])
    assert window.commit() == (3, "")
    window.finish(entries[3])
    window.finish(entries[4])
    assert window.commit() == (5, "")


def test_the_next_owner_does_not_do_again_what_was_done_out_of_order() -> None:
    window, entries = filled(4)
    window.finish(entries[2])
    after = Window(*window.commit())
    assert [add(after, offset) is None for offset in range(4)] == [False, False, True, False]


def test_the_next_owner_knows_how_often_each_was_delivered() -> None:
    window, entries = filled(3)
    hold(entries[0])
    hold(entries[1])
    hold(entries[1])
    after = Window(*window.commit())
    found = [add(after, offset) for offset in range(3)]
    assert [entry.deliveries for entry in found if entry is not None] == [1, 2, 0]


def test_the_next_owner_knows_what_ended_with_its_lease() -> None:
    window, entries = filled(3)
    for entry in (entries[0], entries[1], entries[1], entries[2]):
        hold(entry)
    give_back(entries[1], dropped=True)
    give_back(entries[2])
    after = Window(*window.commit())
    add(after, 0)
    again = Window(*after.commit())
    found = [add(again, offset) for offset in range(3)]
    assert [(each.deliveries, each.dropped) for each in found if each is not None] == [
        (1, True),
        (2, True),
        (1, False),
    ]


def test_what_the_last_owner_knew_is_kept_before_it_is_read_again() -> None:
    window, entries = filled(3)
    for entry in entries:
        hold(entry)
    after = Window(*window.commit())
    add(after, 0)
    again = Window(*after.commit())
    found = [add(again, offset) for offset in range(3)]
    assert [entry.deliveries for entry in found if entry is not None] == [1, 1, 1]


def test_what_an_earlier_owner_had_done_stays_done_where_nothing_else_was_touched() -> None:
    window, entries = filled(4)
    for entry in entries[1:3]:
        window.finish(entry)
    after = Window(*window.commit())
    for offset in range(3):
        add(after, offset)
    again = Window(*after.commit())
    assert [add(again, offset) is None for offset in range(4)] == [False, True, True, False]


def test_it_is_held_while_anything_is_handed_out() -> None:
    window, (first, second) = filled(2)
    assert not window.is_held
    hold(second)
    assert window.is_held
    window.finish(second)
    hold(first)
    give_back(first)
    assert not window.is_held


def test_offsets_that_no_message_has_count_as_done() -> None:
    window = Window(10)
    first = add(window, 12)
    add(window, 15)
    assert first is not None
    assert window.commit()[0] == 12
    window.finish(first)
    assert window.commit()[0] == 15


def test_it_is_full_by_its_span_and_by_its_bodies() -> None:
    window, entries = filled(SPAN)
    assert window.full
    window.finish(entries[0])
    assert not window.full
    heavy = Window(0)
    add(heavy, 0, b"x" * 17 * 1024 * 1024)
    assert heavy.full


@pytest.mark.parametrize("text", ["written by somebody else", "-x", "é3", ",", "-3,"])
def test_a_text_of_somebody_elses_means_nothing(text: str) -> None:
    assert decode(text) == ""


MARKS = st.text('-~0123ABCabc!"#{', max_size=SPAN)


@given(MARKS)
def test_what_is_written_is_read(marks: str) -> None:
    assert decode(encode(marks)) == marks.rstrip("0")


@pytest.mark.parametrize("marks", ["-1" * SPAN, "1a" * SPAN, "-" * 9 + "Zz-" * SPAN, "1" * SPAN])
def test_a_text_is_never_longer_than_a_broker_takes(marks: str) -> None:
    text = encode(marks)
    assert len(text) <= LONGEST_TEXT
    assert decode(text)
    assert marks.startswith(decode(text))


@given(st.lists(st.integers(0, 19), unique=True))
def test_a_crash_loses_nothing_and_repeats_only_what_was_not_done(done: list[int]) -> None:
    window, entries = filled(20)
    for place in done:
        window.finish(entries[place])
    after = Window(*window.commit())
    again = {offset for offset in range(after.position, 20) if add(after, offset) is not None}
    assert again == set(range(20)) - set(done)
