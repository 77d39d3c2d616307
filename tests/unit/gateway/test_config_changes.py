"""What another configuration changes, how it is told, and what of limits is taken over."""

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seawall.gateway.actions import Edits
from seawall.gateway.balance import Sticky
from seawall.gateway.changes import changes
from seawall.gateway.config import Edge, GatewayConfig, Route, Timeouts, Upstreams
from seawall.gateway.describing import described, revision, settings
from seawall.gateway.limits import Algorithm, Limit, LimitBy
from seawall.gateway.quota import Counters, Rule
from seawall.topology import Constraint

SHOP = Route(service="shop")


def test_what_is_the_same_is_no_change() -> None:
    told = changes(GatewayConfig(routes=(SHOP,)), GatewayConfig(routes=(Route(service="shop"),)))
    assert not told
    assert told.plain()["settings"] == []


def test_routes_are_told_field_by_field() -> None:
    before = GatewayConfig(
        routes=(SHOP, Route(service="a", path="/a"), Route(service="b", path="/b"))
    )
    after = GatewayConfig(
        routes=(
            Route(service="c", path="/c"),
            replace(SHOP, version=Constraint.parse("^2"), timeouts=Timeouts(total=3.0)),
            Route(service="b", path="/b"),
        )
    )
    told = changes(before, after)
    assert (told.added, told.removed, told.reordered) == (("/c",), ("/a",), False)
    (changed,) = told.changed
    assert changed.name == "/"
    found = {one.path: (one.before, one.after) for one in changed.fields}
    assert found == {"version": ("*", "^2"), "timeouts.total": (15.0, 3.0)}
    json.dumps(told.plain())


def test_routes_with_one_label_are_compared_in_their_order() -> None:
    one, other = Route(service="a", methods=("GET",)), Route(service="b", methods=("PUT",))
    told = changes(GatewayConfig(routes=(one, other)), GatewayConfig(routes=(one,)))
    assert told.removed == ("/ #2",)
    assert changes(
        GatewayConfig(routes=(SHOP, Route(service="a", path="/a"))),
        GatewayConfig(routes=(Route(service="a", path="/a"), SHOP)),
    ).reordered


def test_settings_are_told_by_their_path_and_what_needs_a_restart_is_not_applied() -> None:
    before = GatewayConfig(edge=Edge(max_body=1), name="gateway-1", access_log="-")
    after = replace(
        before, edge=Edge(max_body=2), name="x", services={"shop": Upstreams(attempts=1)}
    )
    told = changes(before, after)
    assert {one.path for one in told.settings} == {"edge.max_body", "services.shop"}
    assert [(one.path, one.after) for one in told.needs_restart] == [("name", "x")]


def test_no_secret_is_told_and_a_change_of_one_is_seen() -> None:
    def secret(text: str) -> GatewayConfig:
        return GatewayConfig(
            routes=(Route(service="shop", request_headers=Edits(set={"x-key": text})),),
            services={"shop": Upstreams(sticky=Sticky(secret=text))},
            auth={"users": {"kind": "jwt", "secret": text}},
        )

    one, other = secret("hunter2-hunter2"), secret("correct-horse-battery")
    told = changes(one, other)
    shown = json.dumps([told.plain(), settings(one), settings(other)])
    assert "hunter2" not in shown
    assert "horse" not in shown
    assert told.before != told.after
    assert {one.path for one in told.settings} == {
        "services.shop.sticky.secret",
        "auth.users.secret",
    }
    assert [one.path for one in told.changed[0].fields] == ["request_headers.set.x-key"]


def test_gateways_with_one_configuration_have_one_revision() -> None:
    config = GatewayConfig(routes=(SHOP,), name="gateway-1", zone="a")
    assert revision(config) == revision(replace(config, name="gateway-2", zone="b"))
    assert revision(config) != revision(replace(config, drain=1.0))
    assert len(revision(config)) == 12


def test_what_json_does_not_know_is_told_in_words() -> None:
    assert described((float("inf"), frozenset(("b", "a")), LimitBy.ROUTE)) == [
        "inf",
        ["a", "b"],
        "route",
    ]


# limits


class Counted:
    """The one limit of a place, before and after a change."""

    def __init__(self, limit: Limit) -> None:
        self.counters = Counters()
        self.rule = self.counters.rule(limit, "/", "limit")

    def changed(self, limit: Limit, now: float = 0.0) -> Rule:
        self.counters.draft()
        rule = self.counters.rule(limit, "/", "limit")
        self.counters.adopt(now)
        return rule


def passed(rule: Rule, calls: int, now: float = 0.0) -> int:
    return sum(rule.limiter.acquire("ann", now).allowed for _ in range(calls))


@given(
    used=st.integers(0, 50),
    burst=st.integers(1, 50),
    rate=st.floats(0.01, 100.0),
    shared=st.booleans(),
)
def test_calls_that_were_used_stay_used(used: int, burst: int, rate: float, shared: bool) -> None:
    counted = Counted(Limit(rate=1.0, burst=50, shared=shared))
    assert passed(counted.rule, used) == used
    rule = counted.changed(Limit(rate=rate, burst=burst, shared=shared))
    assert passed(rule, 100) == max(0, burst - used)


def test_who_used_all_waits_no_longer_than_the_new_limit_says() -> None:
    counted = Counted(Limit(rate=0.001, burst=10))
    passed(counted.rule, 10)
    rule = counted.changed(Limit(rate=1.0, burst=10))
    assert not rule.limiter.acquire("ann", 0.5).allowed
    assert rule.limiter.acquire("ann", 1.0).allowed


def test_a_window_of_the_same_length_counts_on() -> None:
    window = Limit(algorithm=Algorithm.SLIDING_WINDOW, requests=10, window=60.0)
    counted = Counted(window)
    passed(counted.rule, 8)
    assert passed(counted.changed(replace(window, requests=12)), 20) == 4
    assert passed(counted.changed(replace(window, requests=12, window=30.0)), 20) == 12


@pytest.mark.parametrize(
    "limit",
    [
        Limit(rate=1.0, burst=5, by=LimitBy.ROUTE),
        Limit(rate=1.0, burst=5, shared=True),
        Limit(algorithm=Algorithm.SLIDING_WINDOW, requests=5, window=60.0),
    ],
)
def test_a_limit_of_another_kind_begins_anew_and_says_how_often_it_refused(limit: Limit) -> None:
    counted = Counted(Limit(rate=1.0, burst=5))
    passed(counted.rule, 5)
    counted.rule.refused = 3
    rule = counted.changed(limit)
    assert (passed(rule, 9), rule.refused) == (5, 3)


def test_a_rule_that_stays_is_the_same_and_one_that_goes_is_dropped() -> None:
    counted = Counted(Limit(rate=1.0))
    assert counted.changed(Limit(rate=1.0)) is counted.rule
    counted.counters.draft()
    assert counted.counters.rules() == [counted.rule]
    counted.counters.adopt(0.0)
    assert counted.counters.rules() == []
