import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from seawall.resilience.shares import IDLE, Shares, portion, weight

RATES = st.floats(0.01, 1e5)
DEMANDS = st.floats(0, 1e6)


def settled(demands: dict[str, float], rate: float = 100.0) -> dict[str, float]:
    """What each has after two rounds of claims: in the first, others may still hold too much."""
    shares, found = Shares(), {}
    for turn in range(3):
        for process, demand in demands.items():
            found[process] = shares.claim(
                "route", process, rate=rate, demand=demand, until=turn + 2.0, now=float(turn)
            )
    return found


def test_who_is_alone_has_everything() -> None:
    assert settled({"a": 0.0}) == {"a": 100.0}
    assert settled({"a": 1e9}) == {"a": 100.0}


def test_shares_are_in_proportion_to_demand() -> None:
    found = settled({"a": 60.0, "b": 20.0})
    assert found == {"a": pytest.approx(75.0), "b": pytest.approx(25.0)}


def test_a_hot_process_gets_what_cold_ones_leave() -> None:
    found = settled({"hot": 500.0} | {f"cold-{n}": 0.0 for n in range(9)})
    assert found["hot"] > 90.0
    assert all(0 < share < 1.0 for name, share in found.items() if name != "hot")


def test_what_is_asked_for_beyond_the_rate_gains_nothing() -> None:
    found = settled({"loud": 1e6, "fair": 100.0})
    assert found == {"loud": pytest.approx(50.0), "fair": pytest.approx(50.0)}


def test_nobody_is_given_what_another_still_holds() -> None:
    shares = Shares()
    first = shares.claim("route", "a", rate=10.0, demand=10.0, until=2.0, now=0.0)
    second = shares.claim("route", "b", rate=10.0, demand=10.0, until=2.5, now=0.5)
    assert (first, second) == (10.0, 0.0)
    assert shares.claim("route", "a", rate=10.0, demand=10.0, until=3.0, now=1.0) == 5.0
    assert shares.claim("route", "b", rate=10.0, demand=10.0, until=3.5, now=1.5) == 5.0


def test_a_share_that_nobody_claims_again_is_free_when_its_lease_ends() -> None:
    shares = Shares()
    shares.claim("route", "dead", rate=10.0, demand=10.0, until=2.0, now=0.0)
    assert shares.claim("route", "b", rate=10.0, demand=1.0, until=3.9, now=1.9) == 0.0
    assert shares.claim("route", "b", rate=10.0, demand=1.0, until=4.0, now=2.0) == 10.0


def test_limits_that_nobody_claims_are_forgotten() -> None:
    shares = Shares()
    for number in range(1000):
        shares.claim(f"key-{number}", "a", rate=1.0, demand=1.0, until=number + 2.0, now=number)
    assert len(shares) <= 3


def test_processes_are_counted_until_they_leave_or_fall_silent() -> None:
    shares = Shares()
    assert shares.join("a", until=2.0, now=0.0) == 1
    assert shares.join("b", until=2.0, now=0.0) == 2
    assert shares.join("a", until=3.0, now=1.0) == 2
    shares.leave("b")
    assert shares.join("a", until=3.0, now=1.0) == 1
    assert shares.join("c", until=5.0, now=3.0) == 1


@given(rate=RATES, demand=DEMANDS)
def test_a_weight_is_never_nothing_and_never_more_than_the_rate(rate: float, demand: float) -> None:
    assert IDLE * rate <= weight(rate, demand) <= rate


@given(rate=RATES, own=DEMANDS, others=DEMANDS, taken=st.floats(0, 1e6))
def test_a_portion_is_never_negative_and_never_what_others_hold(
    rate: float, own: float, others: float, taken: float
) -> None:
    share = portion(rate, weight(rate, own), others, taken)
    assert 0.0 <= share <= max(0.0, rate - taken)


class Claims(RuleBasedStateMachine):
    """Whoever claims whatever whenever: what is on lease never adds up to more than the rate."""

    RATE = 10.0

    def __init__(self) -> None:
        super().__init__()
        self.shares = Shares()
        self.now = 0.0
        self.held: dict[str, tuple[float, float]] = {}  # process -> share, until

    @rule(seconds=st.sampled_from([0.1, 0.5, 2.0, 5.0]))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @rule(
        process=st.sampled_from("abcde"),
        demand=st.floats(0, 100),
        lease=st.sampled_from([0.5, 2.0]),
    )
    def claim(self, process: str, demand: float, lease: float) -> None:
        until = self.now + lease
        share = self.shares.claim(
            "route", process, rate=self.RATE, demand=demand, until=until, now=self.now
        )
        assert share >= 0.0
        self.held[process] = (share, until)

    @invariant()
    def never_more_than_the_rate(self) -> None:
        on_lease = sum(share for share, until in self.held.values() if until > self.now)
        assert on_lease <= self.RATE * (1 + 1e-9)


TestClaims = Claims.TestCase
