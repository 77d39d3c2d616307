"""Bodies of messages for people: JSON laid out, text as it is, else a hex dump. Pure."""

import json
from base64 import b64decode
from collections.abc import Iterator, Mapping
from typing import Any

from seawall.cli.screen import plain_text

_DUMPED = 512  # bytes of a body that is no text
_A_LINE = 16  # bytes


def body_lines(body: Mapping[str, Any], most: int | None = None) -> list[str]:
    """The lines of a body, at most `most` of them."""
    text = body["text"]
    lines = list(_dump(b64decode(body["base64"]))) if text is None else _text_lines(text)
    if most is not None and len(lines) > most:
        lines = [*lines[:most], f"… {len(lines) - most} more lines"]
    if body["truncated"]:
        lines.append(f"… {body['size']} bytes in all")
    return lines or ["(an empty body)"]


def laid_out(text: str) -> str:
    """JSON with a field a line; other text as it is."""
    try:
        return json.dumps(json.loads(text), indent=2, ensure_ascii=False)
    except ValueError:
        return text


def _text_lines(text: str) -> list[str]:
    return plain_text(laid_out(text)).splitlines()


def _dump(data: bytes) -> Iterator[str]:
    for start in range(0, min(len(data), _DUMPED), _A_LINE):
        line = data[start : start + _A_LINE]
        shown = "".join(chr(byte) if 32 <= byte < 127 else "." for byte in line)
        yield f"{start:06x}  {line.hex(' '):<47}  {shown}"
    if len(data) > _DUMPED:
        yield f"… {len(data)} bytes in all"
