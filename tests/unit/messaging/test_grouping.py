"""Which dead letters died of the same."""

from dataclasses import replace
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seawall.messaging.base import DeadLetter, Message, Subscription
from seawall.messaging.failures import STACK
from seawall.messaging.grouping import MAX_CAUSES, Cause, cause_of, normalised, place_of, tally

SUB = Subscription("order.placed", "mail")
LETTER = DeadLetter(
    letter_id="1",
    message=Message("m", b"{}"),
    subscription=SUB,
    reason="exhausted",
    error="",
    attempts=3,
    died_at=20.0,
    failed_at=10.0,
)


def died(error: str, **changed: object) -> DeadLetter:
    return replace(LETTER, error=error, **changed)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        ("order 4711 not found", "order <n> not found"),
        ("took 1,234.5 ms", "took <n> ms"),
        ("no 0199b003-AAAA-7000-8000-0123456789ab here", "no <uuid> here"),
        ("at 2026-11-25T18:30:00.123Z it was late", "at <time> it was late"),
        ("at 2026-11-25 18:30:00+01:00", "at <time>"),
        ("10.0.0.7:5432 refused", "<address> refused"),
        ("[::1]:80 refused", "<address> refused"),
        ("<Order object at 0x7f3a12>", "<Order object at <address>>"),
        ("no mailbox jo.x+y@mail.example.com", "no mailbox <mail>"),
        ("commit deadbeef01 is gone", "commit <hex> is gone"),
        ("a  b\n c", "a b c"),
        ("the feedback defaced everything", "the feedback defaced everything"),
        ("", ""),
    ],
)
def test_what_differs_each_time_is_taken_out(error: str, expected: str) -> None:
    assert normalised(error) == expected


@given(st.uuids(), st.integers(0), st.uuids(), st.integers(0))
def test_errors_that_differ_in_ids_and_numbers_are_the_same(
    one: UUID, n: int, two: UUID, m: int
) -> None:
    assert normalised(f"order {one} of {n} failed") == normalised(f"order {two} of {m} failed")


@given(st.text(max_size=90))
def test_nothing_is_left_to_take_out(error: str) -> None:
    once = normalised(error)
    assert normalised(once) == once


def test_only_so_much_of_an_error_is_compared() -> None:
    assert len(normalised("1 " * 10_000)) < 1_000


def test_the_place_is_the_innermost_call_of_the_failure_itself() -> None:
    stack = (
        '  File "/app/handlers.py", line 3, in on_order\n'
        '  File "/app/mail.py", line 77, in make.<locals>.send\n'
        "caused by KeyError: 'x'\n"
        '  File "/lib/deep.py", line 1, in get'
    )
    assert place_of(stack) == "mail.py send"
    assert place_of("") == ""


def test_the_line_does_not_matter_but_the_function_does() -> None:
    def at(line: int, function: str) -> Cause:
        frame = f'  File "/app/a.py", line {line}, in {function}'
        return cause_of(died(f"ValueError: no{STACK}{frame}"))

    assert at(1, "f") == at(2, "f")
    assert at(1, "f") != at(1, "g")


def test_other_reasons_and_groups_are_other_causes() -> None:
    other = Subscription("order.placed", "stock")
    letters = [died("no"), died("no", reason="rejected"), died("no", subscription=other)]
    assert len(tally(letters).causes()) == 3


def test_the_most_frequent_cause_comes_first_with_its_times_and_latest_letter() -> None:
    letters = [
        died("rare 1", letter_id="a"),
        died("often 1", letter_id="b", failed_at=5.0, died_at=30.0),
        died("often 2", letter_id="c", failed_at=0.0, died_at=50.0),
        died("often 3", letter_id="d", failed_at=8.0, died_at=40.0),
    ]
    counted = tally(letters)
    often, rare = counted.causes()
    assert counted.total == 4
    assert (often.cause.error, often.count, often.first_at, often.last_at) == (
        *("often <n>", 3),
        *(5.0, 50.0),
    )
    assert often.example.letter_id == "c"
    assert (rare.count, rare.first_at, rare.last_at) == (1, 10.0, 20.0)


def test_causes_are_bounded_and_none_is_lost() -> None:
    def word(n: int) -> str:
        return "".join("abcdefghij"[int(digit)] for digit in str(n)) + "x"

    counted = tally(died(word(n)) for n in range(2 * MAX_CAUSES))
    causes = counted.causes()
    assert len(causes) == MAX_CAUSES + 1
    assert sum(each.count for each in causes) == counted.total == 2 * MAX_CAUSES
    assert causes[0].cause.error == "(of many other causes)"
