"""When schedules fire."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seawall.errors import Misconfigured
from seawall.messaging.ticks import LATE, Cron, Every, Ticks, due, ticks_of

TIMES = st.floats(1.6e9, 1.9e9)


def at(text: str) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()


def times(ticks: Ticks, start: str, count: int) -> list[str]:
    found, now = [], at(start)
    for _ in range(count):
        now = ticks.after(now)
        found.append(datetime.fromtimestamp(now, UTC).strftime("%d %H:%M"))
    return found


@pytest.mark.parametrize(
    "ticks",
    [Every(1), Every(30), Every(86_400), Cron("*/5 * * * *"), Cron("30 2 * * *", "Europe/Berlin")],
    ids=repr,
)
@given(now=TIMES)
def test_the_last_tick_and_the_next_one_have_the_time_between_them(
    ticks: Ticks, now: float
) -> None:
    last, following = ticks.until(now), ticks.after(now)
    assert last <= now < following
    assert ticks.after(last) == following
    assert ticks.until(following) == following
    assert ticks.until(following - 0.001) == last


def test_a_time_that_does_not_exist_fires_right_after_it() -> None:
    nightly = Cron("30 2 * * *", "Europe/Berlin")
    assert times(nightly, "2026-03-27T12:00", 3) == ["28 01:30", "29 01:00", "30 00:30"]


def test_a_time_that_exists_twice_fires_once() -> None:
    nightly = Cron("30 2 * * *", "Europe/Berlin")
    assert times(nightly, "2026-10-24T12:00", 2) == ["25 00:30", "26 01:30"]
    often = Cron("*/30 * * * *", "Europe/Berlin")
    assert times(often, "2026-10-24T23:45", 5) == [
        *("25 00:00", "25 00:30", "25 01:00", "25 01:30", "25 02:00")
    ]


def test_what_is_due() -> None:
    hourly = Every(3600)
    last, now = at("2026-01-01T10:00"), at("2026-01-01T12:30")
    noon = at("2026-01-01T12:00")
    assert due(hourly, last, noon, "skip") == noon
    assert due(hourly, last, noon + LATE, "skip") == noon
    assert due(hourly, last, now, "skip") is None  # missed
    assert due(hourly, last, now, "once") == noon  # the last of those that were missed
    assert due(hourly, noon, now, "once") is None


@pytest.mark.parametrize(
    "wrong",
    [
        *((None, None, "UTC"), ("* * * * *", 5.0, "UTC"), (None, 0.1, "UTC"), ("* * *", None, "")),
        *(("61 * * * *", None, "UTC"), ("* * * * *", None, "Europe/Nowhere")),
    ],
)
def test_nonsense_is_refused(wrong: tuple[str | None, float | None, str]) -> None:
    with pytest.raises(Misconfigured):
        ticks_of(*wrong)
