import argparse

import pytest

from seawall.cli.call import _body, _target, header
from seawall.cli.failure import Failure


def _words(method: str, path: str | None = None, body: str | None = None) -> argparse.Namespace:
    return argparse.Namespace(method=method, path=path, body=body)


def test_a_path_alone_is_a_get() -> None:
    assert _target(_words("/orders/7")) == ("GET", "/orders/7", None)
    assert _target(_words("post", "/orders", "{}")) == ("POST", "/orders", "{}")


@pytest.mark.parametrize("words", [("POST",), ("FETCH", "/x"), ("GET", "orders")])
def test_what_is_neither_is_refused(words: tuple[str, ...]) -> None:
    with pytest.raises(Failure) as told:
        _target(_words(*words))
    assert told.value.status == 2


def test_bodies_come_from_words_or_files(tmp_path: object) -> None:
    assert _body('{"a": 1}') == b'{"a": 1}'
    with pytest.raises(Failure):
        _body(f"@{tmp_path}/missing.json")


def test_headers_have_a_name() -> None:
    assert header("Accept:  text/plain ") == ("Accept", "text/plain")
    with pytest.raises(Failure):
        header("no colon")
