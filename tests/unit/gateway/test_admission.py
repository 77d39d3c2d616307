"""Who is let in to a service that has enough to do."""

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seawall.errors import Misconfigured
from seawall.gateway.admission import Gate
from seawall.gateway.answers import Flag
from seawall.resilience.admission import KINDS, Adaptive, Admission
from seawall.resilience.shed import Importance

NAMES = [one.value for one in Importance]


def admission(limit: int = 10, seed: int = 1) -> Admission:
    return Admission(Adaptive(kind="fixed", initial=limit), Random(seed))


@given(
    limit=st.integers(1, 30),
    asked=st.lists(st.sampled_from(NAMES), max_size=80),
    seed=st.integers(0, 99),
)
def test_everybody_has_a_share_and_nobody_more_than_there_is(
    limit: int, asked: list[str], seed: int
) -> None:
    admits = admission(limit, seed)
    before = dict.fromkeys(NAMES, 0)
    for name in asked:
        shares = {one.name: one.share for one in admits.snapshot()}
        total = sum(before.values())
        if admits.admit(name):
            assert total < limit or before[name] < shares[name]
            before[name] += 1
        else:
            assert before[name] >= shares[name]
            assert total > 0.75 * limit
    assert {one.name: one.taken for one in admits.snapshot()} == before
    assert sum(admits.shed().values()) == len(asked) - sum(before.values())
    for name, count in before.items():
        for _ in range(count):
            admits.release(name)
    assert not any(one.taken for one in admits.snapshot())


def test_the_less_important_are_refused_first() -> None:
    admits = admission(100)
    for _ in range(1000):
        admits.admit("sheddable")
    assert 75 < admits.snapshot()[2].taken <= 85
    for _ in range(50):
        assert admits.admit("critical")


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_begins_where_it_is_told(kind: str) -> None:
    adaptive = Adaptive(kind=kind, initial=30, minimum=1, maximum=50)
    assert Admission(adaptive, Random(1)).limit == 30


@pytest.mark.parametrize("kind", ["gradient2", "aimd", "vegas"])
def test_a_limit_follows_the_service(kind: str) -> None:
    admits = Admission(Adaptive(kind=kind, initial=30, minimum=1, maximum=50), Random(1))
    for _ in range(25):
        assert admits.admit("critical")
    now = 0.0
    for window in range(60):
        now += 1.1
        slow = window >= 20
        for _ in range(20):
            admits.observe(3.0 if slow else 0.01, slow, now)
        if window == 19:
            before = admits.limit
    assert admits.limit < before


@pytest.mark.parametrize("kind", ["gradient2", "aimd", "vegas"])
def test_no_limit_goes_below_what_shares_need(kind: str) -> None:
    admits = Admission(Adaptive(kind=kind, initial=30, minimum=20), Random(1))
    for _ in range(25):
        assert admits.admit("critical")
    lowest = admits.limit
    for window in range(200):
        for _ in range(20):
            admits.observe(3.0 if window >= 20 else 0.01, window >= 20, float(window))
        lowest = min(lowest, admits.limit)
    assert lowest == 20


def test_what_stays_fixed_is_not_moved() -> None:
    admits = admission(10)
    for window in range(20):
        for _ in range(20):
            admits.observe(5.0, True, float(window))
    assert admits.limit == 10


def test_a_gate_counts_what_is_under_way() -> None:
    gate = Gate("/reports", 2, "normal", None)
    assert gate.enter("normal") is None
    assert gate.enter("normal") is None
    refusal = gate.enter("critical")
    assert refusal is not None
    assert (refusal.status, refusal.flag, refusal.retryable) == (503, Flag.UPSTREAM_OVERFLOW, True)
    gate.leave("normal")
    assert gate.enter("normal") is None


def test_a_gate_gives_places_back_once() -> None:
    admits = admission(2)
    gate = Gate("/", None, "normal", admits)
    assert gate.enter("normal") is None
    gate.yield_place("normal")
    gate.leave("")
    assert not any(one.taken for one in admits.snapshot())
    assert gate.in_flight == 0


def test_who_is_shed_is_told_why() -> None:
    gate = Gate("/", None, "normal", admission(1))
    assert gate.enter("critical") is None
    refusal = gate.enter("critical")
    assert refusal is not None
    assert (refusal.flag, refusal.retry_after) == (Flag.SHED, 1.0)
    assert "critical" in refusal.detail
    assert gate.in_flight == 1


@pytest.mark.parametrize(
    "wrong",
    [{"kind": "best"}, {"minimum": 0}, {"initial": 300}, {"window": 0.01}, {"initial": 0}],
)
def test_a_limit_that_cannot_be_meant_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(Misconfigured):
        Adaptive(**wrong)  # type: ignore[arg-type]  # by name
