"""What the admin API answers, from what is known. Pure: shapes only grow, under one schema name."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from seawall.runtime.canary import Step
from seawall.runtime.canary_verdict import Outcome
from seawall.runtime.cost import Cost
from seawall.runtime.fleet import Reloaded
from seawall.runtime.replica import Kind, ReplicaSnapshot
from seawall.runtime.restart import State
from seawall.scaling.decision import Decision, Limit
from seawall.topology import Instance


class Looked(Protocol):
    """What the autoscaler saw last."""

    @property
    def shed(self) -> float | None: ...
    @property
    def decision(self) -> Decision: ...


def service_row(
    name: str,
    kind: Kind,
    desired: int,
    replicas: Sequence[ReplicaSnapshot],
    looked: Looked | None = None,
    *,
    standbys: int = 0,
) -> dict[str, Any]:
    """`replicas` are also those that leave, beyond the `desired`. `shed` requests a second;
    `capacity_limited` says why more replicas would not help. None where nothing scales by itself,
    or all is well."""
    limited = looked is not None and Limit.CAPACITY in looked.decision.limits
    ready = sum(replica.state is State.READY for replica in replicas)
    return {
        "service": name,
        "kind": kind,
        "desired": desired,
        "ready": ready,
        "restarts": sum(replica.restarts for replica in replicas),
        "shed": looked and looked.shed and round(looked.shed, 3),
        "capacity_limited": looked.decision.reason if looked is not None and limited else None,
        "standbys": standbys,
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
        "tls": place.tls is not None,
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


def reload_row(step: Reloaded) -> dict[str, Any]:
    """One line of what `seawall reload` does."""
    return {
        "schema": "seawall.reload/1",
        "instance": step.instance_id,
        "after_s": round(step.after, 3),
        "failed": step.failed or None,
        "restored": step.restored,
        "was_ready": step.was_ready,
        "last_words": list(step.last_words),
    }


def canary_row(step: Step) -> dict[str, Any]:
    """One line of what `seawall canary` does."""
    return {
        "schema": "seawall.canary/1",
        "service": step.service,
        "version": step.version or None,
        "verdict": step.verdict,
        "after_s": round(step.after, 3),
        "reason": step.reason,
        "stable": _outcome(step.stable),
        "canary": _outcome(step.canary),
        "last_words": list(step.last_words),
    }


def _outcome(outcome: Outcome) -> dict[str, Any]:
    return {
        "requests": outcome.requests,
        "failed": outcome.failed,
        "mean_s": round(outcome.mean, 6),
    }
