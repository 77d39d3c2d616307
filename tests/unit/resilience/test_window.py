from hypothesis import given
from hypothesis import strategies as st

from seawall.resilience.window import Window

# Quarters are exact in binary, so that the comparison is of windows and not of rounding.
GAPS = st.lists(st.integers(0, 60).map(lambda quarters: quarters / 4), max_size=80)


def test_counts_good_and_bad_apart() -> None:
    window = Window(10.0)
    window.add_good(0.0)
    window.add_good(0.5)
    window.add_bad(9.0)
    assert (window.good, window.bad) == (2, 1)


def test_forgets_after_its_span() -> None:
    window = Window(10.0)
    window.add_good(0.0)
    window.add_bad(8.0)
    window.expire(9.9)
    assert (window.good, window.bad) == (1, 1)
    window.expire(10.0)
    assert (window.good, window.bad) == (0, 1)
    window.expire(1000.0)
    assert (window.good, window.bad) == (0, 0)


def test_an_earlier_time_counts_into_the_newest_bucket() -> None:
    window = Window(10.0)
    window.add_good(100.0)
    window.add_good(3.0)
    window.add_bad(3.0)
    assert (window.good, window.bad) == (2, 1)


def test_clear_forgets_all_and_goes_on() -> None:
    window = Window(10.0)
    window.add_good(0.0)
    window.add_bad(5.0)
    window.clear()
    assert (window.good, window.bad) == (0, 0)
    window.add_bad(6.0)
    window.expire(15.9)
    assert (window.good, window.bad) == (0, 1)


@given(GAPS)
def test_covers_between_nine_tenths_of_its_span_and_all_of_it(gaps: list[float]) -> None:
    window = Window(10.0)
    now, seen = 0.0, []
    for gap in gaps:
        now += gap
        seen.append(now)
        window.add_good(now)
        window.add_bad(now)
        least = sum(at > now - 9.0 for at in seen)
        most = sum(at > now - 10.0 for at in seen)
        assert least <= window.good <= most
        assert window.good == window.bad


def test_says_what_it_holds() -> None:
    window = Window(2.5)
    window.add_bad(0.0)
    assert repr(window) == "<Window 0 good, 1 bad in 2.5 s>"
