import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seawall.errors import Misconfigured
from seawall.gateway.actions import Edits, Redirect, RegexRewrite, Respond
from seawall.gateway.config import Route
from seawall.gateway.paths import Substitution
from seawall.gateway.reshaping import Editor, Rewriter
from seawall.wire.target import is_canonical, split_target


@pytest.mark.parametrize(
    ("route", "to", "path", "sent"),
    [
        (Route(service="a", path="/api"), "/", b"/api/x", b"/x"),
        (Route(service="a", path="/api"), "/", b"/api", b"/"),
        (Route(service="a", path="/api"), "/v1", b"/api/x/", b"/v1/x/"),
        (Route(service="a", path="/"), "/v1", b"/x", b"/v1/x"),
        (Route(service="a", path="/api/"), "/v1/", b"/api/x", b"/v1/x"),
        (Route(service="a", path="/api", exact=True), "/x", b"/api", b"/x"),
        (Route(service="a", path="/u/{id}"), "/{id}/u", b"/u/7/x/y", b"/7/u/x/y"),
        (Route(service="a", path="/u/{id}"), "/{id}/", b"/u/7", b"/7"),
        (Route(service="a", path="/{a}/{b}", exact=True), "/{b}-{a}-{b}", b"/1/2", b"/2-1-2"),
        (Route(service="a", path="/u/{id}", exact=True), "/v", b"/u/%20", b"/v"),
        (Route(service="a", path="/u/(?P<id>[0-9]+)x", regex=True), "/{id}", b"/u/12x", b"/12"),
        (Route(service="a", path="/u(/(?P<id>.*))?", regex=True), "/v/{id}", b"/u", b"/v/"),
    ],
)
def test_the_matched_part_is_rewritten(route: Route, to: str, path: bytes, sent: bytes) -> None:
    assert Rewriter(route, to).rewritten(path) == sent


@pytest.mark.parametrize(
    ("pattern", "to", "path", "sent"),
    [
        (r"^/v1/(.*)$", r"/\1", b"/v1/x/y", b"/x/y"),
        (r"/old", r"/new", b"/a/old/old", b"/a/new/old"),
        (r"/old", r"/new", b"/x", b"/x"),
        (r"([a-z]+)/([0-9]+)", r"\2-\1-\0", b"/ab/12/", b"/12-ab-ab/12/"),
        (r"(x)|(y)", r"[\1\2]", b"/y", b"/[y]"),
        (r"a", r"\\", b"/a", b"/\\"),
    ],
)
def test_the_first_match_is_substituted(pattern: str, to: str, path: bytes, sent: bytes) -> None:
    assert Substitution(pattern, to).replaced(path) == sent


@pytest.mark.parametrize(
    ("pattern", "to"), [("(", ""), ("a", r"\1"), ("(a)", r"\2"), ("a", "é"), ("a", r"\0" * 17)]
)
def test_a_substitution_that_cannot_be_is_refused(pattern: str, to: str) -> None:
    with pytest.raises(Misconfigured):
        RegexRewrite(pattern=pattern, to=to)


def test_a_pattern_without_its_engine_is_refused_with_what_to_do() -> None:
    """In a process of its own, where the module cannot be imported."""
    code = (
        "import sys; sys.modules['re2'] = None\n"
        "from seawall.gateway.config import Route\n"
        "Route(service='a', path='/{id}')\n"
        "Route(service='a', path='/[a-z]', regex=True)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "fix: pip install 'seawall[regex]'" in done.stderr


def test_a_pattern_that_backtracking_never_ends_is_answered() -> None:
    """Python's `re` takes 2^n steps for n letters here."""
    assert Substitution(r"(a|a)*$", "x").replaced(b"/" + b"a" * 4000 + b"!") == (
        b"/" + b"a" * 4000 + b"!x"
    )


@given(st.text("ab/.%2e\\", max_size=30), st.sampled_from([r"/\1", r"/x\1/y", r"\1\1", r"/%\1"]))
def test_what_a_rewrite_made_is_told_apart(tail: str, to: str) -> None:
    path = Substitution(r"^/(.*)", to).replaced(b"/" + tail.encode())
    try:
        clean = split_target(path)[0]
    except ValueError:
        assert not is_canonical(path)
    else:
        assert is_canonical(path) == (path == clean)


def test_fields_are_removed_then_set_then_added() -> None:
    lines = [b"A: 1", b"b: 2", b"B: 3", b"c:4"]
    edits = Edits(remove=("a", "X"), set={"B": "5"}, add={"C": "6"})
    assert Editor(edits).edited(lines) == [b"c:4", b"b: 5", b"c: 6"]
    assert Editor(Edits(add={"d": ""})).edited(lines) == [*lines, b"d: "]


@pytest.mark.parametrize(
    "wrong",
    [
        {},
        {"scheme": "ftp"},
        {"host": "a b"},
        {"host": "a\r\nb"},
        {"host": "a:80"},
        {"port": 0},
        {"path": "x"},
        {"path": "/a/../b"},
        {"path": "/a\r\nb: c"},
        {"host": "a", "status": 200},
    ],
)
def test_a_redirect_that_leads_nowhere_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(Misconfigured):
        Redirect(**wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "wrong",
    [
        {"status": 100},
        {"status": 299},
        {"status": 204, "body": "x"},
        {"body": "x" * 65 * 1024},
        {"content_type": "a\r\nb: c"},
    ],
)
def test_an_answer_that_cannot_be_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(Misconfigured):
        Respond(**wrong)  # type: ignore[arg-type]
