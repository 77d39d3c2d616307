"""Dead letters on a screen, and their bodies edited."""

import json
from base64 import b64decode, b64encode
from typing import Any

import pytest

from seawall.cli.bodies import body_lines
from seawall.cli.dlq import _did, _followed, _would
from seawall.cli.dlq_edit import edited, with_fields
from seawall.cli.dlq_screen import render_causes, render_letters, render_whole
from seawall.cli.failure import Failure
from seawall.cli.screen import Paint

NOW = 1_800_000_000.0
PLAIN = Paint(False)


def cause(**changed: Any) -> dict[str, Any]:
    return {
        "topic": "order.placed",
        "group": "mail",
        "reason": "exhausted",
        "error": "ConnectionError: <address> refused",
        "place": "mail.py send",
        "count": 12,
        "first_at": NOW - 7200,
        "last_at": NOW - 180,
        "example": "1795659338063-0",
        **changed,
    }


def body(data: bytes, **changed: Any) -> dict[str, Any]:
    try:
        text: str | None = data.decode()
    except UnicodeDecodeError:
        text = None
    coded = b64encode(data).decode()
    return {"size": len(data), "truncated": False, "text": text, "base64": coded, **changed}


def letter(**changed: Any) -> dict[str, Any]:
    return {
        "id": "1795659338063-0",
        "message_id": "m-1",
        "topic": "order.placed",
        "group": "mail",
        "reason": "exhausted",
        "error": "ConnectionError: 10.0.0.1 refused",
        "stack": '  File "/app/mail.py", line 3, in send',
        "attempts": 10,
        "failed_at": NOW - 7200,
        "died_at": NOW - 180,
        "edited_at": None,
        "key": "k",
        "headers": {"ce-type": "order.placed"},
        "body": body(b'{"a":{"b":1}}'),
        **changed,
    }


def test_a_cause_says_how_often_what_where_and_since_when() -> None:
    answer = {"total": 12, "groups": 1, "causes": [cause()]}
    shown = render_causes(answer, PLAIN, NOW).splitlines()
    assert shown[:3] == [
        "    12 x exhausted  order.placed / mail",
        "         ConnectionError: <address> refused",
        "         2 h to 3 m ago, e.g. 1795659338063-0  in mail.py send",
    ]
    assert "12 dead, of 1 cause" in shown
    assert "look at one: seawall dlq show 1795659338063-0" in shown


def test_a_long_error_keeps_to_80_columns() -> None:
    answer = {"total": 1, "groups": 1, "causes": [cause(error="word " * 200)]}
    assert max(map(len, render_causes(answer, PLAIN, NOW).splitlines())) <= 80


def test_nothing_is_dead() -> None:
    assert render_causes({"total": 0, "groups": 3, "causes": []}, PLAIN, NOW) == (
        "no dead letters (3 groups looked at)"
    )


def test_single_letters_have_their_error_below_and_say_how_many_more_there_are() -> None:
    answer = {"total": 5, "groups": 1, "letters": [letter(error="word " * 100)]}
    shown = render_letters(answer, PLAIN, NOW).splitlines()
    assert shown[1].split() == [
        *("1795659338063-0", "exhausted", "10", "3", "m", "order.placed", "/", "mail")
    ]
    assert shown[2].startswith("  word word")
    assert shown[-1].startswith("4 more; --limit 5")
    assert max(map(len, shown)) <= 80


def test_a_whole_letter_says_all_that_is_known() -> None:
    shown = render_whole(letter(edited_at=NOW), PLAIN)
    for line in (
        "  message        m-1",
        "  first failure  2027-01-15 06:00:00.000 UTC",
        "  edited         2027-01-15 08:00:00.000 UTC",
        "  ConnectionError: 10.0.0.1 refused",
        '    File "/app/mail.py", line 3, in send',
        "  ce-type: order.placed",
        '      "b": 1',
    ):
        assert line in shown.splitlines()


def test_what_is_not_known_is_said_to_be() -> None:
    shown = render_whole(letter(failed_at=None, stack=None, headers={}, key=None), PLAIN)
    assert "  first failure  not known" in shown.splitlines()


def test_foreign_text_does_not_move_the_cursor() -> None:
    answer = {"total": 1, "groups": 1, "causes": [cause(error="a\x1b[2Jb")]}
    assert "\x1b" not in render_causes(answer, PLAIN, NOW)
    assert "\x1b" not in render_whole(letter(body=body(b"\x1b[2J")), PLAIN)


def test_bodies_are_json_text_or_bytes() -> None:
    assert body_lines(body(b'{"a":1}')) == ["{", '  "a": 1', "}"]
    assert body_lines(body("żółw".encode())) == ["żółw"]
    assert body_lines(body(b"")) == ["(an empty body)"]
    (line,) = body_lines(body(b"\x00\xffAB"))
    assert line.split() == ["000000", "00", "ff", "41", "42", "..AB"]
    assert body_lines(body(b"ab", truncated=True, size=9)) == ["ab", "… 9 bytes in all"]


# Editing


def test_fields_are_set_wherever_they_are() -> None:
    old = b'{"amount":1,"customer":{"mail":"a"}}'
    new = with_fields(old, ["amount=12", "customer.mail=b@c", "note.text=null", "flag=true"])
    assert json.loads(new) == {
        "amount": 12,
        "customer": {"mail": "b@c"},
        "note": {"text": None},
        "flag": True,
    }


@pytest.mark.parametrize(
    ("old", "field"),
    [(b"[1]", "a=1"), (b"no", "a=1"), (b"{}", "a"), (b"{}", ".a=1"), (b'{"a":1}', "a.b=1")],
)
def test_a_field_that_cannot_be_set_is_refused(old: bytes, field: str) -> None:
    with pytest.raises(Failure):
        with_fields(old, [field])


def test_json_stays_json(tmp_path: Any) -> None:
    file = tmp_path / "body"
    file.write_bytes(b"{broken")
    with pytest.raises(Failure, match="not JSON"):
        edited(body(b"{}"), [], str(file))
    coded = edited(body(b"\xff"), [], str(file))
    assert coded is not None
    assert b64decode(coded) == b"{broken"


def test_an_edit_that_changes_nothing_is_none(tmp_path: Any) -> None:
    file = tmp_path / "body"
    file.write_bytes(b"{}")
    assert edited(body(b"{}"), [], str(file)) is None


def test_two_ways_at_once_are_refused(tmp_path: Any) -> None:
    with pytest.raises(Failure, match="two different"):
        edited(body(b"{}"), ["a=1"], str(tmp_path))


@pytest.fixture
def editor(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    def use(script: str) -> None:
        program = tmp_path / "editor"
        program.write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
        program.chmod(0o755)
        monkeypatch.delenv("VISUAL", raising=False)
        monkeypatch.setenv("EDITOR", str(program))

    return use


def test_an_editor_sees_json_laid_out_and_it_is_stored_compactly(editor: Any) -> None:
    editor("""grep -q '^  "a": 1' "$1" && sed -i s/1/2/ "$1" """)
    coded = edited(body(b'{"a": 1}'), [], None)
    assert coded is not None
    assert b64decode(coded) == b'{"a":2}'


def test_an_editor_that_changes_nothing_or_fails_changes_nothing(editor: Any) -> None:
    editor("true")
    assert edited(body(b'{"a":1}'), [], None) is None
    editor("exit 3")
    with pytest.raises(Failure, match="ended with 3"):
        edited(body(b'{"a":1}'), [], None)


# Long work


def line(**changed: Any) -> dict[str, Any]:
    return {"what": "redrive", "dry_run": False, "done": 0, "total": 2, **changed}


GROUPS = [{"topic": "t", "group": "g", "count": 2}]


def test_the_last_line_counts_and_keeps_the_groups() -> None:
    lines = [line(groups=GROUPS), line(done=1), line(done=1, finished=True)]
    last = _followed(iter(lines), shown=False)
    assert (last["done"], last["groups"]) == (1, GROUPS)
    assert _did("redrive", last).startswith("1 dead letter sent again")
    assert _did("redrive", last).endswith("; 1 were gone already")
    assert _would("purge", last).splitlines() == [
        "2 dead letters would be deleted",
        "        2  t / g",
    ]


def test_work_that_ends_early_says_how_far_it_came() -> None:
    lines = [line(groups=GROUPS), line(done=1), line(done=1, finished=False, message="away")]
    with pytest.raises(Failure, match="away") as caught:
        _followed(iter(lines), shown=False)
    assert caught.value.why == "1 of 2 were done"


def test_work_whose_supervisor_goes_away_is_not_finished() -> None:
    with pytest.raises(Failure, match="went away"):
        _followed(iter([line()]), shown=False)
