"""How many messages a consumer holds."""

from hypothesis import given
from hypothesis import strategies as st

from seawall.messaging.lookahead import Lookahead


def held(seconds: float, *, rate: float = float("inf")) -> int:
    ahead = Lookahead(concurrency=16, most=64, rate=rate)
    ahead.note([seconds] * 10)
    return ahead.held


def test_all_that_are_allowed_until_something_is_known() -> None:
    ahead = Lookahead(16, 64)
    ahead.note([])
    assert ahead.held == 64
    assert repr(ahead) == "<Lookahead 64 of 64>"


def test_what_is_handled_within_a_second_beside_those_under_way() -> None:
    assert held(0.0) == 64
    assert held(0.001) == 64
    assert held(1.0) == 16 + 16
    assert held(4.0) == 16 + 4
    assert held(600.0) == 16 + 1


def test_a_rate_limits_it_too() -> None:
    assert held(0.001, rate=5) == 16 + 5


def test_it_follows_handlers_that_become_slow_and_quick_again() -> None:
    ahead = Lookahead(4, 400)
    for _ in range(50):
        ahead.note([2.0])
    assert ahead.held == 4 + 2
    for _ in range(50):
        ahead.note([0.001])
    assert ahead.held == 400


@given(
    st.lists(st.lists(st.floats(0, 1e6), max_size=5), max_size=20),
    st.integers(1, 100),
    st.integers(0, 300),
)
def test_it_keeps_between_its_bounds(
    batches: list[list[float]], concurrency: int, more: int
) -> None:
    ahead = Lookahead(concurrency, concurrency + more)
    for batch in batches:
        ahead.note(batch)
        assert concurrency <= ahead.held <= concurrency + more
