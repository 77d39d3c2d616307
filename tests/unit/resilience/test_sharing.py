import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seawall.errors import Misconfigured
from seawall.resilience.shares import Shares
from seawall.resilience.sharing import RESERVE, SharedLimiter, WhenAway

LEASE, INTERVAL = 2.0, 0.5


def trusted(rate: float, burst: float, processes: int = 1, **more: int) -> SharedLimiter:
    limiter = SharedLimiter(rate, burst, processes=processes, **more)
    limiter.trust(processes, 1e9)
    return limiter


def admitted(limiter: SharedLimiter, key: str, calls: int, now: float) -> int:
    return sum(limiter.acquire(key, now).allowed for _ in range(calls))


def test_the_burst_is_divided_by_the_processes() -> None:
    limiter = trusted(rate=10, burst=100, processes=4)
    assert admitted(limiter, "ann", 100, 0.0) == 25
    assert admitted(limiter, "bob", 100, 0.0) == 25


def test_a_cold_key_has_its_part_of_the_reserve() -> None:
    limiter = trusted(rate=100, burst=8, processes=2)
    assert limiter.share("ann", 0.0) == pytest.approx(100 * RESERVE / 2)
    admitted(limiter, "ann", 8, 0.0)
    assert admitted(limiter, "ann", 8, 0.2) == 1  # 5 a second


def test_a_busy_key_asks_for_a_share_and_has_it_until_its_lease_ends() -> None:
    limiter = trusted(rate=100, burst=10)
    assert limiter.claims(0.0, LEASE) == []
    admitted(limiter, "ann", 10, 0.0)
    ((key, demand),) = limiter.claims(0.5, LEASE)
    assert key == "ann"
    assert demand == pytest.approx(12.0, rel=0.5)
    limiter.lend("ann", 90.0, 2.5, 0.5)
    assert limiter.share("ann", 0.6) == pytest.approx(100.0)
    assert limiter.share("ann", 2.5) == pytest.approx(10.0)


def test_a_lease_that_ended_on_the_way_is_counted_for_its_part() -> None:
    limiter = trusted(rate=100, burst=1000)
    admitted(limiter, "ann", 1000, 0.0)
    limiter.lend("ann", 90.0, 2.0, 0.0)
    assert admitted(limiter, "ann", 1000, 10.0) == 10 * 10 + 90 * 2


def test_a_key_that_asks_for_little_never_claims() -> None:
    limiter = trusted(rate=100, burst=10)
    for second in range(100):
        assert admitted(limiter, "ann", 3, float(second)) == 3
        assert limiter.claims(second + 0.5, LEASE) == []


def test_with_a_burst_of_one_only_who_is_refused_is_busy() -> None:
    limiter = trusted(rate=1, burst=1)
    for number in range(100):
        assert limiter.acquire(f"quiet-{number}", 0.0).allowed
    assert limiter.hot == 0
    assert not limiter.acquire("quiet-7", 0.0).allowed
    assert [key for key, _ in limiter.claims(0.5, LEASE)] == ["quiet-7"]


def test_a_key_that_falls_silent_gets_cold_and_owes_what_it_used() -> None:
    limiter = trusted(rate=10, burst=10)
    admitted(limiter, "ann", 10, 0.0)
    assert limiter.hot == 1
    assert limiter.claims(LEASE + 1.0, LEASE) == []
    assert limiter.hot == 0
    assert admitted(limiter, "ann", 10, LEASE + 1.0) == 3  # 1 a second of the reserve came back


def test_a_call_given_back_was_never_made() -> None:
    limiter = trusted(rate=0.001, burst=4)
    for _ in range(10):
        assert limiter.acquire("ann", 0.0).allowed
        limiter.give_back("ann", 0.0)
    assert admitted(limiter, "ann", 10, 0.0) == 4
    away = SharedLimiter(0.001, 4)
    for _ in range(10):
        assert away.acquire("ann", 0.0).allowed
        away.give_back("ann", 0.0)
    assert admitted(away, "ann", 10, 0.0) == 4


@pytest.mark.parametrize(
    ("when_away", "passed"), [(WhenAway.LOCAL, 5), (WhenAway.OPEN, 100), (WhenAway.CLOSED, 0)]
)
def test_while_nobody_can_be_asked_it_does_what_was_chosen(
    when_away: WhenAway, passed: int
) -> None:
    limiter = SharedLimiter(10, 10, when_away=when_away, processes=2)
    assert limiter.is_away(0.0)
    assert admitted(limiter, "ann", 100, 0.0) == passed
    limiter.trust(2, 2.0)
    assert not limiter.is_away(1.9)
    assert admitted(limiter, "bob", 100, 1.0) == 5
    assert limiter.is_away(2.0)


def test_a_local_part_is_the_rate_by_the_processes_last_known() -> None:
    limiter = SharedLimiter(10, 1)
    limiter.trust(5, 1.0)
    assert limiter.processes == 5
    assert limiter.share("ann", 1.0) == 2.0
    assert [limiter.acquire("ann", now).allowed for now in (1.0, 1.4, 1.5)] == [True, False, True]


def test_keys_are_bounded_however_many_addresses_come() -> None:
    limiter = trusted(rate=1, burst=2, max_keys=1000, max_hot=100)
    for number in range(10_000):
        for _ in range(3):
            limiter.acquire(f"address-{number}", 0.0)
    assert limiter.hot == 100
    assert len(limiter) <= 1100
    assert limiter.unlent > 0
    assert len(limiter.claims(0.5, LEASE)) == 100


@pytest.mark.parametrize("more", [{"processes": 0}, {"max_hot": 0}])
def test_a_limit_of_nobody_is_refused(more: dict[str, int]) -> None:
    with pytest.raises(Misconfigured):
        SharedLimiter(1, 1, **more)


def test_it_says_what_it_holds() -> None:
    assert repr(trusted(10, 2, 3)) == "<SharedLimiter 10/s by 3, 0 hot, 0 cold>"


class Together:
    """Processes that keep one limit, and the ledger between them, in a time of their own."""

    def __init__(self, rate: float, burst: int, number: int) -> None:
        self.processes = [trusted(rate, burst, number) for _ in range(number)]
        self.times: list[float] = []  # of the calls that were admitted
        self._shares = Shares()
        self._due = 0.0

    def ask(self, place: int, calls: int, now: float) -> None:
        while self._due <= now:
            self._claim(self._due)
            self._due += INTERVAL
        self.times += [now] * admitted(self.processes[place], "ann", calls, now)

    def _claim(self, now: float) -> None:
        until = now + LEASE
        for name, limiter in enumerate(self.processes):
            for key, demand in limiter.claims(now, LEASE):
                share = self._shares.claim(
                    key, str(name), rate=limiter.leasable, demand=demand, until=until, now=now
                )
                limiter.lend(key, share, until, now)


@settings(max_examples=50, deadline=None)
@given(
    rate=st.sampled_from([0.5, 5.0, 50.0]),
    burst=st.integers(1, 40),
    calls=st.lists(
        st.tuples(st.integers(0, 3), st.integers(0, 60), st.sampled_from([0.05, 0.25, 1.0])),
        max_size=60,
    ),
)
def test_together_they_never_admit_more_than_burst_and_rate_in_any_interval(
    rate: float, burst: int, calls: list[tuple[int, int, float]]
) -> None:
    """Four processes, one key, calls wherever they come: the promise of the whole."""
    together, now = Together(rate, burst, 4), 0.0
    for place, number, gap in calls:
        now += gap
        together.ask(place, number, now)
    times = together.times
    for first, last in itertools.combinations(range(len(times)), 2):
        allowed = max(burst, 4) + rate * (times[last] - times[first])
        assert last - first + 1 <= allowed + 0.1


@pytest.mark.parametrize(
    ("places", "part"),
    [
        ((0, 1, 2, 3), 1.0),  # wanted everywhere: all of the rate is used
        ((0, 0, 0, 1), 1 - RESERVE / 2),
        ((2,), 1 - RESERVE * 3 / 4),  # wanted at one: that has not the others' reserve
    ],
)
def test_together_they_admit_nearly_all_of_the_rate_and_no_more(
    places: tuple[int, ...], part: float
) -> None:
    together = Together(100.0, 40, 4)
    for step in range(2000):
        together.ask(places[step % len(places)], 20, step / 100)
    later = [at for at in together.times if at >= 10.0]  # by then the shares have settled
    assert 1000 * part * 0.97 <= len(later) <= 1000 * part + 40
