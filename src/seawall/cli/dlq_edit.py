"""A dead letter's new body: from an editor, from a file, or from single fields."""

import json
import os
import shlex
import subprocess
import sys
import tempfile
from base64 import b64decode, b64encode
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from seawall.cli.bodies import laid_out
from seawall.cli.failure import USAGE, Failure


def edited(body: Mapping[str, Any], fields: Sequence[str], file: str | None) -> str | None:
    """The new body in base64; None if it is the old one."""
    old = b64decode(body["base64"])
    if fields and file is not None:
        raise Failure("--set and --body say two different things", status=USAGE)
    if file is not None:
        new = sys.stdin.buffer.read() if file == "-" else _read(Path(file))
    elif fields:
        new = with_fields(old, fields)
    else:
        new = _from_editor(old)
    if _is_json(old) and not _is_json(new):
        raise Failure(
            "the new body is not JSON, and the old one was",
            why="its consumer could not read it; nothing was changed",
            fix="mend the JSON and edit again",
        )
    return None if new == old else b64encode(new).decode()


def with_fields(old: bytes, fields: Sequence[str]) -> bytes:
    """A JSON body with fields set. `a.b=1` sets `b` in the object `a`; what is no JSON is text."""
    try:
        value = json.loads(old)
    except ValueError:
        value = None
    if not isinstance(value, dict):
        raise Failure("the body is no JSON object, so it has no fields", fix="--body FILE")
    for field in fields:
        name, equals, text = field.partition("=")
        if not equals or not all(name.split(".")):
            raise Failure(f"{field!r} sets no field", fix="--set amount=12", status=USAGE)
        *outer, last = name.split(".")
        inside = value
        for part in outer:
            inside = inside.setdefault(part, {})
            if not isinstance(inside, dict):
                raise Failure(f"{part!r} in {name!r} is no object", fix="--body FILE")
        inside[last] = _value(text)
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def _is_json(data: bytes) -> bool:
    try:
        json.loads(data)
    except ValueError:
        return False
    return True


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise Failure(f"{path} cannot be read: {error.strerror or error}", status=USAGE) from None


def _from_editor(old: bytes) -> bytes:
    try:
        text = laid_out(old.decode())
    except UnicodeDecodeError:
        raise Failure("the body is no text", fix="--body FILE") from None
    command = os.environ.get("VISUAL") or os.environ.get("EDITOR") or "vi"
    with tempfile.TemporaryDirectory(prefix="seawall-") as folder:
        path = Path(folder) / "body.json"
        path.write_text(text, encoding="utf-8")
        try:
            status = subprocess.run([*shlex.split(command), str(path)], check=False).returncode
        except OSError as error:
            raise Failure(
                f"{command} cannot be run: {error.strerror or error}",
                fix="set EDITOR, or use --set or --body",
            ) from None
        if status:
            raise Failure(f"{command} ended with {status}; nothing was changed")
        new = path.read_text(encoding="utf-8")
    return old if new == text else _as_it_was(old, new)


def _as_it_was(old: bytes, new: str) -> bytes:
    """JSON is stored compactly again, as publishers write it."""
    if not _is_json(old):
        return new.encode()
    try:
        return json.dumps(json.loads(new), ensure_ascii=False, separators=(",", ":")).encode()
    except ValueError:
        return new.encode()
