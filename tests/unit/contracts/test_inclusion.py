"""Whether a reader takes what a writer writes: a table of rules, and a law."""

from typing import Any, Literal

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from seawall.contracts.inclusion import Gap, Rule, gaps

Schema = dict[str, Any]


def an_object(required: tuple[str, ...] = (), **properties: Schema) -> Schema:
    return {"type": "object", "properties": properties, "required": list(required)}


TEXT: Schema = {"type": "string"}
WHOLE: Schema = {"type": "integer"}
OPEN: Schema = {"type": "object", "additionalProperties": True}


@pytest.mark.parametrize(
    ("writer", "reader", "expected"),
    [
        (an_object(a=TEXT), an_object(("b",), a=TEXT, b=WHOLE), [("b", "field-missing")]),
        (an_object(a=TEXT), an_object(("a",), a=TEXT), [("a", "field-optional")]),
        (an_object(("b",), b=TEXT), an_object(("a",), a=TEXT), [("a", "field-renamed")]),
        (an_object(a=TEXT), an_object(a=TEXT, b=TEXT), [("b", "field-unwritten")]),
        (an_object(a=TEXT, b=TEXT), an_object(a=TEXT), []),
        (
            an_object(a=TEXT, b=TEXT),
            an_object(a=TEXT) | {"additionalProperties": False},
            [("b", "field-refused")],
        ),
        (OPEN, an_object(("a",)), [("a", "field-missing")]),
        (OPEN, {"type": "object", "additionalProperties": False}, [("*", "field-refused")]),
        (an_object(("a",), a=WHOLE), an_object(("a",), a=TEXT), [("a", "type")]),
        (WHOLE, {"type": "number"}, []),
        ({"type": "number"}, WHOLE, [("", "type")]),
        ({"anyOf": [TEXT, {"type": "null"}]}, TEXT, [("", "null")]),
        (TEXT, {"anyOf": [TEXT, {"type": "null"}]}, []),
        ({"type": ["string", "null"]}, TEXT, [("", "null")]),
        ({"enum": ["a", "b"]}, {"enum": ["a"]}, [("", "value")]),
        ({"const": "a"}, {"enum": ["a", "b"]}, []),
        ({"enum": [1]}, {"enum": [True]}, [("", "value")]),
        (TEXT, {"enum": ["a"]}, [("", "value")]),
        ({"const": "abc"}, {"type": "string", "maxLength": 2}, [("", "value")]),
        (TEXT, {"type": "string", "maxLength": 5}, [("", "length")]),
        ({"type": "string", "maxLength": 5}, {"type": "string", "maxLength": 9}, []),
        (TEXT, {"type": "string", "format": "uuid"}, [("", "format")]),
        (TEXT, {"type": "string", "pattern": "^a"}, [("", "pattern")]),
        (WHOLE | {"minimum": 0}, WHOLE | {"minimum": 1}, [("", "range")]),
        (WHOLE | {"exclusiveMinimum": 0}, WHOLE | {"minimum": 1}, []),
        (WHOLE | {"maximum": 3}, WHOLE | {"exclusiveMaximum": 3}, [("", "range")]),
        (WHOLE, WHOLE | {"multipleOf": 5}, [("", "range")]),
        (
            {"type": "array", "items": an_object(("a",), a=WHOLE)},
            {"type": "array", "items": an_object(("a",), a=TEXT)},
            [("[].a", "type")],
        ),
        ({"type": "array"}, {"type": "array", "uniqueItems": True}, [("", "length")]),
        (TEXT, {"not": WHOLE}, [("", "unclear")]),
        (TEXT, {"oneOf": [TEXT, {"type": "string", "maxLength": 3}]}, [("", "unclear")]),
        (TEXT, True, []),
        (TEXT, {"$ref": "#/$defs/Gone"}, [("", "unclear")]),
    ],
)  # fmt: skip
def test_a_rule(writer: Schema, reader: Schema, expected: list[tuple[str, str]]) -> None:
    assert [(gap.at, gap.rule) for gap in gaps(writer, reader)] == expected


def test_the_new_name_of_a_field_is_guessed() -> None:
    was, now = an_object(("note",), note=TEXT), an_object(("remark",), remark=TEXT)
    (gap,) = gaps(now, was)
    assert gap == Gap(
        "note", Rule.FIELD_RENAMED, "is needed and not written; `remark` may be its new name"
    )
    assert gap.breaking


def test_a_default_that_takes_the_place_of_a_field_breaks_nobody() -> None:
    (gap,) = gaps(an_object(), an_object(note=TEXT))
    assert not gap.breaking


class Cat(BaseModel):
    kind: Literal["cat"]
    lives: int


class Dog(BaseModel):
    kind: Literal["dog"]


class Zoo(BaseModel):
    model_config = ConfigDict(extra="ignore")

    star: Cat | Dog = Field(discriminator="kind")
    more: list["Zoo"] = []
    names: dict[str, int] = {}
    pair: tuple[int, str] = (1, "a")


class OldZoo(BaseModel):
    star: Cat
    more: list["OldZoo"] = []


def test_models_that_contain_themselves() -> None:
    zoo, old = (
        TypeAdapter(kind).json_schema(mode="serialization") for kind in (Zoo, OldZoo)
    )  # fmt: skip
    assert gaps(zoo, zoo) == []
    found = [(gap.at, gap.rule) for gap in gaps(zoo, old) if not gap.at.startswith("more")]
    assert found == [("star.kind", Rule.VALUE), ("star.lives", Rule.FIELD_MISSING)]
    read = TypeAdapter(Zoo).json_schema(mode="validation")
    assert {gap.rule for gap in gaps(old, read)} == {Rule.FIELD_UNWRITTEN}


# The law: without a breaking gap, whatever the writer may write is valid for the reader.

NAMES = st.sampled_from(["a", "b", "c"])
SCALARS = st.none() | st.booleans() | st.integers(-3, 3) | st.sampled_from(["", "a", "ab", "abc"])
SIZES = st.integers(0, 3)


@st.composite
def some(draw: st.DrawFn, **keywords: st.SearchStrategy[Any]) -> Schema:
    """A schema with any of these keywords."""
    return {key: draw(values) for key, values in keywords.items() if draw(st.booleans())}


def an_object_of(keywords: Schema) -> Schema:
    """As models have them: what is required is named."""
    named = keywords.get("properties", {})
    required = [name for name in keywords.get("required", ()) if name in named]
    return {**keywords, "type": "object", "required": required}


def inner_of(key: str, inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Schema]:
    return st.builds(lambda parts: {key: parts}, st.lists(inner, min_size=1, max_size=3))


def schemas(*, joined: bool = True) -> st.SearchStrategy[Any]:
    scalars = st.one_of(
        st.sampled_from([{}, {"type": "null"}, {"type": "boolean"}]),
        st.builds(lambda one: {"const": one}, SCALARS),
        st.builds(lambda all_: {"enum": all_}, st.lists(SCALARS, min_size=1, max_size=3)),
        some(minLength=SIZES, maxLength=SIZES).map(lambda s: {"type": "string", **s}),
        st.builds(
            lambda kind, rest: {"type": kind, **rest},
            st.sampled_from(["integer", "number"]),
            some(
                minimum=SIZES, maximum=SIZES, exclusiveMinimum=SIZES, exclusiveMaximum=SIZES,
                multipleOf=st.integers(1, 3),
            ),
        ),
    )  # fmt: skip
    return st.recursive(
        scalars,
        lambda inner: st.one_of(
            inner_of("anyOf", inner),
            *([inner_of("allOf", inner)] if joined else []),
            some(
                items=inner, minItems=SIZES, maxItems=SIZES, uniqueItems=st.booleans(),
                prefixItems=st.lists(inner, min_size=1, max_size=2),
            ).map(lambda s: {"type": "array", **s}),
            some(
                properties=st.dictionaries(NAMES, inner, max_size=3),
                required=st.lists(NAMES, unique=True),
                additionalProperties=st.booleans() | inner,
                minProperties=SIZES, maxProperties=SIZES,
            ).map(an_object_of),
        ),
        max_leaves=6,
    )  # fmt: skip


VALUES = st.recursive(
    SCALARS | st.sampled_from([0.5, 1.0]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3),
    max_leaves=6,
)


def closed(schema: Any) -> Any:
    """The schema, with "and nothing else" said."""
    if not isinstance(schema, dict):
        return schema
    inside: Schema = dict(schema)
    for key in ("anyOf", "allOf", "prefixItems"):
        if key in schema:
            inside[key] = [closed(one) for one in schema[key]]
    if "properties" in schema:
        inside["properties"] = {name: closed(one) for name, one in schema["properties"].items()}
    if "items" in schema:
        inside["items"] = closed(schema["items"])
    if schema.get("type") == "object":
        inside["additionalProperties"] = closed(schema.get("additionalProperties", False))
    return inside


# One takes some 30 ms; 1,500 were run when this was written.
@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(writer=schemas(), reader=schemas(), alike=st.booleans(), data=st.data())
def test_without_a_gap_every_document_is_taken(
    writer: Any, reader: Any, alike: bool, data: st.DataObject
) -> None:
    if alike:  # what is written is close to what is read, so that verdicts are often good
        writer = {"allOf": [writer, reader]} if "type" in reader else reader
    assume(not any(gap.breaking for gap in gaps(writer, reader)))
    would_write, takes = (Draft202012Validator(one) for one in (closed(writer), reader))
    for value in data.draw(st.lists(VALUES, min_size=5, max_size=20)):
        assert takes.is_valid(value) or not would_write.is_valid(value), value


@settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck))
@given(schemas(joined=False))
def test_a_reader_takes_what_the_same_schema_writes(schema: Any) -> None:
    assert gaps(schema, schema) == []
