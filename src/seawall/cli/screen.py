"""Colours, tables and log lines for people."""

import argparse
import json
import os
import re
import sys
import zlib
from collections.abc import Mapping, Sequence
from typing import Any, TextIO

RED, GREEN, YELLOW, BLUE, MAGENTA, CYAN, GREY = 31, 32, 33, 34, 35, 36, 90

_NAME_COLOURS = (CYAN, MAGENTA, BLUE, GREEN, YELLOW, 96, 95, 94)

_SEVERITY_COLOURS = {"WARN": YELLOW, "WARNING": YELLOW, "ERROR": RED, "FATAL": RED}

# The access log's lines are JSON without spaces.
_ACCESS = '"event.name":"access"'

# What a service says of its own coming and going; the supervisor sums it up.
_LIFE = ('"logger": "seawall.service"', '"severity": "INFO"')

# What a service writes may not move our cursor; colours it may set.
_CONTROL = re.compile(r"\x1b(?!\[[0-9;]*m)|[\x00-\x08\x0b-\x1a\x1c-\x1f\x7f]")


def coloured(options: argparse.Namespace, stream: TextIO) -> bool:
    """Whether colours are wanted there: see no-color.org."""
    if getattr(options, "no_color", False) or os.environ.get("NO_COLOR"):
        return False
    return bool(os.environ.get("FORCE_COLOR")) or stream.isatty()


class Paint:
    """Colours text, or leaves it as it is."""

    def __init__(self, on: bool) -> None:
        self.on = on

    def __call__(self, text: str, colour: int) -> str:
        return f"\x1b[{colour}m{text}\x1b[0m" if self.on else text

    def name(self, instance: str, width: int) -> str:
        """An instance's name in a colour of its own."""
        chosen = zlib.crc32(instance.encode()) % len(_NAME_COLOURS)
        return self(f"{instance:<{width}}", _NAME_COLOURS[chosen])


def plain_text(text: str) -> str:
    """Foreign text that cannot move our cursor."""
    return _CONTROL.sub("?", text)


def log_text(instance: str, text: str, paint: Paint, width: int) -> str:
    """One line of a log, as a person reads it."""
    return f"{paint.name(instance, width)} {paint('|', GREY)} {_readable(text, paint)}"


def is_routine(text: str) -> bool:
    """Whether it is the record of a request that went well (there are thousands), or of a service
    that starts or stops as it should."""
    if _ACCESS in text:
        return '"status":5' not in text
    return all(mark in text for mark in _LIFE)


def _readable(text: str, paint: Paint) -> str:
    """JSON logs are for machines: show severity and body, or what became of a request."""
    values = _parsed(text) if text.startswith("{") else {}
    if values.get("event.name") == "access":
        shown = _access(values, paint)
    elif "body" in values:
        severity = str(values.get("severity", ""))
        trace = values.get("exception.stacktrace") or ""
        coloured_severity = paint(severity, _SEVERITY_COLOURS.get(severity, GREY))
        shown = f"{coloured_severity} {values['body']}" + (f"\n{trace}" if trace else "")
    else:
        shown = text
    return _CONTROL.sub("?", shown.rstrip())


def _parsed(text: str) -> dict[str, Any]:
    try:
        values = json.loads(text)
    except ValueError:
        return {}
    return values if isinstance(values, dict) else {}


def _access(values: Mapping[str, Any], paint: Paint) -> str:
    status = str(values.get("status", "-"))
    flags = values.get("flags", "-")
    return (
        f"{paint(status, RED if status.startswith('5') else GREY)} {values.get('method')} "
        f"{values.get('path')} {values.get('duration_ms')} ms {values.get('instance') or '-'}"
        + (f" {flags}" if flags != "-" else "")
    )


def table(headings: Sequence[str], rows: Sequence[Sequence[str]], paint: Paint) -> str:
    """Columns as wide as they need; numbers to the right."""
    widths = [
        max(len(_plain(row[column])) for row in (headings, *rows))
        for column in range(len(headings))
    ]
    right = [all(_numeric(_plain(row[column])) for row in rows) for column in range(len(headings))]
    lines = [paint(_row(headings, widths, right), GREY)]
    lines += [_row(row, widths, right) for row in rows]
    return "\n".join(lines)


def _row(cells: Sequence[str], widths: Sequence[int], right: Sequence[bool]) -> str:
    padded = []
    for cell, width, to_right in zip(cells, widths, right, strict=True):
        space = " " * (width - len(_plain(cell)))
        padded.append(space + cell if to_right else cell + space)
    return "  ".join(padded).rstrip()


def _plain(text: str) -> str:
    return re.sub(r"\x1b\[[0-9;]*m", "", text)


def _numeric(text: str) -> bool:
    return text in ("", "-") or text[0].isdigit()


def duration(seconds: float) -> str:
    """12.3 s, 4 m 10 s, 2 h 5 m, 3 d 1 h."""
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes, rest = divmod(int(seconds), 60)
    if minutes < 60:
        return f"{minutes} m {rest} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} m" if hours < 24 else f"{hours // 24} d {hours % 24} h"


def megabytes(size: int | None) -> str:
    return "-" if size is None else f"{size / 1_048_576:.0f} MB"


def print_json(values: Mapping[str, Any]) -> None:
    print(json.dumps(values, indent=None if not sys.stdout.isatty() else 2), flush=True)
