import string
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from seawall.deploy.yaml_text import scalar, written

WORDS = [
    "on",
    "No",
    "y",
    "null",
    "~",
    "1.0",
    "0x1f",
    "12:30",
    "1e3",
    "- a",
    "a: b",
    "a #b",
    "",
    "é",
]
TEXT = st.one_of(
    st.sampled_from(WORDS),
    st.text(max_size=8),
    st.text(string.ascii_letters + "\n :-#", max_size=9),
)
VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), TEXT),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(TEXT, inner, max_size=3)),
    max_leaves=12,
)


@given(st.lists(st.dictionaries(TEXT, VALUES, min_size=1, max_size=4), min_size=1, max_size=3))
def test_a_parser_reads_what_was_written(documents: list[dict[str, Any]]) -> None:
    assert list(yaml.safe_load_all(written(documents))) == documents


@pytest.mark.parametrize("word", WORDS)
def test_a_string_stays_a_string(word: str) -> None:
    assert yaml.safe_load(scalar(word)) == word


def test_it_is_readable() -> None:
    text = written(
        [{"a": {"b": [1, "x"], "c": []}, "t": "one\ntwo\n"}, {"k": None}], heading="By us"
    )
    assert text == ("# By us\na:\n  b:\n  - 1\n  - x\n  c: []\nt: |\n  one\n  two\n---\nk: null\n")
