"""What the admin API answers, from what is known. Pure: shapes only grow, under one schema name."""

from collections.abc import Mapping, Sequence
from typing import Any

from seawall.runtime.cost import Cost
from seawall.runtime.replica import Kind, ReplicaSnapshot
from seawall.runtime.restart import State
from seawall.topology import Instance


def service_row(name: str, kind: Kind, replicas: Sequence[ReplicaSnapshot]) -> dict[str, Any]:
    ready = sum(replica.state is State.READY for replica in replicas)
    return {
        "service": name,
        "kind": kind,
        "desired": len(replicas),
        "ready": ready,
        "restarts": sum(replica.restarts for replica in replicas),
    }


def instance_row(
    replica: ReplicaSnapshot, costs: Mapping[int, Cost], registered: Mapping[str, Instance]
) -> dict[str, Any]:
    """One line of `seawall ps`. Sizes in bytes, times in seconds."""
    place = replica.place
    cost = costs.get(replica.pid or 0)
    seen = registered.get(place.instance_id)
    return {
        "instance": place.instance_id,
        "service": place.service,
        "kind": place.kind,
        "state": replica.state,
        "reason": replica.reason,
        "pid": replica.pid,
        "address": str(place.address) if place.address else None,
        "version": seen.version if seen else None,
        "registered": str(seen.state) if seen else None,
        "in_flight": seen.in_flight if seen else None,
        "loop_lag_s": round(seen.loop_lag, 4) if seen else None,
        "uptime_s": round(replica.age, 1),
        "restarts": replica.restarts,
        "last_exit": replica.last_exit or None,
        "last_words": list(replica.last_words),
        "next_start_s": round(replica.next_start, 2) if replica.next_start is not None else None,
        "memory_bytes": cost.memory if cost else None,
        "cpu": round(cost.cpu, 3) if cost else None,
    }
