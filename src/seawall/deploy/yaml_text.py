"""Objects as YAML that a person reads and every parser understands alike.

Only what JSON has is written, in block style, keys in the order given. A library would do more, and
take a second for the objects of a hundred services; tests read every text back with one.

A scalar is plain only where YAML 1.1 and 1.2 agree that it is that string: `on`, `1.0`, `0x1f`
and `12:30` are quoted.
"""

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

# Letters first, so neither a number nor a sign of YAML; no ": " and no " #" can be in it.
_PLAIN = re.compile(r"[A-Za-z_/][A-Za-z0-9_./@-]*(:[A-Za-z0-9_./@-]+)*")

# What one of the two versions takes for something else than a string.
_WORDS = frozenset({"y", "n", "yes", "no", "on", "off", "true", "false", "null"})


def written(documents: Iterable[Mapping[str, Any]], *, heading: str = "") -> str:
    """All of them as one text, `heading` as a comment above the first."""
    parts = ["\n".join(_lines(document, "")) + "\n" for document in documents]
    comment = f"# {heading}\n" if heading else ""
    return comment + "---\n".join(parts)


def _lines(value: Mapping[str, Any], indent: str) -> Iterator[str]:
    for key, item in value.items():
        yield from _entry(f"{indent}{scalar(key)}:", item, indent)


def _entry(start: str, item: Any, indent: str) -> Iterator[str]:
    if isinstance(item, Mapping) and item:
        yield start
        yield from _lines(item, f"{indent}  ")
    elif isinstance(item, list | tuple) and item:
        yield start
        yield from _items(item, indent)
    elif isinstance(item, str) and _is_text(item):
        yield f"{start} |" + ("" if item.endswith("\n") else "-")
        yield from (
            f"{indent}  {line}" if line else "" for line in item.removesuffix("\n").split("\n")
        )
    else:
        yield f"{start} {scalar(item)}"


def _items(items: Iterable[Any], indent: str) -> Iterator[str]:
    for item in items:
        if isinstance(item, Mapping) and item:
            first, *rest = _lines(item, f"{indent}  ")
            yield f"{indent}- {first[len(indent) + 2 :]}"
            yield from rest
        elif isinstance(item, list | tuple) and item:
            first, *rest = _items(item, f"{indent}  ")
            yield f"{indent}- {first[len(indent) + 2 :]}"
            yield from rest
        else:
            yield f"{indent}- {scalar(item)}"


def _is_text(value: str) -> bool:
    """Whether it has several lines, all of them such that a block keeps them as they are."""
    lines = value.removesuffix("\n").split("\n")
    return (
        len(lines) > 1
        and all(line.isprintable() and line == line.rstrip() for line in lines)
        and not lines[0].startswith(" ")
        and lines[0] != ""
        and lines[-1] != ""
    )


def scalar(value: Any) -> str:
    """One value on one line."""
    if isinstance(value, str) and _PLAIN.fullmatch(value) and value.lower() not in _WORDS:
        return value
    return "".join(map(_shown, json.dumps(value, ensure_ascii=False)))


def _shown(character: str) -> str:
    """Itself, or how YAML writes what no page shows."""
    return character if character.isprintable() else f"\\U{ord(character):08x}"
