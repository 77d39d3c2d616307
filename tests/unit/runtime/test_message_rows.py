"""What the admin API says of messages."""

import math
from base64 import b64decode

import pytest

from seawall.errors import Misconfigured, Unavailable
from seawall.messaging.base import Caps, Durability, Lag, Message, Subscription, Waiting
from seawall.registry.pauses import Pause
from seawall.runtime.message_rows import PREVIEW, error_row, queue_row, rates, waiting_row

SUB = Subscription("t", "g")


def lag(published: int | None, taken: int | None) -> Lag:
    return Lag(1, 2, 3, 4, 5.0, published, taken)


@pytest.mark.parametrize(
    ("before", "after", "seconds", "expected"),
    [
        (lag(10, 5), lag(30, 10), 2.0, (10.0, 2.5)),
        (lag(10, 5), lag(10, 5), 1.0, (0.0, 0.0)),
        (lag(30, 10), lag(2, 1), 1.0, (0.0, 0.0)),  # a server that lost everything
        (lag(None, 5), lag(30, None), 1.0, (None, None)),
        (lag(10, 5), lag(30, 10), 0.0, (None, None)),
    ],
)
def test_rates_are_growth_over_time(
    before: Lag, after: Lag, seconds: float, expected: tuple[float | None, float | None]
) -> None:
    assert rates(before, after, seconds) == expected


def _caps(*, counts_delayed: bool = True) -> Caps:
    return Caps(
        durability=Durability.OS,
        ordered=False,
        native_delay=True,
        replay=True,
        max_body=1,
        counts_delayed=counts_delayed,
    )


def test_what_a_broker_does_not_tell_is_null() -> None:
    told = Lag(1, 2, 0, 4, math.nan)
    row = queue_row(SUB, told, _caps(counts_delayed=False), (None, None), None, {"b", "a"})
    assert (row["delayed"], row["oldest_age_s"], row["paused"]) == (None, None, None)
    assert row["services"] == ["a", "b"]


def test_a_pause_says_since_when_and_by_whom() -> None:
    pause = Pause("t", "g", 12.5, by="jo")
    row = queue_row(SUB, lag(1, 1), _caps(), (1.0, 2.0), pause, set())
    assert row["paused"] == {"since": 12.5, "by": "jo", "why": None}
    assert (row["delayed"], row["oldest_age_s"]) == (3, 5.0)


def test_a_long_body_is_shown_in_part() -> None:
    text = ("a" + "ż" * PREVIEW).encode()  # cut in the middle of a letter
    body = waiting_row(Waiting(Message("m", text), 0, 1.0))["body"]
    assert (body["size"], body["truncated"]) == (len(text), True)
    assert text.decode().startswith(body["text"])
    assert b64decode(body["base64"]) == text[:PREVIEW]


def test_bytes_are_no_text() -> None:
    body = waiting_row(Waiting(Message("m", b"\xff" * 2 * PREVIEW), 0, 1.0))["body"]
    assert (body["text"], body["truncated"]) == (None, True)


def test_errors_in_the_middle_say_how_to_fix_them() -> None:
    assert error_row(Misconfigured("no", fix="yes")) == {
        "code": "Misconfigured",
        "message": "no",
        "fix": "yes",
    }
    assert error_row(Unavailable("away"))["fix"] is None
