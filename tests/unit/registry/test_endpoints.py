from typing import Any

import pytest

pytest.importorskip("lightkube")

from lightkube.models.discovery_v1 import EndpointSlice

from seawall.registry.endpoints import Slices, instances
from seawall.topology import Address, Instance, InstanceState
from tests.support.cluster import endpoint, slice_of


def read(made: dict[str, Any]) -> tuple[Instance, ...]:
    return instances(EndpointSlice.from_dict(made))


def states(*endpoints: dict[str, Any]) -> dict[str, str]:
    return {each.instance_id: each.state.value for each in read(slice_of("orders", *endpoints))}


def test_a_pod_that_is_ready_is_an_instance() -> None:
    (one,) = read(slice_of("orders", endpoint("orders-7f-a", "10.1.2.3", zone="b", uid="u1")))
    assert one == Instance(
        service="orders",
        version="1.4.0",
        instance_id="orders-7f-a",
        incarnation="u1",
        address=Address("10.1.2.3", 8080),
        state=InstanceState.READY,
        zone="b",
    )


def test_who_is_not_ready_is_not_there_and_who_terminates_drains() -> None:
    assert states(
        endpoint("ready"),
        endpoint("unsaid", ready=None),
        endpoint("starting", ready=False, serving=False, terminating=False),
        endpoint("draining", ready=False, serving=True, terminating=True),
        endpoint("ending", ready=False, serving=False, terminating=True),
    ) == {"ready": "ready", "unsaid": "ready", "draining": "draining"}


def test_the_port_that_is_named_counts_else_the_first() -> None:
    grpc, http = {"name": "grpc", "port": 9000}, {"name": "http", "port": 3000}

    def port(*ports: dict[str, Any]) -> list[int]:
        made = slice_of("live", endpoint("a"), ports=list(ports))
        return [each.address.port for each in read(made)]

    assert port(grpc, http) == [3000]
    assert port(grpc) == [9000]
    assert port({"name": "dns", "port": 53, "protocol": "UDP"}) == []
    assert port() == []


def test_what_is_nobodys_is_left_out() -> None:
    unlabelled = slice_of("orders", endpoint("a"))
    unlabelled["metadata"]["labels"] = {}
    assert read(unlabelled) == ()
    assert read(slice_of("orders", endpoint("a"), family="FQDN")) == ()
    (one,) = read(slice_of("orders", endpoint("a"), version="not-a-version"))
    assert one.version == "0.0.0"


def test_a_pod_in_two_slices_is_there_once_and_goes_with_the_last() -> None:
    four = read(slice_of("orders", endpoint("a", "10.0.0.1")))
    six = read(slice_of("orders", endpoint("a", "fd00::1"), family="IPv6"))
    slices = Slices()
    assert [c.address.host for c in slices.put("six", six)] == ["fd00::1"]
    assert [c.address.host for c in slices.put("four", four)] == ["10.0.0.1"]
    assert [c.address.host for c in slices.put("four", ())] == ["fd00::1"]
    assert [c.state for c in slices.put("six", ())] == [InstanceState.GONE]


def test_only_changes_are_told() -> None:
    both = read(slice_of("orders", endpoint("a"), endpoint("b", "10.0.0.2")))
    slices = Slices()
    slices.replace({"one": both})
    assert slices.replace({"another": both}) == []
    moved = read(slice_of("orders", endpoint("a", uid="second"), version="1.5.0"))
    told = slices.replace({"another": moved})
    assert [(c.instance_id, c.state.value, c.version) for c in told] == [
        ("b", "gone", "1.4.0"),
        ("a", "ready", "1.5.0"),
    ]
