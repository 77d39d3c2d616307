"""What stands in for an answer: as bytes, and what cannot."""

import pytest

from seawall.errors import Misconfigured
from seawall.gateway.answers import Flag
from seawall.gateway.fallback import MAX_BODY, Fallback, Prepared
from seawall.wire.http1 import scan_response

TOLD = b"x-fallback: UO\r\n"


def test_a_text_is_a_whole_answer() -> None:
    prepared = Prepared(Fallback(status=203, body="später", headers={"Age": "1"}), None)
    data = prepared.answer(TOLD, b"id", head_only=False, close=True)
    end = data.index(b"\r\n\r\n") + 4
    head = scan_response(data, end, b"GET")
    assert (head.status, head.body, head.keep_alive) == (203, 7, False)
    assert data[end:] == "später".encode()
    assert head.value(b"x-fallback") == b"UO"
    assert b"\r\nx-request-id: id\r\n" in data
    assert head.value(b"age") == b"1"


@pytest.mark.parametrize("status", [204, 304])
def test_some_statuses_have_no_body(status: int) -> None:
    data = Prepared(Fallback(status=status), None).answer(TOLD, b"id", head_only=False, close=False)
    assert data.endswith(b"\r\n\r\n")
    assert b"content-" not in data


def test_the_answer_to_head_has_a_length_and_no_body() -> None:
    data = Prepared(Fallback(body="[]"), None).answer(TOLD, b"id", head_only=True, close=False)
    assert b"content-length: 2\r\n" in data
    assert data.endswith(b"\r\n\r\n")


def test_an_unknown_status_has_a_phrase_all_the_same() -> None:
    data = Prepared(Fallback(status=599), None).answer(b"", b"id", head_only=False, close=False)
    assert data.startswith(b"HTTP/1.1 599 Fallback\r\n")


def test_words_stand_for_flags_and_numbers_for_answers() -> None:
    prepared = Prepared(Fallback(on=("open", "timeout", "502")), None)
    assert prepared.flags == {Flag.UPSTREAM_OVERFLOW, Flag.SHED, Flag.UPSTREAM_TIMEOUT}
    assert prepared.statuses == {502}


@pytest.mark.parametrize(
    "wrong",
    [
        {"on": ("404",)},
        {"on": ("never",)},
        {"status": 100},
        {"service": "spare", "body": "text"},
        {"service": "spare", "status": 204},
        {"body": "x" * (MAX_BODY + 1)},
        {"headers": {"Content-Length": "1"}},
        {"headers": {"x-fallback": "no"}},
        {"headers": {"a b": "c"}},
        {"headers": {"a": "b\r\nc: d"}},
        {"content_type": "text/plain\n"},
    ],
)
def test_what_cannot_be_meant_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(Misconfigured):
        Fallback(**wrong)  # type: ignore[arg-type]  # by name
