"""The drawings in docs/states are what the transition tables say."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def check() -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, str(ROOT / "scripts" / "draw_states.py"), "--check"],
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_drawings_are_current() -> None:
    found = check()
    assert found.returncode == 0, found.stderr


@pytest.mark.parametrize("page", ["breaker", "instance", "replica", "saga", "saga-step"])
def test_each_drawing_has_a_diagram_and_a_table(page: str) -> None:
    text = (ROOT / "docs" / "states" / f"{page}.md").read_text()
    assert "stateDiagram-v2" in text
    assert "[*] -->" in text
    assert "|---|" in text
