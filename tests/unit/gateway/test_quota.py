"""What a limit is told, and what several limits say together."""

from random import Random
from typing import Any

import pytest

from seawall.clock import SYSTEM
from seawall.errors import Misconfigured
from seawall.facts import ignore
from seawall.gateway.access import AccessLog
from seawall.gateway.answers import Answer
from seawall.gateway.config import GatewayConfig, Route
from seawall.gateway.connection import Downstream
from seawall.gateway.exchange import Exchange
from seawall.gateway.filters import filters
from seawall.gateway.limits import Algorithm, Limit, LimitBy
from seawall.gateway.proxy import Proxy
from seawall.gateway.quota import Counters
from seawall.gateway.timers import Wheel
from seawall.resilience.sharing import SharedLimiter, WhenAway
from seawall.wire.http1 import scan_request

SLOW = 0.001  # calls a second: nothing comes back within a test


PROXY = Proxy(GatewayConfig(), Wheel(0.1, 0.0), SYSTEM, Random(1), AccessLog(None), ignore)
HEAD = b"GET / HTTP/1.1\r\nhost: shop.example\r\n\r\n"


def caller(subject: str = "", plan: str = "", client: str = "10.0.0.1") -> Exchange:
    """A request of somebody; filters have seen who it is."""
    exchange = Exchange(PROXY, Downstream(PROXY), scan_request(HEAD, len(HEAD)), 0.0)
    exchange.subject, exchange.plan_name, exchange.client = subject, plan, client
    return exchange


def told(exchange: Exchange) -> dict[str, str]:
    lines = exchange.told.decode().split("\r\n")[:-1]
    return {name: value for name, _, value in (line.partition(": ") for line in lines)}


class Asked:
    """The quota of one route, asked by callers."""

    def __init__(self, *limits: Limit, plans: dict[str, tuple[Limit, ...]] | None = None) -> None:
        route = Route(service="shop", limits=limits, plans=plans is not None)
        config = GatewayConfig(
            routes=(route,), plans=plans or {}, default_plan=next(iter(plans or [""]))
        )
        self.counters = Counters()
        (self._filter,) = filters(route, config, {}, self.counters, lambda: 0.0)

    def __call__(self, asker: Exchange, now: float = 0.0) -> Answer | None:
        return self._filter(asker, now)

    def passed(self, asker: Exchange, calls: int = 20, now: float = 0.0) -> int:
        return sum(self(asker, now) is None for _ in range(calls))


@pytest.mark.parametrize("algorithm", [Algorithm.TOKEN_BUCKET, Algorithm.GCRA])
def test_a_rate_with_a_burst(algorithm: Algorithm) -> None:
    asked = Asked(Limit(rate=1, burst=3, algorithm=algorithm))
    assert asked.passed(caller("ann")) == 3
    assert asked.passed(caller("ann"), now=2.0) == 2
    assert asked.passed(caller("bob")) == 3


def test_a_sliding_window() -> None:
    asked = Asked(Limit(algorithm=Algorithm.SLIDING_WINDOW, requests=4, window=60.0))
    assert asked.passed(caller("ann"), now=59.0) == 4
    assert asked.passed(caller("ann"), now=59.9) == 0
    assert asked.passed(caller("ann"), now=88.0) == 2
    bob = caller("bob")
    assert asked(bob) is None
    assert told(bob)["ratelimit-policy"] == '"identity";q=4;w=60'


@pytest.mark.parametrize(
    ("by", "passed"),
    [
        (LimitBy.IDENTITY, [2, 2, 2, 2]),
        (LimitBy.ADDRESS, [2, 0, 2, 0]),
        (LimitBy.PLAN, [2, 2, 0, 0]),
        (LimitBy.ROUTE, [2, 0, 0, 0]),
    ],
)
def test_whose_requests_are_counted_together(by: LimitBy, passed: list[int]) -> None:
    callers = [
        caller("ann", "gold", "10.0.0.1"),
        caller("bob", "free", "10.0.0.1"),
        caller("cem", "gold", "10.0.0.2"),
        caller("dan", "free", "10.0.0.2"),
    ]
    asked = Asked(Limit(rate=SLOW, burst=2, by=by))
    assert [asked.passed(one) for one in callers] == passed


def test_all_limits_must_allow_and_the_tightest_is_told() -> None:
    asked = Asked(
        Limit(rate=SLOW, burst=5, by=LimitBy.ADDRESS), Limit(rate=SLOW, burst=3, by=LimitBy.ROUTE)
    )
    ann = caller()
    assert asked(ann) is None
    assert told(ann)["ratelimit-policy"] == '"address";q=5;w=5000, "route";q=3;w=3000'
    assert told(ann)["ratelimit"].startswith('"route";r=2;t=')
    assert asked.passed(ann) == 2
    refused = asked(ann)
    assert refused is not None
    assert refused.status == 429
    assert "by route" in refused.detail
    assert refused.headers["ratelimit"].startswith('"route";r=0;t=')


@pytest.mark.parametrize("shared", [False, True])
def test_what_is_refused_uses_up_nothing_of_the_other_limits(shared: bool) -> None:
    by_address = Limit(rate=SLOW, burst=5, by=LimitBy.ADDRESS, shared=shared)
    windowed = Limit(
        algorithm=Algorithm.SLIDING_WINDOW, requests=5, window=60, by=LimitBy.ADDRESS, name="window"
    )
    by_identity = Limit(rate=SLOW, burst=1)
    asked = Asked(by_address, windowed, by_identity)
    assert asked.passed(caller("ann"), 100) == 1
    # The same address, and four of its five calls are left in both of its limits.
    assert [asked.passed(caller(f"user-{n}")) for n in range(6)] == [1, 1, 1, 1, 0, 0]
    counted = {rule.name: rule.refused for rule in asked.counters.rules()}
    assert counted["identity"] >= 99
    assert counted["address"] + counted["window"] > 0


def test_of_several_refusals_the_longest_is_told() -> None:
    asked = Asked(
        Limit(rate=1, burst=1, by=LimitBy.ADDRESS), Limit(rate=0.1, burst=1, by=LimitBy.ROUTE)
    )
    asked(caller())
    refused = asked(caller())
    assert refused is not None
    assert refused.retry_after == pytest.approx(10.0)
    assert asked(caller(), 10.0) is None


PLANS = {
    "free": (Limit(rate=SLOW, burst=1), Limit(rate=SLOW, burst=3, by=LimitBy.PLAN)),
    "gold": (Limit(rate=SLOW, burst=10),),
    "inner": (),
}


def test_a_plan_says_how_much() -> None:
    asked = Asked(plans=PLANS)
    ann = caller("ann", "gold")
    assert asked(ann) is None
    assert told(ann)["ratelimit-policy"].startswith('"gold-identity";q=10;')
    assert asked.passed(ann) == 9
    assert asked.passed(caller("root", "inner"), 100) == 100
    nobody, unknown = caller(), caller("eve", "platinum")
    assert [asked.passed(nobody), asked.passed(unknown)] == [1, 1]
    assert unknown.plan_name == "free"
    # All who have the free plan together.
    assert [asked.passed(caller(f"user-{n}", "free")) for n in range(3)] == [1, 0, 0]


def test_a_plan_is_counted_over_all_its_routes() -> None:
    routes = (Route(service="shop", path="/a", plans=True), Route(service="shop", plans=True))
    config = GatewayConfig(routes=routes, plans=PLANS, default_plan="free")
    counters = Counters()
    first, second = (filters(route, config, {}, counters, lambda: 0.0)[0] for route in routes)
    ann = caller("ann", "gold")
    assert sum(check(ann, 0.0) is None for check in (first, second) * 20) == 10


def test_routes_that_look_alike_count_apart() -> None:
    limits = (Limit(rate=SLOW, burst=2),)
    routes = (
        Route(service="shop", path="/a", limits=limits),
        Route(service="shop", path="/a", headers={"x-canary": "1"}, limits=limits),
    )
    config, counters = GatewayConfig(routes=routes), Counters()
    first, second = (filters(route, config, {}, counters, lambda: 0.0)[0] for route in routes)
    assert sum(first(caller("ann"), 0.0) is None for _ in range(5)) == 2
    assert sum(second(caller("ann"), 0.0) is None for _ in range(5)) == 2
    assert [rule.where for rule in counters.rules()] == ["/a", "/a #2"]


def test_a_limit_that_cannot_be_counted_is_no_fault_of_the_client() -> None:
    asked = Asked(Limit(rate=1, shared=True, when_away=WhenAway.CLOSED))
    refused = asked(caller())
    assert refused is not None
    assert (refused.status, refused.retry_after, refused.headers) == (503, 1.0, {})
    (rule,) = asked.counters.rules()
    assert isinstance(rule.limiter, SharedLimiter)
    rule.limiter.trust(1, 100.0)
    assert asked(caller()) is None
    refused = asked(caller())
    assert refused is not None
    assert refused.status == 429


def test_a_limit_keeps_its_counters_as_long_as_it_is_the_same() -> None:
    counters, limit = Counters(), Limit(rate=1)
    rule = counters.rule(limit, "/", "identity")
    assert counters.rule(Limit(rate=1), "/", "identity") is rule
    assert counters.rule(Limit(rate=2), "/", "identity") is not rule
    assert counters.rule(limit, "/other", "identity") is not rule


@pytest.mark.parametrize(
    "wrong",
    [
        {},
        {"rate": 0},
        {"rate": 1, "burst": 0},
        {"rate": 1, "window": 60},
        {"requests": 10, "window": 60},
        {"algorithm": Algorithm.SLIDING_WINDOW, "rate": 1},
        {"algorithm": Algorithm.SLIDING_WINDOW, "requests": 10},
        {"algorithm": Algorithm.SLIDING_WINDOW, "requests": 10, "window": 60, "shared": True},
    ],
)
def test_a_limit_that_makes_no_sense_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(Misconfigured, match="fix:"):
        Limit(**wrong)


def test_limits_of_one_place_have_different_names() -> None:
    two = (Limit(rate=1), Limit(rate=2))
    with pytest.raises(Misconfigured, match="two limits are called 'identity'"):
        Route(service="shop", limits=two)
    with pytest.raises(Misconfigured, match="plan gold: two limits"):
        GatewayConfig(plans={"gold": two})
    Route(service="shop", limits=(Limit(rate=1), Limit(rate=2, name="hourly")))


def test_who_has_no_plan_has_one_all_the_same() -> None:
    with pytest.raises(Misconfigured, match="default_plan = 'gold'"):
        GatewayConfig(routes=(Route(service="shop", plans=True),), plans={"gold": (Limit(rate=1),)})
