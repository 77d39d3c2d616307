"""JSON Schemas made plain: references followed, `allOf` joined, unions taken apart.

Of what a schema says, annotations are left out. Where a join cannot be written as one plain
schema the result is marked `UNCLEAR`, and whoever compares it must not call it compatible.
"""

from collections.abc import Iterator, Mapping
from typing import Any

Plain = dict[str, Any]

UNCLEAR = "$unclear"
NOTHING: Mapping[str, Any] = {UNCLEAR: "nothing at all is valid"}

# They say something about a value, and refuse none.
_ANNOTATIONS = frozenset(
    {
        *("title", "description", "default", "examples", "deprecated", "readOnly", "writeOnly"),
        *("$schema", "$id", "$defs", "definitions", "$comment", "discriminator"),
        *("contentMediaType", "contentEncoding", "contentSchema"),
    }
)

TYPES = ("null", "boolean", "number", "string", "array", "object")


def plain(schema: object, root: Mapping[str, Any]) -> Plain:
    """`schema`, which stands in the document `root`, without references and `allOf`."""
    if not isinstance(schema, Mapping):
        return {} if schema is True else dict(NOTHING)
    joined: Plain = {
        key: value
        for key, value in schema.items()
        if key not in _ANNOTATIONS and key not in ("$ref", "allOf")
    }
    if "oneOf" in joined and "discriminator" in schema:
        # Its options exclude each other by their tags, so that one of them is any of them.
        joined["anyOf"] = joined.pop("oneOf")
    parts = list(schema.get("allOf", ()))
    if "$ref" in schema:
        parts.append(_target(schema["$ref"], root))
    for part in parts:
        joined = both(joined, plain(part, root))
    return joined


def _target(reference: object, root: Mapping[str, Any]) -> object:
    found: object = root
    if not isinstance(reference, str) or not reference.startswith("#"):
        return NOTHING
    for name in reference.removeprefix("#").split("/")[1:]:
        name = name.replace("~1", "/").replace("~0", "~")
        found = found.get(name, NOTHING) if isinstance(found, Mapping) else NOTHING
    return found


def both(one: Plain, other: Plain) -> Plain:
    """What is valid under each of two plain schemas."""
    joined = {**one, **other}
    for key in one.keys() & other.keys():
        if one[key] == other[key]:
            continue
        if key == "required":
            joined[key] = sorted({*one[key], *other[key]})
        elif key == "type":
            mine, theirs = listed(one[key]), listed(other[key])
            narrow = [kind for kind in mine if fits(kind, theirs)]
            joined[key] = narrow + [k for k in theirs if fits(k, mine) and k not in narrow]
        else:
            joined[UNCLEAR] = f"`{key}` is said twice"
    if "additionalProperties" in joined and "properties" in one and "properties" in other:
        joined[UNCLEAR] = "`additionalProperties` beside joined properties"
    return joined


def listed(kinds: object) -> list[str]:
    return [kinds] if isinstance(kinds, str) else list(kinds)  # type: ignore[call-overload]


def alternatives(schema: Plain, root: Mapping[str, Any], *, read: bool) -> Iterator[Plain]:
    """The schemas whose union this one is; itself where it is none.

    To somebody who reads, those of `oneOf` are unclear: what fits two of them is not valid.
    """
    key = next((key for key in ("anyOf", "oneOf") if key in schema), None)
    if key is None:
        yield schema
        return
    rest = {name: value for name, value in schema.items() if name != key}
    if key == "oneOf" and read:
        rest[UNCLEAR] = "`oneOf` without a discriminator"
    for option in schema[key]:
        joined = both(rest, plain(option, root))
        yield from alternatives(joined, root, read=read)


def kinds(schema: Plain) -> list[str]:
    """The types of values that may be valid."""
    return listed(schema["type"]) if "type" in schema else list(TYPES)


def kind_of(value: object) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, int | float):
        return "integer" if float(value).is_integer() else "number"
    if isinstance(value, str):
        return "string"
    return "array" if isinstance(value, list) else "object"


def fits(kind: str, wanted: list[str]) -> bool:
    return kind in wanted or (kind == "integer" and "number" in wanted)
