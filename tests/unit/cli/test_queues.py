"""Queues on a screen."""

from typing import Any

import pytest

from seawall.cli.failure import Failure
from seawall.cli.moments import ago, full_time, moment
from seawall.cli.queues import render, render_peek, render_show
from seawall.cli.screen import Paint

NOW = 1_800_000_000.0
PLAIN = Paint(False)


def queue(**changed: Any) -> dict[str, Any]:
    return {
        "topic": "order.placed",
        "group": "mail",
        "services": ["mail"],
        "ready": 1200,
        "in_flight": 3,
        "delayed": 0,
        "dead": 0,
        "oldest_age_s": 65.0,
        "published_per_s": 12.5,
        "taken_per_s": 3.0,
        "paused": None,
        **changed,
    }


def shown(*queues: dict[str, Any], known: bool = True) -> list[str]:
    answer = {"queues": list(queues), "pauses_known": known}
    return render(answer, PLAIN, NOW).splitlines()


def test_a_line_for_each_group() -> None:
    assert [line.split() for line in shown(queue(), queue(group="stock"))] == [
        *(["TOPIC", "/", "GROUP", "READY", "FLIGHT", "LATER", "DEAD", "OLDEST", "IN/S", "OUT/S"],),
        *(["order.placed", "/", "mail", "1200", "3", "0", "0", "1", "m", "12.5", "3"],),
        *(["order.placed", "/", "stock", "1200", "3", "0", "0", "1", "m", "12.5", "3"],),
    ]


def test_what_the_broker_does_not_tell_is_a_dash() -> None:
    _, row = shown(queue(delayed=None, oldest_age_s=None, published_per_s=None, taken_per_s=None))
    assert row.split()[3:] == ["1200", "3", "-", "0", "-", "-", "-"]


def test_long_names_and_large_numbers_keep_to_80_columns() -> None:
    lines = shown(
        queue(
            topic="a" * 200,
            ready=1_000_000,
            in_flight=10_000,
            delayed=100_000,
            dead=99_999,
            oldest_age_s=86_400 * 30.0,
            published_per_s=12_345.6,
            taken_per_s=12_345.6,
        )
    )
    assert lines[1].split()[1:] == [
        *("1000000", "10000", "100000", "99999", "30", "d", "12346", "12346")
    ]
    assert max(map(len, shown(queue(topic="a" * 200))[:2])) <= 80


def test_who_paused_it_and_what_is_dead_is_noted_below() -> None:
    paused = {"since": NOW - 120, "by": "jo@desk", "why": "bank is down"}
    lines = shown(queue(paused=paused, dead=4))
    assert lines[-2:] == [
        "paused: order.placed / mail, for 2 m by jo@desk (bank is down)",
        "seawall dlq ls says what the dead letters died of",
    ]


def test_that_pauses_are_not_known_is_said() -> None:
    assert "--registry" in shown(queue(), known=False)[-1]
    assert shown() == ["nobody consumes anything yet"]


def test_one_queue_with_all_that_is_known() -> None:
    lines = render_show({"queues": [queue(services=[])]}, PLAIN, NOW).splitlines()
    assert lines[0] == "order.placed / mail"
    assert "  consumed by  nobody that runs" in lines
    assert "  state        running" in lines
    assert "  published    12.5 a second" in lines


def test_peek_shows_messages_in_their_order() -> None:
    def message(name: str, attempts: int) -> dict[str, Any]:
        body = {"size": 2, "truncated": False, "text": "hi", "base64": "aGk="}
        return {
            "message_id": name,
            "attempts": attempts,
            "published_at": NOW - 60,
            "body": body,
        }

    answer = {"topic": "t", "group": "g", "messages": [message("a", 2), message("b", 0)]}
    assert render_peek(answer, PLAIN, NOW).splitlines()[1:] == [
        *("", "a  published 1 m ago, tried 2 times", "  hi"),
        *("", "b  published 1 m ago", "  hi"),
    ]
    assert render_peek({**answer, "messages": []}, PLAIN, NOW) == "t / g: nothing is ready"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("30s", NOW - 30),
        ("1.5h", NOW - 5400),
        ("3d", NOW - 259_200),
        ("2027-01-15T08:00:00", NOW),
        ("2027-01-15T09:00:00+01:00", NOW),
    ],
)
def test_moments_are_ago_or_iso(text: str, expected: float) -> None:
    assert moment(text, NOW) == expected


@pytest.mark.parametrize("text", ["", "soon", "3 weeks", "-1h"])
def test_anything_else_is_no_time(text: str) -> None:
    with pytest.raises(Failure, match="no time"):
        moment(text, NOW)


@pytest.mark.parametrize(
    ("at", "expected"),
    [(None, "-"), (NOW, "0 s"), (NOW + 5, "0 s"), (NOW - 90, "2 m"), (NOW - 7200, "2 h")],
)
def test_ago(at: float | None, expected: str) -> None:
    assert ago(at, NOW) == expected
    assert full_time(None) == "not known"
