import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seawall.service.bodies import check

_text = st.text(st.characters(exclude_categories=["Cs"]))
_json = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(min_value=-(2**60), max_value=2**60)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda child: (
        st.lists(child) | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), child)
    ),
    max_leaves=20,
)


@given(_json)
def test_what_is_json_passes(value: object) -> None:
    assert check(json.dumps(value).encode()) is None
    assert check(json.dumps(value, ensure_ascii=False).encode()) is None


@pytest.mark.parametrize("depth", [100, 101])
@pytest.mark.parametrize(("opening", "closing"), [("[", "]"), ('{"a":', "}")])
def test_depth_is_bounded(depth: int, opening: str, closing: str) -> None:
    fault = check((opening * depth + "1" + closing * depth).encode())
    assert (fault is None) is (depth == 100)


def test_many_brackets_side_by_side_are_not_deep() -> None:
    assert check(json.dumps([[]] * 1000).encode()) is None
    assert check(json.dumps(["[" * 1000]).encode()) is None


@given(st.binary(max_size=50))
def test_no_bytes_make_it_raise(body: bytes) -> None:
    fault = check(body)
    if fault is None:
        json.loads(body)
