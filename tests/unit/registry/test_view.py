from dataclasses import replace

import pytest

from seawall.registry.lease import place
from seawall.registry.view import View, changed, refreshed
from seawall.topology import Instance, InstanceState
from tests.unit.registry.instances import instance

LEASE = 10.0


def names(view: View) -> list[str]:
    return [one.instance_id for one in view.instances]


def live(*instances: Instance, at: float = 0.0) -> View:
    return refreshed(View(), instances, at, lease=LEASE)


def service(name: str, count: int) -> list[Instance]:
    return [instance(f"{name}-{n}", service=name) for n in range(count)]


def test_a_reading_is_the_truth() -> None:
    view = live(instance("b"), instance("a"), at=5.0)
    assert view == View((instance("a"), instance("b")), stale=False, read_at=5.0)


def test_one_of_one_that_is_not_read_is_gone() -> None:
    assert names(refreshed(live(instance()), [], 1.0, lease=LEASE)) == []


def test_changes_are_applied() -> None:
    view = live(instance())
    view = changed(view, instance("orders-2"))
    assert names(view) == ["orders-1", "orders-2"]
    view = changed(view, instance("orders-2", state=InstanceState.DRAINING))
    assert view.instances[1].state is InstanceState.DRAINING
    view = changed(view, instance("orders-2", state=InstanceState.GONE))
    assert names(view) == ["orders-1"]


def test_old_news_is_ignored() -> None:
    new = instance(incarnation="second", started_at=200.0, state=InstanceState.DRAINING)
    view = live(new)
    assert changed(view, instance()) is view
    assert changed(view, instance(state=InstanceState.GONE)) is view
    assert changed(view, replace(new, state=InstanceState.READY)) is view
    assert changed(view, instance("unknown", state=InstanceState.GONE)) is view


def test_most_of_a_service_gone_after_an_outage_is_suspected() -> None:
    orders = service("orders", 4)
    view = replace(live(*orders), stale=True)
    after = refreshed(view, orders[:1], 100.0, lease=LEASE)
    assert len(after.instances) == 4
    assert dict(after.suspects) == {place(one): 110.0 for one in orders[1:]}
    assert not after.stale


def test_half_of_a_service_gone_after_an_outage_is_believed() -> None:
    orders = service("orders", 4)
    after = refreshed(replace(live(*orders), stale=True), orders[:2], 100.0, lease=LEASE)
    assert len(after.instances) == 2


def test_each_service_is_judged_by_itself() -> None:
    orders, mail = service("orders", 6), service("mail", 1)
    view = replace(live(*orders, *mail), stale=True)
    after = refreshed(view, orders, 100.0, lease=LEASE)
    assert set(after.suspects) == {place(mail[0])}


@pytest.mark.parametrize("state", [InstanceState.STARTING, InstanceState.DRAINING])
def test_who_was_not_ready_is_not_suspected(state: InstanceState) -> None:
    view = replace(live(*[i.moved(state) for i in service("orders", 3)]), stale=True)
    assert refreshed(view, [], 100.0, lease=LEASE).instances == ()


def test_an_emptied_registry_is_suspicious_without_an_outage() -> None:
    system = service("orders", 2) + service("mail", 2)
    after = refreshed(live(*system), [], 1.0, lease=LEASE)
    assert len(after.instances) == len(after.suspects) == 4
    after = refreshed(live(*system), system[:1], 1.0, lease=LEASE)
    assert set(after.suspects) == {place(i) for i in system[2:]}  # one of two orders is believed


def test_a_few_that_lapse_without_an_outage_are_gone() -> None:
    system = service("orders", 5) + service("mail", 1)
    assert refreshed(live(*system), system[:4], 1.0, lease=LEASE).suspects == {}


def test_a_suspect_is_cleared_by_a_sign_of_life() -> None:
    orders = service("orders", 3)
    view = refreshed(replace(live(*orders), stale=True), [], 100.0, lease=LEASE)
    view = changed(view, orders[0])
    assert place(orders[0]) not in view.suspects
    view = refreshed(view, orders[:2], 101.0, lease=LEASE)
    assert set(view.suspects) == {place(orders[2])}
    # Who is no suspect any more leaves like anybody.
    view = changed(view, orders[0].moved(InstanceState.GONE))
    assert names(view) == ["orders-1", "orders-2"]


def test_that_a_suspect_is_gone_is_no_news() -> None:
    orders = service("orders", 3)
    view = refreshed(replace(live(*orders), stale=True), [], 100.0, lease=LEASE)
    assert changed(view, orders[0].moved(InstanceState.GONE)) is view


def test_suspicion_ends_after_one_lease() -> None:
    orders = service("orders", 3)
    view = refreshed(replace(live(*orders), stale=True), [], 100.0, lease=LEASE)
    view = refreshed(view, [], 105.0, lease=LEASE)
    assert len(view.instances) == 3
    assert set(view.suspects.values()) == {110.0}  # not put off by reading again
    view = refreshed(view, [], 110.0, lease=LEASE)
    assert view.instances == ()
    assert view.suspects == {}


def test_a_second_outage_judges_anew() -> None:
    orders = service("orders", 3)
    view = refreshed(replace(live(*orders), stale=True), [], 100.0, lease=LEASE)
    view = refreshed(replace(view, stale=True), [], 200.0, lease=LEASE)
    assert set(view.suspects.values()) == {210.0}


def test_a_successor_replaces_a_suspect() -> None:
    orders = service("orders", 2)
    view = refreshed(replace(live(*orders), stale=True), [], 100.0, lease=LEASE)
    successor = replace(orders[0], incarnation="second", started_at=200.0)
    view = changed(view, successor)
    assert view.instances[0] == successor
    assert set(view.suspects) == {place(orders[1])}
