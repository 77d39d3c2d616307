"""Every promise in docs/delivery-guarantees.md names tests that show it, and they exist."""

import ast
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "delivery-guarantees.md"
_NAMED = re.compile(r"`(tests/[\w/]+\.py)::(\w+)`")
_SHOWN = re.compile(r"^\| promise \| shown by \|\n\|---\|---\|\n((?:\|.*\n)+)", re.MULTILINE)

TEXT = PAGE.read_text(encoding="utf-8")
NAMED = sorted(set(_NAMED.findall(TEXT)))
PROMISES = [row for table in _SHOWN.findall(TEXT) for row in table.splitlines()]


@cache
def _names_in(file: str) -> frozenset[str]:
    tree = ast.parse((ROOT / file).read_text(encoding="utf-8"))
    kinds = ast.FunctionDef | ast.AsyncFunctionDef
    return frozenset(node.name for node in tree.body if isinstance(node, kinds))


def test_there_are_promises() -> None:
    assert len(PROMISES) > 20


@pytest.mark.parametrize("row", PROMISES)
def test_a_promise_is_shown(row: str) -> None:
    assert _NAMED.search(row.split("|")[2])


@pytest.mark.parametrize(("file", "name"), NAMED)
def test_what_shows_it_exists(file: str, name: str) -> None:
    assert name in _names_in(file)
