"""Whom `make kills` kills. The run itself takes minutes; tests/e2e kills a few under orders."""

from random import Random

from hypothesis import given
from hypothesis import strategies as st

from tests.faults.kills import BROKER, SHARES, victims


@given(st.integers(10, 300), st.integers(0, 100), st.integers())
def test_everybody_has_a_turn_and_there_are_as_many_kills_as_asked_for(
    kills: int, brokers_share: int, seed: int
) -> None:
    found = victims(kills, brokers_share, Random(seed))
    assert len(found) == kills
    assert set(found) == {*SHARES, BROKER} - ({BROKER} if not brokers_share else set())


def test_the_same_seed_kills_the_same() -> None:
    assert victims(50, 10, Random(7)) == victims(50, 10, Random(7))
    assert victims(50, 10, Random(7)) != victims(50, 10, Random(8))
