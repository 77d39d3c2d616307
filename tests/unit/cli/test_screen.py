import argparse
import io
import json

import pytest

from seawall.cli.screen import Paint, coloured, duration, is_routine, log_text, megabytes, table

PLAIN, BRIGHT = Paint(False), Paint(True)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def _options(**values: bool) -> argparse.Namespace:
    return argparse.Namespace(**values)


def test_colours_are_for_terminals_and_those_who_want_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("NO_COLOR", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)
    assert coloured(_options(), Terminal())
    assert not coloured(_options(), io.StringIO())
    assert not coloured(_options(no_color=True), Terminal())
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert coloured(_options(), io.StringIO())
    monkeypatch.setenv("NO_COLOR", "1")
    assert not coloured(_options(), Terminal())


def test_json_logs_are_made_readable() -> None:
    line = json.dumps({"severity": "ERROR", "body": "no stock", "exception.stacktrace": "Trace"})
    assert log_text("orders-1", line, PLAIN, 9) == "orders-1  | ERROR no stock\nTrace"
    assert log_text("a", '{"other": 1}', PLAIN, 1) == 'a | {"other": 1}'
    assert log_text("a", "{no json", PLAIN, 1) == "a | {no json"


def test_requests_are_one_line_each_and_only_failed_ones_are_news() -> None:
    access = (
        '{"event.name":"access","method":"GET","path":"/x","status":%d,"flags":"%s",'
        '"duration_ms":1.5,"instance":"%s"}'
    )
    fine, failed = access % (200, "-", "orders-1"), access % (503, "UO", "")
    assert log_text("g", fine, PLAIN, 1) == "g | 200 GET /x 1.5 ms orders-1"
    assert log_text("g", failed, PLAIN, 1) == "g | 503 GET /x 1.5 ms - UO"
    assert (is_routine(fine), is_routine(failed), is_routine("hello")) == (True, False, False)


def test_a_service_that_comes_and_goes_is_no_news() -> None:
    record = {"severity": "INFO", "body": "a is ready", "logger": "seawall.service"}
    assert is_routine(json.dumps(record))
    assert not is_routine(json.dumps(record | {"severity": "WARN"}))
    assert not is_routine(json.dumps(record | {"logger": "shop.orders"}))


def test_a_service_cannot_write_on_our_screen() -> None:
    shown = log_text(
        "a", "red \x1b[31mtext\x1b[0m, clear \x1b[2J, bell \x07, title \x1b]0;x", PLAIN, 1
    )
    assert shown == "a | red \x1b[31mtext\x1b[0m, clear ?[2J, bell ?, title ?]0;x"
    line = json.dumps({"severity": "INFO", "body": "\x1b[2J"})
    assert "\x1b" not in log_text("a", line, PLAIN, 1)


def test_an_instance_keeps_its_colour() -> None:
    assert BRIGHT.name("orders-1", 8) == BRIGHT.name("orders-1", 8)
    assert BRIGHT.name("orders-1", 8).startswith("\x1b[")


def test_columns_are_aligned_whatever_their_colour() -> None:
    shown = table(("NAME", "N"), [[BRIGHT("a", 31), "5"], ["bcdefg", "1234"]], PLAIN)
    assert shown.splitlines() == ["NAME       N", "\x1b[31ma\x1b[0m          5", "bcdefg  1234"]


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(0.4, "0 s"), (59, "59 s"), (61, "1 m 1 s"), (3700, "1 h 1 m"), (90000, "1 d 1 h")],
)
def test_durations(seconds: float, shown: str) -> None:
    assert duration(seconds) == shown


def test_sizes() -> None:
    assert (megabytes(None), megabytes(50 * 1024 * 1024)) == ("-", "50 MB")
