"""Whether a reader takes every document that a writer may write; if not, where and why.

Both are JSON Schemas. A writer writes the fields that its schema names and no others, unless
`additionalProperties` says that it does: models say what they write. A reader's schema is taken
literally. What is not understood in a reader's schema counts as refusing, so that "no gaps" is
always true: `tests/unit/contracts/test_inclusion.py` asks a validator.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from seawall.contracts.contract import Schema
from seawall.contracts.schemas import (
    UNCLEAR,
    Plain,
    alternatives,
    fits,
    kind_of,
    kinds,
    plain,
)


class Rule(StrEnum):
    """In what way a reader does not take what a writer writes."""

    FIELD_MISSING = "field-missing"  # the reader needs it, the writer does not write it
    FIELD_OPTIONAL = "field-optional"  # the reader needs it, the writer may leave it out
    FIELD_RENAMED = "field-renamed"  # as missing, and one of the same type is new
    FIELD_REFUSED = "field-refused"  # written, and the reader forbids fields it does not know
    FIELD_UNWRITTEN = "field-unwritten"  # breaks nobody: the reader's default takes its place
    TYPE = "type"
    NULL = "null"
    VALUE = "value"  # of an enumeration
    LENGTH = "length"
    RANGE = "range"
    FORMAT = "format"
    PATTERN = "pattern"
    UNCLEAR = "unclear"  # a keyword that this comparison does not know


@dataclass(frozen=True, slots=True)
class Gap:
    """One way in which a reader does not take what is written."""

    at: str  # "lines[].sku"; "" is the whole document
    rule: Rule
    what: str

    @property
    def breaking(self) -> bool:
        return self.rule is not Rule.FIELD_UNWRITTEN


def gaps(writer: Schema, reader: Schema) -> list[Gap]:
    """Why documents of `writer` are not all taken by `reader`; empty if they are."""
    found = _Comparison(writer, reader).compare(writer, reader, "")
    return list(dict.fromkeys(found))


_UNSAID = object()
_COMMON = frozenset({"type", "enum", "const", UNCLEAR})


class _Comparison:
    def __init__(self, writer: Schema, reader: Schema) -> None:
        self._writer = writer
        self._reader = reader
        self._under_way: set[tuple[int, int]] = set()

    def compare(self, writer: object, reader: object, at: str) -> list[Gap]:
        # Schemas may contain themselves. A document is finite, so what is true of its parts as
        # long as it is true of them is true of it.
        pair = (id(writer), id(reader))
        if pair in self._under_way:
            return []
        self._under_way.add(pair)
        try:
            return self._plain(plain(writer, self._writer), plain(reader, self._reader), at)
        finally:
            self._under_way.discard(pair)

    def _plain(self, writer: Plain, reader: Plain, at: str) -> list[Gap]:
        if not reader:
            return []
        if UNCLEAR in writer:
            return [Gap(at, Rule.UNCLEAR, f"what is written is unclear: {writer[UNCLEAR]}")]
        if "enum" in writer or "const" in writer:
            return self._values(writer, reader, at)
        apart = self._apart(writer)
        if apart is not None:
            return [gap for option in apart for gap in self._plain(option, reader, at)]
        if "anyOf" in reader or "oneOf" in reader:
            return self._any(writer, list(self._options(reader)), at)
        return self._one(writer, reader, at)

    def _apart(self, writer: Plain) -> list[Plain] | None:
        """The parts of what is written, where it is a union."""
        if "anyOf" in writer or "oneOf" in writer:
            return list(alternatives(writer, self._writer, read=False))
        written = kinds(writer)
        return None if len(written) == 1 else [{**writer, "type": kind} for kind in written]

    def _options(self, reader: Plain) -> Iterator[Plain]:
        return alternatives(reader, self._reader, read=True)

    def _values(self, writer: Plain, reader: Plain, at: str) -> list[Gap]:
        values = writer["enum"] if "enum" in writer else [writer["const"]]
        options = list(self._options(reader))
        refused = [v for v in values if not any(_takes(option, v) for option in options)]
        if not refused:
            return []
        if all(not fits(kind_of(v), kinds(o)) for v in refused for o in options):
            read = sorted({kind for option in options for kind in kinds(option)})
            return [_wrong_type(sorted({kind_of(v) for v in refused}), read, at)]
        told = ", ".join(repr(value) for value in refused[:5])
        return [Gap(at, Rule.VALUE, f"{told} is written and not read")]

    def _any(self, writer: Plain, options: list[Plain], at: str) -> list[Gap]:
        """One of the reader's alternatives takes it all, or these are the gaps of the closest."""
        (written,) = kinds(writer)
        close = [option for option in options if fits(written, kinds(option))]
        if not close:
            read = sorted({kind for option in options for kind in kinds(option)})
            return [_wrong_type([written], read, at)]
        tried = [self._plain(writer, option, at) for option in close]
        return min(tried, key=lambda found: (sum(gap.breaking for gap in found), len(found)))

    def _one(self, writer: Plain, reader: Plain, at: str) -> list[Gap]:
        (written,) = kinds(writer)
        if not fits(written, kinds(reader)):
            return [_wrong_type([written], kinds(reader), at)]
        if UNCLEAR in reader:
            return [Gap(at, Rule.UNCLEAR, f"what is read is unclear: {reader[UNCLEAR]}")]
        if "enum" in reader or "const" in reader:
            values = reader["enum"] if "enum" in reader else [reader["const"]]
            told = ", ".join(repr(value) for value in values[:5])
            return [Gap(at, Rule.VALUE, f"any {written} is written, only {told} is read")]
        understood, check = _CHECKS.get(written, (frozenset[str](), _nothing))
        found = list(check(self, writer, reader, at))
        unknown = reader.keys() - _COMMON - understood - _about_others(written)
        unclear = "the reader's `{}` cannot be compared"
        return found + [Gap(at, Rule.UNCLEAR, unclear.format(key)) for key in sorted(unknown)]

    def number(self, writer: Plain, reader: Plain, at: str) -> Iterator[Gap]:
        whole = writer.get("type") == "integer"
        low, high = _low(reader, whole=whole), _high(reader, whole=whole)
        lowest, highest = _low(writer, whole=whole), _high(writer, whole=whole)
        if low is not None and (lowest is None or lowest < low):
            yield Gap(at, Rule.RANGE, f"below {low[0]} is written and not read")
        if high is not None and (highest is None or highest > high):
            yield Gap(at, Rule.RANGE, f"above {high[0]} is written and not read")
        step = reader.get("multipleOf")
        if step is not None and not _multiple(writer.get("multipleOf"), step):
            yield Gap(at, Rule.RANGE, f"other than multiples of {step} are written")

    def string(self, writer: Plain, reader: Plain, at: str) -> Iterator[Gap]:
        yield from _sizes(writer, reader, at, "Length", "characters")
        for key, rule in (("pattern", Rule.PATTERN), ("format", Rule.FORMAT)):
            wanted, given = reader.get(key), writer.get(key)
            if wanted is not None and wanted != given:
                was = f"{given!r}" if given is not None else "any string"
                yield Gap(at, rule, f"{was} is written, {key} {wanted!r} is read")

    def array(self, writer: Plain, reader: Plain, at: str) -> Iterator[Gap]:
        yield from _sizes(writer, reader, at, "Items", "items")
        if reader.get("uniqueItems") and not writer.get("uniqueItems"):
            yield Gap(at, Rule.LENGTH, "items may be repeated, and the reader wants each once")
        first, wanted = writer.get("prefixItems", []), reader.get("prefixItems", [])
        most = writer.get("maxItems", _UNSAID)
        for place in range(max(len(first), len(wanted)) + 1):
            if most is not _UNSAID and place >= most:
                return
            item = first[place] if place < len(first) else writer.get("items", True)
            if item is False:  # nothing is written here, nor behind it
                return
            read = wanted[place] if place < len(wanted) else reader.get("items", True)
            known = place < max(len(first), len(wanted))
            yield from self.compare(item, read, f"{at}[{place}]" if known else f"{at}[]")

    def object(self, writer: Plain, reader: Plain, at: str) -> Iterator[Gap]:
        yield from self._fields_read(writer, reader, at)
        yield from self._fields_written(writer, reader, at)
        written, more = _named(writer), _more(writer)
        fewest = max(writer.get("minProperties", 0), len(writer.get("required", ())))
        most = writer.get("maxProperties", len(written) if more is False else None)
        if fewest < reader.get("minProperties", 0):
            yield Gap(at, Rule.LENGTH, f"{fewest} fields may be written")
        limit = reader.get("maxProperties")
        if limit is not None and (most is None or most > limit):
            yield Gap(at, Rule.LENGTH, f"more than {limit} fields may be written")

    def _fields_read(self, writer: Plain, reader: Plain, at: str) -> Iterator[Gap]:
        written, more = _named(writer), _more(writer)
        properties = reader.get("properties", {})
        required = set(reader.get("required", ()))
        for name in sorted({*properties, *required}):
            place = f"{at}.{name}" if at else name
            needed = name in required
            if name in written:
                if needed and name not in writer.get("required", ()):
                    yield Gap(place, Rule.FIELD_OPTIONAL, "may be left out and is needed")
                yield from self.compare(written[name], properties.get(name, True), place)
            elif more is False:
                yield self._absent(name, place, writer, reader)
            else:
                yield from self.compare(more, properties.get(name, True), place)
                if needed and name not in writer.get("required", ()):
                    yield Gap(place, Rule.FIELD_MISSING, "is needed and perhaps not written")

    def _absent(self, name: str, place: str, writer: Plain, reader: Plain) -> Gap:
        properties = reader.get("properties", {})
        wanted = plain(properties.get(name, True), self._reader)
        new = [
            other
            for other, schema in _named(writer).items()
            if other not in properties and plain(schema, self._writer) == wanted
        ]
        if name not in reader.get("required", ()):
            return Gap(place, Rule.FIELD_UNWRITTEN, "is read and not written")
        if len(new) == 1:
            told = f"is needed and not written; `{new[0]}` may be its new name"
            return Gap(place, Rule.FIELD_RENAMED, told)
        return Gap(place, Rule.FIELD_MISSING, "is needed and not written")

    def _fields_written(self, writer: Plain, reader: Plain, at: str) -> Iterator[Gap]:
        written, more = _named(writer), _more(writer)
        known, others = reader.get("properties", {}), reader.get("additionalProperties", True)
        for name in sorted(written.keys() - known.keys()):
            place = f"{at}.{name}" if at else name
            if others is False:
                yield Gap(place, Rule.FIELD_REFUSED, "is written, and the reader forbids it")
            else:
                yield from self.compare(written[name], others, place)
        if more is not False:
            place = f"{at}.*" if at else "*"
            if others is False:
                yield Gap(place, Rule.FIELD_REFUSED, "any field is written, not every one read")
            else:
                yield from self.compare(more, others, place)


def _named(writer: Plain) -> dict[str, object]:
    """The fields that a writer names, with their schemas."""
    return {**dict.fromkeys(writer.get("required", ()), True), **writer.get("properties", {})}


def _more(writer: Plain) -> object:
    """The schema of the fields that a writer writes beside its named ones; False if none."""
    return writer.get("additionalProperties", False)


def _wrong_type(written: list[str], read: list[str], at: str) -> Gap:
    rule = Rule.NULL if written == ["null"] else Rule.TYPE
    return Gap(at, rule, f"{' or '.join(written)} is written, {' or '.join(read)} is read")


def _nothing(_: _Comparison, writer: Plain, reader: Plain, at: str) -> Iterator[Gap]:
    yield from ()


Check = Callable[[_Comparison, Plain, Plain, str], Iterator[Gap]]

_NUMBER = frozenset({"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"})
_STRING = frozenset({"minLength", "maxLength", "pattern", "format"})
_ARRAY = frozenset({"items", "prefixItems", "minItems", "maxItems", "uniqueItems"})
_OBJECT = frozenset(
    {"properties", "required", "additionalProperties", "minProperties", "maxProperties"}
)
_CHECKS: Mapping[str, tuple[frozenset[str], Check]] = {
    "integer": (_NUMBER, _Comparison.number),
    "number": (_NUMBER, _Comparison.number),
    "string": (_STRING, _Comparison.string),
    "array": (_ARRAY, _Comparison.array),
    "object": (_OBJECT, _Comparison.object),
}


def _about_others(kind: str) -> frozenset[str]:
    """Keywords that say nothing about values of this type. Formats are pydantic's, of strings,
    but `format` on a number is only a hint."""
    own = _CHECKS[kind][0] if kind in _CHECKS else frozenset[str]()
    return (_NUMBER | _STRING | _ARRAY | _OBJECT) - own


def _low(schema: Plain, *, whole: bool) -> tuple[float, bool] | None:
    """The lower bound, and whether it is excluded: the greater tuple bounds more."""
    bounds = [(schema["minimum"], False)] if "minimum" in schema else []
    if "exclusiveMinimum" in schema:
        bound = schema["exclusiveMinimum"]
        bounds.append((bound + 1, False) if whole and isinstance(bound, int) else (bound, True))
    return max(bounds, default=None)


def _high(schema: Plain, *, whole: bool) -> tuple[float, bool] | None:
    """The upper bound, and whether it is allowed: the smaller tuple bounds more."""
    bounds = [(schema["maximum"], True)] if "maximum" in schema else []
    if "exclusiveMaximum" in schema:
        bound = schema["exclusiveMaximum"]
        bounds.append((bound - 1, True) if whole and isinstance(bound, int) else (bound, False))
    return min(bounds, default=None)


def _multiple(given: object, step: float) -> bool:
    return isinstance(given, int) and isinstance(step, int) and given % step == 0


def _sizes(writer: Plain, reader: Plain, at: str, of: str, unit: str) -> Iterator[Gap]:
    fewest, most = reader.get(f"min{of}", 0), reader.get(f"max{of}")
    if writer.get(f"min{of}", 0) < fewest:
        yield Gap(at, Rule.LENGTH, f"fewer than {fewest} {unit} may be written")
    given = writer.get(f"max{of}")
    if most is not None and (given is None or given > most):
        yield Gap(at, Rule.LENGTH, f"more than {most} {unit} may be written")


def _takes(reader: Plain, value: Any) -> bool:
    """Whether a plain schema without unions takes this value; False where that is unclear."""
    if not reader:
        return True
    kind = kind_of(value)
    if UNCLEAR in reader or not fits(kind, kinds(reader)):
        return False
    allowed = reader.get("enum", [reader["const"]] if "const" in reader else None)
    if allowed is not None and not any(_same(value, one) for one in allowed):
        return False
    about = reader.keys() - _COMMON - _about_others(kind)
    if kind == "string":
        size = len(value)
        pattern = reader.get("pattern")
        return (
            about <= _STRING - {"format"}
            and reader.get("minLength", 0) <= size <= reader.get("maxLength", size)
            and (pattern is None or re.search(pattern, value) is not None)
        )
    if kind in ("integer", "number"):
        exactly = {"minimum": value, "maximum": value}
        return about <= _NUMBER - {"multipleOf"} and not gaps(
            {"type": kind, **exactly}, {key: reader[key] for key in about}
        )
    return not about


def _same(one: object, other: object) -> bool:
    return one == other and isinstance(one, bool) == isinstance(other, bool)
