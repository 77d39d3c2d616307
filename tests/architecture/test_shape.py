"""The shape of the code: small modules, docstrings at the top, names that say something."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src" / "seawall"
MODULES = sorted(SOURCE.rglob("*.py"))

# Above this a module is rarely one idea. Comments and docstrings are free, so that nobody pays
# for explaining.
MAX_CODE_LINES = 400

Documented = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef

# Names that attract everything because they say nothing.
EMPTY_NAMES = {"util", "utils", "helper", "helpers", "common", "misc", "manager", "managers"}


def code_lines(text: str, tree: ast.Module) -> int:
    explained = {
        line
        for node in _defined(tree)
        if ast.get_docstring(node, clean=False) is not None
        for line in range(node.body[0].lineno, (node.body[0].end_lineno or 0) + 1)
    }
    return sum(
        1
        for number, line in enumerate(text.splitlines(), start=1)
        if line.strip() and not line.strip().startswith("#") and number not in explained
    )


def _defined(node: ast.AST) -> Iterator[Documented]:
    """The module, classes and functions in it: what may have a docstring. Expressions hold none."""
    if isinstance(node, Documented):
        yield node
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.stmt | ast.excepthandler | ast.match_case):
            yield from _defined(child)


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(SOURCE)))
def test_module(path: Path) -> None:
    assert path.stem not in EMPTY_NAMES
    text = path.read_text(encoding="utf-8")
    tree = ast.parse(text)
    assert code_lines(text, tree) <= MAX_CODE_LINES
    if path.stem != "version":
        assert ast.get_docstring(tree)


def test_every_package_has_a_page() -> None:
    packages = {path.parent.name for path in SOURCE.glob("*/__init__.py")}
    # These are described where they are used: configuration, service, gateway and messaging.
    packages -= {"concurrency", "spec", "transport", "wire"}
    pages = {page.stem for page in (ROOT / "docs").glob("*.md")}
    assert packages - pages == set()
