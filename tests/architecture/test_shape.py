"""The shape of the code: small modules, docstrings at the top, names that say something."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src" / "seawall"
MODULES = sorted(SOURCE.rglob("*.py"))

# Above this a module is rarely one idea. Comments and docstrings are free, so that nobody pays
# for explaining.
MAX_CODE_LINES = 400

# Names that attract everything because they say nothing.
EMPTY_NAMES = {"util", "utils", "helper", "helpers", "common", "misc", "manager", "managers"}


def code_lines(path: Path) -> int:
    text = path.read_text(encoding="utf-8")
    explained = {
        line
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
        and ast.get_docstring(node, clean=False) is not None
        for line in range(node.body[0].lineno, (node.body[0].end_lineno or 0) + 1)
    }
    return sum(
        1
        for number, line in enumerate(text.splitlines(), start=1)
        if line.strip() and not line.strip().startswith("#") and number not in explained
    )


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(SOURCE)))
def test_module(path: Path) -> None:
    assert path.stem not in EMPTY_NAMES
    assert code_lines(path) <= MAX_CODE_LINES
    if path.stem != "version":
        assert ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))


def test_every_package_has_a_page() -> None:
    packages = {path.parent.name for path in SOURCE.glob("*/__init__.py")}
    # These are described where they are used: configuration, service, gateway and messaging.
    packages -= {"concurrency", "spec", "transport", "wire"}
    pages = {page.stem for page in (ROOT / "docs").glob("*.md")}
    assert packages - pages == set()
