"""What a route may do with copies and faults, and how often it does."""

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seawall.errors import Misconfigured
from seawall.gateway import faults
from seawall.gateway.actions import Redirect
from seawall.gateway.config import Route
from seawall.gateway.traffic import Abort, Delay, Faults, Mirror

SECONDS = st.floats(0.001, 100)


@given(wait=SECONDS, jitter=SECONDS, seed=st.integers())
def test_a_delay_is_what_it_says_and_up_to_its_jitter_more(
    wait: float, jitter: float, seed: int
) -> None:
    found = faults.seconds(Delay(seconds=wait, jitter=jitter), Random(seed))
    assert wait <= found <= wait + jitter


@pytest.mark.parametrize("percent", [0.0, 2.5, 50.0, 100.0])
def test_as_many_requests_are_disturbed_as_it_says(percent: float) -> None:
    rng, count, part = Random(1), 20_000, percent / 100
    delay, abort = Delay(seconds=1, percent=percent), Abort(percent=percent)
    within = 4 * (count * part * (1 - part)) ** 0.5
    delayed = sum(faults.seconds(delay, rng) > 0 for _ in range(count))
    aborted = sum(faults.ends(abort, rng) for _ in range(count))
    assert abs(delayed - count * part) <= within
    assert abs(aborted - count * part) <= within


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (lambda: Faults(), "there are none"),
        (lambda: Delay(seconds=-1), "delay"),
        (lambda: Delay(seconds=200, jitter=101), "delay"),
        (lambda: Delay(seconds=1, percent=101), "percent is 101"),
        (lambda: Abort(status=200, percent=-1), "percent is -1"),
        (lambda: Abort(status=799), "799 is no status"),
        (lambda: Mirror(service=""), "no service"),
        (lambda: Mirror(service="a", max_in_flight=0), "max_in_flight is 0"),
        (lambda: Mirror(service="a", timeout=0), "timeout is 0"),
        (
            lambda: Route(redirect=Redirect(host="a"), faults=Faults(abort=Abort())),
            "requests to a service",
        ),
    ],
)
def test_what_makes_no_sense_is_refused(make: object, why: str) -> None:
    assert callable(make)
    with pytest.raises(Misconfigured, match=why):
        make()
