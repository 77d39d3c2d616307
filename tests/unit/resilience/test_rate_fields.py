import pytest

from seawall.errors import Misconfigured
from seawall.resilience.limiter import KeyedLimiter, Verdict
from seawall.resilience.rate_fields import (
    RateLimit,
    limit_field,
    policy_field,
    retry_after_field,
)
from seawall.resilience.sliding import KeyedWindow


@pytest.mark.parametrize(
    ("limit", "field"),
    [
        (KeyedWindow(1000, 3600.0), '"hourly";q=1000;w=3600'),
        (KeyedLimiter(rate=10, burst=25), '"hourly";q=25;w=3'),
        (KeyedLimiter(rate=100, burst=5), '"hourly";q=5;w=1'),
    ],
)
def test_a_policy_is_told_in_the_words_of_the_draft(limit: RateLimit, field: str) -> None:
    assert policy_field("hourly", limit) == field


def test_what_is_left_is_told() -> None:
    limit = KeyedWindow(2, 10.0)
    first = limit.acquire("ann", 100.0)
    assert limit_field("short", first) == '"short";r=1;t=20'
    limit.acquire("ann", 100.5)
    refused = limit.acquire("ann", 100.5)
    assert limit_field("short", refused) == '"short";r=0;t=20'
    assert retry_after_field(refused) == "10"


@pytest.mark.parametrize(("wait", "field"), [(0.001, "1"), (1.0, "1"), (1.001, "2")])
def test_retry_after_is_never_too_early(wait: float, field: str) -> None:
    assert retry_after_field(Verdict(False, 0, wait, wait)) == field


@pytest.mark.parametrize("name", ['a"b', "a\\b", "a\r\nb", "ä"])
def test_a_name_that_does_not_fit_into_a_field_is_refused(name: str) -> None:
    with pytest.raises(Misconfigured):
        policy_field(name, KeyedWindow(1, 1.0))
