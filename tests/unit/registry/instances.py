"""Instances for the tests of this folder."""

from dataclasses import replace
from typing import Any

from seawall.topology import Address, Instance, InstanceState

BASE = Instance(
    service="orders",
    version="1.4.0",
    instance_id="orders-1",
    incarnation="first",
    address=Address("127.0.0.1", 8001),
    state=InstanceState.READY,
    started_at=100.0,
)


def instance(instance_id: str = "orders-1", **changes: Any) -> Instance:
    return replace(BASE, instance_id=instance_id, **changes)
