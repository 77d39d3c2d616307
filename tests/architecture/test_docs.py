"""What the documents show is run: every `python` and `sh` block of README.md and docs/.

A `python` block runs as a script of its own; one marked `python extract` is a piece of something
longer, and only compiled. The `sh` blocks of a page run in their order, in a folder that begins
empty, where blocks marked `file=NAME` are written as the page comes to them.
"""

import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent
_FILE = re.compile(r"file=(\S+)")
_BLOCK = re.compile(r"^```([^\n]*)\n(.*?)^```", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Block:
    file: str
    line: int
    info: str
    text: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}"


def blocks() -> list[Block]:
    found = []
    for path in [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]:
        text = path.read_text(encoding="utf-8")
        for match in _BLOCK.finditer(text):
            line = text.count("\n", 0, match.start()) + 1
            found.append(Block(str(path.relative_to(ROOT)), line, match[1].strip(), match[2]))
    return found


BLOCKS = blocks()


def test_every_block_says_what_it_is() -> None:
    assert [str(block) for block in BLOCKS if not block.info] == []


@pytest.mark.timeout(60)
@pytest.mark.parametrize("block", [b for b in BLOCKS if b.info == "python"], ids=str)
def test_python_runs(block: Block, tmp_path: Path) -> None:
    (tmp_path / "example.py").write_text(block.text)
    _run([sys.executable, "-W", "error", "example.py"], tmp_path)


@pytest.mark.parametrize("block", [b for b in BLOCKS if b.info == "python extract"], ids=str)
def test_extract_compiles(block: Block) -> None:
    compile(block.text, str(block), "exec", flags=0x2000)  # ast.PyCF_ALLOW_TOP_LEVEL_AWAIT


@pytest.mark.timeout(300)  # of some thirty commands, where each takes ten times as long
@pytest.mark.parametrize("page", sorted({b.file for b in BLOCKS if b.info == "sh"}))
def test_story_runs(page: str, tmp_path: Path) -> None:
    try:
        for block in (b for b in BLOCKS if b.file == page):
            if name := _FILE.search(block.info):
                (tmp_path / name[1]).write_text(block.text)
            elif block.info == "sh":
                _run(["sh", "-eu", "-c", block.text], tmp_path)
    finally:
        if (tmp_path / ".seawall").exists():  # a story that failed half-way leaves nothing running
            _run(["seawall", "down"], tmp_path)


def _run(command: list[str], folder: Path) -> None:
    environment = {**os.environ, "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}"}
    done = subprocess.run(
        command,
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
