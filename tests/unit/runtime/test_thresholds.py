import pytest

from seawall.errors import Misconfigured
from seawall.runtime.thresholds import Finding, ProbeConfig, Tally, on_beat

PASSED, FAILED = Finding.PASSED, Finding.FAILED


@pytest.mark.parametrize(
    ("success", "failure", "answers", "findings"),
    [
        (1, 3, "+", [PASSED]),
        (1, 3, "---", [None, None, FAILED]),
        (1, 3, "--+---", [None, None, PASSED, None, None, FAILED]),
        (2, 1, "-+-++", [FAILED, None, FAILED, None, PASSED]),
        (1, 1, "--+", [FAILED, FAILED, PASSED]),
    ],
)
def test_answers_in_a_row(
    success: int, failure: int, answers: str, findings: list[Finding | None]
) -> None:
    tally = Tally(ProbeConfig(success_threshold=success, failure_threshold=failure))
    assert [tally.heard(answer == "+") for answer in answers] == findings


def test_an_open_question_may_be_asked_again_sooner() -> None:
    tally = Tally(ProbeConfig(period=5.0, failure_threshold=2, again=0.0))
    assert tally.pause() == 5.0
    tally.heard(False)
    assert tally.pause() == 0.0
    tally.heard(False)
    assert tally.pause() == 5.0


@pytest.mark.parametrize(
    "wrong", [{"period": 0.0}, {"initial_delay": -1.0}, {"failure_threshold": 0}]
)
def test_what_makes_no_sense_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(Misconfigured):
        ProbeConfig(**wrong)  # type: ignore[arg-type]


def test_who_is_asked_at_about_the_same_time_is_asked_at_the_same_time() -> None:
    asked = {now + on_beat(now, 5.0) for now in (100.13, 100.2, 100.25, 100.37)}
    assert asked == {105.25}
    assert on_beat(105.2501, 5.0) == pytest.approx(4.9999)  # and no later each time


def test_what_is_to_come_soon_comes_when_it_is_due() -> None:
    assert [on_beat(100.1, pause) for pause in (0.0, 0.05, 0.9)] == [0.0, 0.05, 0.9]
