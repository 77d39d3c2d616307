"""Who holds which place, and for how long: the rules of a registry, without one.

The memory registry is this table behind a lock. The scripts in `seawall.registry.valkey` say
the same in Lua; whoever changes a rule here changes it there, and the contract suite holds both
to it.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from seawall.topology import Instance, InstanceState

# How long it is remembered that an incarnation deregistered. A beat that was under way then (a
# server that stood still, a retried connection) must not bring it back. Minutes of stand-still
# are rare, and such a ghost would live for one lease only.
REMEMBER_GONE = 60.0  # seconds

_RANK = {state: rank for rank, state in enumerate(InstanceState)}


class Place(NamedTuple):
    """What a lease is held on: one copy of a service, across its restarts."""

    service: str
    instance_id: str


def place(instance: Instance) -> Place:
    return Place(instance.service, instance.instance_id)


def follows(news: Instance, held: Instance) -> bool:
    """Whether `news` is not older than what is known of that place."""
    if news.incarnation != held.incarnation:
        return news.started_at >= held.started_at
    return _RANK[news.state] >= _RANK[held.state]


def lasting(instance: Instance) -> tuple[object, ...]:
    """What watchers want to hear of: everything but the measurements."""
    return (
        *(instance.incarnation, instance.version, instance.address, instance.state),
        *(instance.health_path, instance.needs, instance.started_at, instance.weight),
        *(instance.zone, instance.priority),
        dict(instance.metadata),
    )


@dataclass(frozen=True, slots=True)
class Renewal:
    """What came of a heartbeat: whether it counted, and what watchers are to hear."""

    accepted: bool
    changes: tuple[Instance, ...] = ()


@dataclass(frozen=True, slots=True)
class _Lease:
    instance: Instance  # in state GONE: only remembered, so that late beats are ignored
    until: float


class Leases:
    """The table. It holds what was renewed within its lease, and so is bounded by who runs."""

    def __init__(self) -> None:
        self._held: dict[Place, _Lease] = {}

    def renew(self, instance: Instance, ttl: float, now: float) -> Renewal:
        held = self._held.get(place(instance))
        if held is not None and held.until > now and not follows(instance, held.instance):
            return Renewal(False)
        self._held[place(instance)] = _Lease(instance, now + ttl)
        if held is not None and lasting(held.instance) == lasting(instance):
            return Renewal(True)
        return Renewal(True, (instance,))

    def deregister(self, instance: Instance, now: float) -> tuple[Instance, ...]:
        """Forget it and return what to announce; nothing if another incarnation holds it."""
        held = self._held.get(place(instance))
        if held is None or held.instance.incarnation != instance.incarnation:
            return ()
        if held.instance.state is InstanceState.GONE:
            return ()
        gone = held.instance.moved(InstanceState.GONE)
        self._held[place(instance)] = _Lease(gone, now + REMEMBER_GONE)
        return (gone,)

    def expire(self, now: float) -> tuple[Instance, ...]:
        """Drop the leases that ran out and return who is thereby gone."""
        over = [lease for lease in self._held.values() if lease.until <= now]
        for lease in over:
            del self._held[place(lease.instance)]
        return tuple(
            lease.instance.moved(InstanceState.GONE)
            for lease in over
            if lease.instance.state is not InstanceState.GONE
        )

    def __iter__(self) -> Iterator[Instance]:
        for lease in self._held.values():
            if lease.instance.state is not InstanceState.GONE:
                yield lease.instance

    def __repr__(self) -> str:
        return f"<Leases {len(self._held)} held>"
