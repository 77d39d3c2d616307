"""Who is asked: clusters driven by views, outcomes and time, without a connection."""

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from random import Random
from typing import Any

import pytest

from seawall.concurrency.tasks import Tasks
from seawall.gateway.balance import HealthCheck, Sticky
from seawall.gateway.clusters import Cluster, Clusters, HealthChanged
from seawall.gateway.config import GatewayConfig, Upstreams
from seawall.gateway.gateway import Known
from seawall.gateway.timers import Wheel
from seawall.gateway.upstream import Dialer, Endpoint
from seawall.resilience.balancing import Balancing
from seawall.resilience.locality import LocalityConfig
from seawall.resilience.outlier import Ejected, OutlierConfig
from seawall.resilience.slow_start import SlowStart
from seawall.testing.clock import ManualClock
from seawall.topology import ANY, Address, Constraint, Instance, InstanceState


def instance(number: int, **changes: Any) -> Instance:
    base = Instance(
        service="shop",
        version="1.0.0",
        instance_id=f"shop-{number}",
        incarnation="1",
        address=Address("192.0.2.1", 8000 + number),
        state=InstanceState.READY,
    )
    return replace(base, **changes)


class Shop:
    """The cluster of one service, as its gateway sees it."""

    def __init__(self, upstreams: Upstreams, *, zone: str = "", seed: int = 1) -> None:
        self.facts: list[object] = []
        clock = ManualClock()
        config = GatewayConfig(services={"shop": upstreams}, zone=zone)
        dialer = Dialer(Tasks(), Wheel(0.1, 0.0), clock)
        self.clusters = Clusters(config, dialer, Random(seed), self.facts.append)
        self.cluster: Cluster = self.clusters.cluster("shop", ANY)

    def show(self, *instances: Instance, now: float = 0.0, stale: bool = False) -> None:
        self.clusters.update(Known(instances, stale), now)

    def endpoint(self, number: int) -> Endpoint:
        name = f"shop-{number}"
        return next(e for e in self.cluster.endpoints if e.log_name == name)

    def ask(self, now: float = 0.0, key: str = "", *avoid: Endpoint) -> Endpoint:
        """One request that is answered at once."""
        picked = self.cluster.pick(now, avoid, key)
        assert picked is not None
        endpoint, permit = picked
        self.cluster.succeeded(endpoint, permit, now)
        return endpoint

    def asked(self, times: int = 1000, *, now: float = 0.0, key: str = "") -> Counter[str]:
        return Counter(self.ask(now, key).log_name for _ in range(times))

    def fail(self, number: int, times: int = 1, now: float = 0.0) -> None:
        endpoint = self.endpoint(number)
        for _ in range(times):
            permit = endpoint.breaker.admit(now)
            assert permit is not None
            self.cluster.failed(endpoint, permit, now)


EVEN = tuple(instance(number) for number in range(1, 4))
TRUSTING = OutlierConfig(consecutive_failures=100)


@pytest.mark.parametrize("kind", [kind for kind in Balancing if kind.value != "consistent-hash"])
def test_equal_instances_get_equal_parts(kind: Balancing) -> None:
    shop = Shop(Upstreams(balancing=kind))
    shop.show(*EVEN)
    asked = shop.asked(3000)
    assert len(asked) == 3
    assert min(asked.values()) > 900


@pytest.mark.parametrize("kind", [Balancing.WEIGHTED, Balancing.LEAST_REQUEST])
def test_parts_are_as_the_weights(kind: Balancing) -> None:
    shop = Shop(Upstreams(balancing=kind))
    shop.show(instance(1, weight=100), instance(2, weight=50), instance(3, weight=0))
    asked = shop.asked(3000)
    assert set(asked) == {"shop-1", "shop-2"}
    assert 1850 < asked["shop-1"] < 2150


def test_weight_0_is_asked_if_there_is_no_other() -> None:
    shop = Shop(Upstreams())
    shop.show(instance(1, weight=0))
    assert shop.ask().log_name == "shop-1"


def test_the_default_takes_the_plain_path_and_others_do_not() -> None:
    shop = Shop(Upstreams())
    shop.show(*EVEN)
    assert shop.cluster.picker.plain
    shop.show(*EVEN, instance(4, weight=1))
    assert not shop.cluster.picker.plain


def test_a_service_may_be_treated_as_no_other() -> None:
    own = Upstreams(balancing=Balancing.WEIGHTED, attempts=1)
    config = GatewayConfig(upstreams=Upstreams(attempts=2), services={"shop": own})
    dialer = Dialer(Tasks(), Wheel(0.1, 0.0), ManualClock())
    clusters = Clusters(config, dialer, Random(1), lambda _: None)
    assert clusters.cluster("shop", ANY).attempts == 1
    assert clusters.cluster("other", ANY).attempts == 2


# peak EWMA


def test_who_answers_slowly_is_asked_less() -> None:
    shop = Shop(Upstreams(balancing=Balancing.PEAK_EWMA))
    shop.show(*EVEN)
    ewma = shop.cluster.picker.ewma
    assert ewma is not None
    assert shop.cluster.watches
    for number, seconds in ((1, 0.01), (2, 0.01), (3, 0.5)):
        ewma.observe(shop.endpoint(number), seconds, 1.0)
    assert shop.asked(now=1.0)["shop-3"] == 0


def test_who_fails_at_once_is_not_taken_for_fast() -> None:
    shop = Shop(Upstreams(balancing=Balancing.PEAK_EWMA, outliers=TRUSTING))
    shop.show(*EVEN)
    ewma = shop.cluster.picker.ewma
    assert ewma is not None
    for number in (1, 2):
        ewma.observe(shop.endpoint(number), 0.2, 1.0)
    shop.fail(3, now=1.0)
    assert shop.asked(now=1.0)["shop-3"] == 0
    shop.show(*EVEN[:2])
    assert "2 with a history" in repr(ewma)


# consistent hash


def hashing(seed: int) -> Shop:
    upstreams = Upstreams(balancing=Balancing.CONSISTENT_HASH, hash_on="header:x-tenant")
    return Shop(upstreams, seed=seed)


def test_a_key_has_the_same_home_at_every_gateway() -> None:
    one, other = hashing(1), hashing(2)
    one.show(*EVEN)
    other.show(*reversed(EVEN))
    keys = [f"user-{number}" for number in range(200)]
    homes = {key: one.ask(0.0, key).log_name for key in keys}
    assert {key: other.ask(0.0, key).log_name for key in keys} == homes
    assert set(homes.values()) == {"shop-1", "shop-2", "shop-3"}
    # Only the keys of who leaves move, and they come back with it.
    one.show(*EVEN[:2])
    moved = {key for key in keys if one.ask(0.0, key).log_name != homes[key]}
    assert moved == {key for key in keys if homes[key] == "shop-3"}
    one.show(*EVEN)
    assert {key: one.ask(0.0, key).log_name for key in keys} == homes


def test_a_hot_key_does_not_drown_its_home() -> None:
    shop = hashing(1)
    shop.show(*EVEN)
    home = shop.ask(0.0, "hot")
    home.in_flight = 10
    assert shop.ask(0.0, "hot") is not home


def test_a_key_keeps_its_group_where_there_are_several() -> None:
    upstreams = Upstreams(
        balancing=Balancing.CONSISTENT_HASH,
        hash_on="path",
        health=HealthCheck(unhealthy=1),
        locality=LocalityConfig(panic=0.0),
    )
    shop = Shop(upstreams)
    shop.show(instance(1), instance(2), instance(3, priority=1), instance(4, priority=1))
    shop.clusters.checked(shop.endpoint(1), False, "ill", 0.0)
    keys = [f"/{number}" for number in range(100)]
    homes = [shop.ask(0.0, key).log_name for key in keys]
    assert set(homes) == {"shop-2", "shop-3", "shop-4"}
    assert [shop.ask(0.0, key).log_name for key in keys] == homes


# stickiness


def sticking() -> Shop:
    shop = Shop(Upstreams(sticky=Sticky(secret="s"), outliers=OutlierConfig(max_ejected=1.0)))
    shop.show(*EVEN)
    return shop


def test_a_cookie_names_one_instance_whatever_else_happens() -> None:
    shop = sticking()
    token = shop.endpoint(2).token
    assert token != "2"
    assert "192.0.2.1" not in token
    assert shop.asked(50, key=token) == {"shop-2": 50}
    shop.show(instance(4), *EVEN)
    assert shop.asked(50, key=token) == {"shop-2": 50}
    assert len(shop.asked(300, key="forged")) == 4


def test_a_cookie_still_leads_to_an_instance_that_gets_nothing_new() -> None:
    shop = sticking()
    token = shop.endpoint(2).token
    shop.show(instance(1), instance(2, weight=0), instance(3))
    assert shop.asked(50, key=token) == {"shop-2": 50}
    assert set(shop.asked(200)) == {"shop-1", "shop-3"}


@pytest.mark.parametrize(
    "trouble",
    [
        lambda shop: shop.show(*EVEN[::2]),
        lambda shop: shop.fail(2, times=5),
        lambda shop: setattr(shop.endpoint(2), "in_flight", shop.endpoint(2).limit),
    ],
    ids=["gone", "ejected", "full"],
)
def test_a_cookie_that_leads_nowhere_is_balanced(trouble: Callable[[Shop], None]) -> None:
    shop = sticking()
    token = shop.endpoint(2).token
    trouble(shop)
    assert shop.ask(0.0, token).log_name in ("shop-1", "shop-3")


def test_a_retry_goes_elsewhere_in_spite_of_the_cookie() -> None:
    shop = sticking()
    endpoint = shop.endpoint(2)
    assert shop.ask(0.0, endpoint.token, endpoint) is not endpoint


# ejection


def test_one_that_fails_is_left_out_and_comes_back() -> None:
    shop = Shop(Upstreams())
    shop.show(*EVEN)
    shop.fail(3, times=3)
    assert [type(fact) for fact in shop.facts] == [Ejected]
    assert set(shop.asked()) == {"shop-1", "shop-2"}
    assert shop.cluster.ejections == 1
    shop.clusters.turn(9.9)
    assert shop.cluster.ejected
    shop.clusters.turn(10.0)
    assert not shop.cluster.ejected
    assert len(shop.asked(now=10.0)) == 3


@pytest.mark.parametrize(
    ("share", "expected"), [(0.0, 4), (0.25, 3), (0.5, 2), (0.99, 1), (1.0, 4)]
)
def test_no_more_than_the_ceiling_are_left_out(share: float, expected: int) -> None:
    """All fail: with a ceiling of 1 all would be out, and then all are asked."""
    shop = Shop(Upstreams(outliers=OutlierConfig(consecutive_failures=1, max_ejected=share)))
    shop.show(*(instance(number) for number in range(4)))
    for number in range(4):
        shop.fail(number)
    # With less than half that are well nobody's health is believed.
    well = 4 - len(shop.cluster.ejected)
    assert well == (expected if share < 1 else 0)
    assert len(shop.asked()) == (well if well >= 2 else 4)
    assert shop.cluster.picker.panic is (well < 2)


# active checks


CHECKED = Upstreams(health=HealthCheck(unhealthy=2, healthy=2))


def test_checks_take_an_instance_out_and_bring_it_back() -> None:
    shop = Shop(CHECKED)
    shop.show(*EVEN)
    ill = shop.endpoint(3)
    shop.clusters.checked(ill, False, "status 503", 1.0)
    assert shop.facts == []
    shop.clusters.checked(ill, False, "status 503", 2.0)
    assert shop.facts == [HealthChanged("shop/shop-3/1", False, "status 503", 2.0)]
    assert set(shop.asked()) == {"shop-1", "shop-2"}
    shop.show(*EVEN, now=3.0)
    assert set(shop.asked()) == {"shop-1", "shop-2"}, "a view changes no verdict"
    shop.clusters.checked(ill, True, "", 4.0)
    shop.clusters.checked(ill, True, "", 5.0)
    assert shop.facts[1:] == [HealthChanged("shop/shop-3/1", True, "", 5.0)]
    assert len(shop.asked()) == 3


def test_a_verdict_on_who_left_changes_nothing() -> None:
    shop = Shop(CHECKED)
    shop.show(*EVEN)
    gone = shop.endpoint(3)
    shop.show(*EVEN[:2])
    for _ in range(3):
        shop.clusters.checked(gone, False, "late", 1.0)
    assert shop.facts == []


@pytest.mark.parametrize(("ill", "asked"), [(1, 2), (2, 3), (3, 3)])
def test_with_less_than_half_that_are_well_all_are_asked(ill: int, asked: int) -> None:
    shop = Shop(CHECKED)
    shop.show(*EVEN)
    for endpoint in shop.cluster.endpoints[:ill]:
        for _ in range(2):
            shop.clusters.checked(endpoint, False, "hangs", 1.0)
    assert len(shop.asked()) == asked
    assert shop.cluster.picker.panic is (ill > 1)


# zones and priorities

ZONED = (instance(1, zone="a"), instance(2, zone="a"), instance(3, zone="b"), instance(4, zone="b"))
NEAR = Upstreams(
    locality=LocalityConfig(min_instances=2), health=HealthCheck(unhealthy=1, healthy=1)
)


def test_the_own_zone_is_asked_and_spills_over_when_it_is_small() -> None:
    shop = Shop(NEAR, zone="a")
    shop.show(*ZONED)
    assert set(shop.asked()) == {"shop-1", "shop-2"}
    shop.clusters.checked(shop.endpoint(1), False, "ill", 0.0)
    asked = shop.asked(3000)
    # A third of the instances for half of the callers: two thirds stay.
    assert 1850 < asked["shop-2"] < 2150
    assert set(asked) == {"shop-2", "shop-3", "shop-4"}
    shop.clusters.checked(shop.endpoint(1), True, "", 0.0)
    assert set(shop.asked()) == {"shop-1", "shop-2"}


def test_a_retry_leaves_a_zone_whose_instances_all_failed() -> None:
    shop = Shop(NEAR, zone="a")
    shop.show(instance(1, zone="a"), *ZONED[2:])
    for _ in range(50):
        assert shop.ask(0.0, "", shop.endpoint(1)).log_name in ("shop-3", "shop-4")


def test_a_retry_asks_even_who_is_left_out_before_the_same_again() -> None:
    shop = Shop(Upstreams())
    shop.show(*EVEN[:2])
    shop.fail(2, times=3)
    assert set(shop.asked()) == {"shop-1"}
    assert shop.ask(0.0, "", shop.endpoint(1)).log_name == "shop-2"
    assert shop.ask(0.0, "", *shop.cluster.endpoints).log_name == "shop-1"


def test_the_next_priority_takes_what_the_first_cannot() -> None:
    shop = Shop(NEAR)
    first = [instance(number) for number in range(1, 5)]
    spare = [instance(number, priority=1) for number in range(5, 9)]
    shop.show(*first, *spare)
    assert set(shop.asked()) == {"shop-1", "shop-2", "shop-3", "shop-4"}
    for number in (1, 2):
        shop.clusters.checked(shop.endpoint(number), False, "ill", 0.0)
    asked = shop.asked(3000)
    # Half of the first are well: 1.4 * 0.5 = 70 % stay.
    assert 1950 < asked["shop-3"] + asked["shop-4"] < 2250
    assert not {"shop-1", "shop-2"} & set(asked)


# slow start

SLOW = Upstreams(slow_start=SlowStart(window=10.0), health=HealthCheck(unhealthy=1, healthy=1))


def test_a_newcomer_gets_its_part_little_by_little() -> None:
    shop = Shop(SLOW)
    shop.show(*EVEN[:2])
    assert shop.endpoint(1).weight == 100
    shop.show(*EVEN, now=100.0)
    parts = []
    for now in (100.0, 105.0, 110.0):
        shop.clusters.turn(now)
        parts.append(shop.asked(3000, now=now)["shop-3"] / 3000)
    assert 0.03 < parts[0] < 0.07  # a tenth of a weight, beside two whole ones
    assert 0.17 < parts[1] < 0.23
    assert 0.30 < parts[2] < 0.37
    assert shop.cluster.picker.plain, "what is over costs nothing any more"


def test_who_was_there_before_the_gateway_is_no_newcomer() -> None:
    shop = Shop(SLOW)
    shop.show(stale=True)
    shop.show(*EVEN, now=1.0)
    assert [e.weight for e in shop.cluster.endpoints] == [100, 100, 100]
    # Nor is it to a route that comes later.
    other = shop.clusters.cluster("shop", Constraint.parse("^1"))
    shop.show(*EVEN, now=2.0)
    assert [e.weight for e in other.endpoints] == [100, 100, 100]


def test_a_start_goes_on_through_views_and_begins_again_after_an_illness() -> None:
    shop = Shop(SLOW)
    shop.show(*EVEN[:2])
    shop.show(*EVEN, now=100.0)
    shop.show(*EVEN, now=105.0)
    assert shop.endpoint(3).weight == 50
    shop.clusters.turn(120.0)
    assert shop.endpoint(3).weight == 100
    for passed in (False, True):
        shop.clusters.checked(shop.endpoint(3), passed, "", 200.0)
    assert shop.endpoint(3).weight == 10
    shop.show(*EVEN[:2], now=201.0)
    shop.clusters.turn(202.0)
    assert len(shop.asked(now=202.0)) == 2


def test_an_instance_with_another_address_is_another_endpoint() -> None:
    shop = Shop(Upstreams())
    shop.show(*EVEN)
    before = shop.endpoint(1)
    shop.show(instance(1, address=Address("192.0.2.9", 80)), *EVEN[1:])
    assert before.retired
    assert not shop.endpoint(1).retired


def test_nobody_to_ask_is_said() -> None:
    shop = Shop(Upstreams())
    shop.show()
    assert shop.cluster.pick(0.0, ()) is None
    assert "versions seen: none" in shop.cluster.why_empty
