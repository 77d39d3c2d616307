import pytest

from seawall.cli.canary import line, percentage, seconds
from seawall.cli.failure import Failure


@pytest.mark.parametrize(("text", "share"), [("10%", 0.1), ("0.5", 0.005), ("99%", 0.99)])
def test_a_part_of_the_requests(text: str, share: float) -> None:
    assert percentage(text) == pytest.approx(share)


@pytest.mark.parametrize(("text", "time"), [("60", 60), ("90s", 90), ("5m", 300), ("1h", 3600)])
def test_a_time(text: str, time: float) -> None:
    assert seconds(text) == time


@pytest.mark.parametrize("text", ["", "0", "soon", "-1s", "2d", "25h", "nan"])
def test_what_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(Failure):
        seconds(text)


@pytest.mark.parametrize("text", ["", "0", "100%", "some", "-1%", "nan"])
def test_what_is_no_part_is_refused(text: str) -> None:
    with pytest.raises(Failure):
        percentage(text)


def test_a_step_in_a_line() -> None:
    outcome = {"requests": 900, "failed": 1, "mean_s": 0.0021}
    step = {
        "service": "orders",
        "version": "1.3.0-canary",
        "verdict": "promoted",
        "reason": "100 requests, 0 failed",
        "stable": outcome,
        "canary": {"requests": 100, "failed": 0, "mean_s": 0.002},
    }
    assert line(step) == (
        "orders 1.3.0-canary: promoted, 100 requests, 0 failed (2.0 ms a request;"
        " the old ones: 900 requests, 1 failed, 2.1 ms)"
    )
    watching = {**step, "verdict": "watching", "reason": "10.0% of the requests"}
    assert line(watching) == "orders 1.3.0-canary: watching, 10.0% of the requests"
