"""Which instances are asked for their health, and when."""

from dataclasses import replace
from random import Random

from seawall.concurrency.tasks import Tasks
from seawall.gateway.balance import HealthCheck
from seawall.gateway.clusters import Clusters
from seawall.gateway.config import GatewayConfig, Upstreams
from seawall.gateway.gateway import Known
from seawall.gateway.health import MAX_CHECKS, Checker
from seawall.gateway.timers import Wheel
from seawall.gateway.upstream import Dialer
from seawall.testing.clock import ManualClock
from seawall.topology import ANY
from tests.unit.gateway.test_clusters import instance

CHECK = HealthCheck(interval=10.0)


def checker(count: int) -> Checker:
    """Of a service that is checked with so many instances, and of one that is not."""
    config = GatewayConfig(services={"shop": Upstreams(health=CHECK)})
    clock = ManualClock()
    clusters = Clusters(config, Dialer(Tasks(), Wheel(0.1, 0.0), clock), Random(1), lambda _: None)
    for service in ("shop", "mail"):
        clusters.cluster(service, ANY)
    shop = [instance(number) for number in range(count)]
    clusters.update(Known((*shop, replace(instance(1), service="mail"))), 0.0)
    return Checker(clusters, clock, Random(1))


def test_each_is_asked_once_an_interval_and_not_all_at_once() -> None:
    one = checker(40)
    rounds = [one.due(float(now)) for now in range(41)]
    counts = [len(found) for found in rounds]
    assert max(counts) < 15
    assert 36 <= sum(counts[:11]) <= 44
    assert 150 <= sum(counts) <= 170
    assert all(found.instance.service == "shop" for due in rounds for found, _ in due)


def test_no_more_are_asked_at_once_than_the_bound() -> None:
    one = checker(3 * MAX_CHECKS)
    one.due(0.0)
    due = one.due(20.0)
    assert len(due) == MAX_CHECKS
    assert all(check is CHECK for _, check in due)
    # Those that were left out are asked next.
    assert not {endpoint for endpoint, _ in due} & {endpoint for endpoint, _ in one.due(20.0)}
