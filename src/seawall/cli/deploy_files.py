"""Files that `seawall deploy` makes: written, compared, deleted when they are made no longer."""

import difflib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from seawall.cli.failure import Failure

# How every file of ours begins; others in the folder are left alone.
_OURS = "# Made by `seawall deploy"


@dataclass(frozen=True, slots=True)
class Change:
    path: str
    text: str  # a unified diff


def stored(folder: str, tree: Mapping[str, str], *, clear: bool) -> list[str]:
    """Write all. With `clear`, what was made before and is no longer is deleted; its paths."""
    root = Path(folder)
    try:
        for path, text in tree.items():
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            (root / path).write_text(text, encoding="utf-8")
        gone = sorted(_made(root).keys() - tree.keys()) if clear else []
        for path in gone:
            (root / path).unlink()
    except OSError as exc:
        raise Failure(f"{exc.filename or root} was not written: {exc.strerror or exc}") from exc
    return gone


def differing(folder: str, tree: Mapping[str, str], *, clear: bool) -> list[Change]:
    """What `stored` would change."""
    root = Path(folder)
    before = _made(root) if clear else {path: _text(root / path) or "" for path in tree}
    changes = []
    for path in sorted(before.keys() | tree.keys()):
        old, new = before.get(path, ""), tree.get(path, "")
        if old != new:
            names = path if old else "/dev/null", path if new else "/dev/null"
            lines = difflib.unified_diff(
                old.splitlines(keepends=True), new.splitlines(keepends=True), *names
            )
            changes.append(Change(path, "".join(lines)))
    return changes


def _made(root: Path) -> dict[str, str]:
    return {str(path.relative_to(root)): text for path, text in _texts(root)}


def _texts(root: Path) -> Iterator[tuple[Path, str]]:
    for path in sorted(root.rglob("*")):
        text = _text(path)
        if text is not None and is_ours(text):
            yield path, text


def _text(path: Path) -> str | None:
    """None where there is no file, or none with text in it."""
    try:
        return path.read_text(encoding="utf-8") if path.is_file() else None
    except UnicodeDecodeError:
        return None


def is_ours(text: str) -> bool:
    return text.startswith(_OURS)
