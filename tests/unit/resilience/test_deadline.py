import pytest
from hypothesis import given
from hypothesis import strategies as st

from seawall.resilience.deadline import HEADER, MAX_REMAINING, Deadline, tightest


def test_remaining_ends_at_zero() -> None:
    deadline = Deadline.after(2.0, now=100.0)
    assert deadline.remaining(100.5) == 1.5
    assert deadline.remaining(103.0) == 0.0
    assert not deadline.expired(101.999)
    assert deadline.expired(102.0)


def test_the_header_is_what_remains_less_an_allowance() -> None:
    deadline = Deadline.after(1.0, now=0.0)
    assert HEADER == "x-deadline-ms"
    assert deadline.to_header(0.25) == "745"
    assert deadline.to_header(0.25, allowance=0.0) == "750"
    assert deadline.to_header(0.999) == "0"
    assert deadline.to_header(7.0) == "0"


def test_reading_it_counts_from_our_own_now() -> None:
    assert Deadline.from_header("750", now=50.0) == Deadline(50.75)
    assert Deadline.from_header("0", now=50.0) == Deadline(50.0)


@pytest.mark.parametrize(
    "text",
    [
        "",
        " 5",
        "5 ",
        "5.0",
        "-1",
        "+1",
        "1e3",
        "0x10",
        "1_000",
        "\N{ARABIC-INDIC DIGIT FIVE}",
        "\N{SUPERSCRIPT TWO}",
        "abc",
        "9" * 17,
        "5\n",
    ],
)
def test_what_is_no_number_of_milliseconds_is_absent(text: str) -> None:
    assert Deadline.from_header(text, now=0.0) is None


def test_a_long_time_is_cut_to_an_hour() -> None:
    deadline = Deadline.from_header("9" * 16, now=0.0)
    assert deadline is not None
    assert deadline.remaining(0.0) == MAX_REMAINING == 3600.0


@given(st.floats(0, 3000), st.floats(0, 1e7))
def test_a_hop_never_gains_time(seconds: float, now: float) -> None:
    sent = Deadline.after(seconds, now)
    received = Deadline.from_header(sent.to_header(now), now)
    assert received is not None
    assert received.remaining(now) <= sent.remaining(now) + 1e-6


@given(st.text())
def test_no_text_breaks_it(text: str) -> None:
    deadline = Deadline.from_header(text, now=0.0)
    assert deadline is None or 0 <= deadline.remaining(0.0) <= MAX_REMAINING


def test_tightest_is_the_earlier_of_those_that_there_are() -> None:
    early, late = Deadline(1.0), Deadline(2.0)
    assert tightest(early, late) is early
    assert tightest(late, early) is early
    assert tightest(None, late) is late
    assert tightest(early, None) is early
    assert tightest(None, None) is None
