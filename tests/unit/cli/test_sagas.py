from typing import Any

import pytest

from seawall.cli.main import main
from seawall.cli.sagas import listed, shown
from seawall.cli.screen import Paint

PLAIN = Paint(False)


def _saga(**changed: Any) -> dict[str, Any]:
    return {
        "id": "o-1",
        "name": "order",
        "version": 2,
        "phase": "stuck",
        "waits_for": ["confirm, attempt 9"],
        "reason": None,
        "started_at": 1000.0,
        "moved_at": 1100.0,
        "deadline_at": None,
        **changed,
    }


def _row(*sagas: dict[str, Any], **changed: Any) -> dict[str, Any]:
    answer = {"sagas": list(sagas), "counts": {"order": {"completed": 7, "stuck": 1}}}
    return {"service": "orders", "answer": answer, "error": None, **changed}


def test_a_line_for_each_saga_and_a_sum_for_each_kind() -> None:
    lines = listed([_row(_saga(reason="x" * 100))], 1160.0, PLAIN).splitlines()
    assert lines[1].split()[:5] == ["orders", "order", "v2", "o-1", "stuck"]
    assert "confirm, attempt 9  1 m 0 s  2 m 40 s" in " ".join(lines[1].split("   "))
    assert lines[1].endswith("x…")
    assert lines[2] == "orders order: 1 stuck, 7 completed"


def test_a_service_that_does_not_answer_hides_no_other() -> None:
    gone = _row(service="trips", answer=None, error="trips did not answer within 5 s")
    lines = listed([_row(), gone], 0.0, PLAIN).splitlines()
    assert lines == ["orders order: 1 stuck, 7 completed", "trips did not answer within 5 s"]


def test_nothing_to_list() -> None:
    assert listed([], 0.0, PLAIN) == "no service has sagas"


def test_one_saga_with_its_timeline() -> None:
    steps = [
        {"name": "reserve", "state": "done", "attempts": 1, "next_at": None, "open": False},
        {"name": "confirm", "state": "asked", "attempts": 9, "next_at": 1e9, "open": True},
    ]
    timeline = [{"at": 1000.0, "what": "started"}, {"at": 1000.25, "what": "reserve asked for"}]
    saga = _saga(steps=steps, timeline=timeline, reason="ana: why", deadline_at=2e9)
    text = shown("orders", saga, PLAIN)
    assert text.startswith("orders order v2 o-1: stuck\nturned back: ana: why\ndeadline: 2033")
    assert "confirm              asked, attempt 9, until 2001" in text
    assert "+0.250 s  reserve asked for" in text


@pytest.mark.parametrize(
    ("words", "fix"),
    [
        (["show"], "seawall sagas show ID"),
        (["fail", "o-1"], "--reason"),
        (["ls", "orders"], "ls --service orders"),
        (["ls", "--url", "orders:80"], "--url http://"),
    ],
)
def test_wrong_words(
    words: list[str],
    fix: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SEAWALL_OPERATOR_TOKEN", "t")
    assert main(["sagas", *words]) == 2
    assert fix in capsys.readouterr().err


def test_a_url_wants_a_token(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SEAWALL_OPERATOR_TOKEN", raising=False)
    assert main(["sagas", "ls", "--url", "http://orders"]) == 2
    assert "SEAWALL_OPERATOR_TOKEN_FILE" in capsys.readouterr().err
