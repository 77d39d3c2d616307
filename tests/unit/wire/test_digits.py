"""Numbers of digits only."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from seawall.wire.digits import MAX_DIGITS, walked, written


@given(
    st.one_of(
        st.integers(0, 10**MAX_DIGITS - 1).map(lambda number: b"%d" % number),
        st.binary(max_size=MAX_DIGITS),
    )
)
@example(b"")
@example(b"007")
@example(b"+1")
def test_a_number_is_read_alike_in_both_ways(value: bytes) -> None:
    assert walked(value) == written(value) == (int(value) if value.isdigit() else -1)


@pytest.mark.parametrize("value", [b"", b"+1", b" 1", b"1_0", b"-1", "\u0661".encode(), b"9" * 19])
def test_what_is_not_digits_only_or_too_long_is_no_number(value: bytes) -> None:
    assert written(value) == -1
