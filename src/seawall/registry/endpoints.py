"""From a cluster's EndpointSlices to instances. Pure.

A pod that is not ready is nobody to ask, so it is not among them: it comes when it is. One that
terminates and still answers is draining. The version is that of the Service, whose labels its
slices carry; of a single pod a slice knows none.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from seawall.errors import Misconfigured
from seawall.registry.lease import Place, lasting, place
from seawall.topology import Address, Instance, InstanceState, parse_version

if TYPE_CHECKING:
    from lightkube.models.discovery_v1 import Endpoint, EndpointSlice

SERVICE, VERSION = "kubernetes.io/service-name", "app.kubernetes.io/version"

# The port that `seawall deploy kubernetes` names; of others the first.
_PORTS = ("http", "https")

_UNKNOWN = "0.0.0"


def instances(of: "EndpointSlice") -> tuple[Instance, ...]:
    """Who of the slice may be asked; nobody where it belongs to no Service or has no port."""
    metadata = of.metadata
    labels: Mapping[str, str] = (metadata.labels if metadata is not None else None) or {}
    service, port = labels.get(SERVICE), _port(of)
    if not service or port is None or of.addressType not in ("IPv4", "IPv6"):
        return ()
    version = _version(labels.get(VERSION, _UNKNOWN))
    found = (_instance(each, service, version, port) for each in of.endpoints or ())
    return tuple(each for each in found if each is not None)


def _port(of: "EndpointSlice") -> int | None:
    ports = [each for each in of.ports or () if each.port and each.protocol in (None, "TCP")]
    named = {each.name: each.port for each in ports}
    wanted = next((named[name] for name in _PORTS if name in named), None)
    return wanted or (ports[0].port if ports else None)


def _version(text: str) -> str:
    try:
        parse_version(text)
    except Misconfigured:  # a label may say anything
        return _UNKNOWN
    return text


def _instance(of: "Endpoint", service: str, version: str, port: int) -> Instance | None:
    state = _state(of)
    if state is None or not of.addresses:
        return None
    pod, address = of.targetRef, Address(of.addresses[0], port)
    return Instance(
        service=service,
        version=version,
        instance_id=(pod.name if pod is not None else None) or str(address),
        incarnation=(pod.uid if pod is not None else None) or str(address),
        address=address,
        state=state,
        zone=of.zone or "",
    )


def _state(of: "Endpoint") -> InstanceState | None:
    """None for who cannot be asked. What is not said counts as well, as Kubernetes has it."""
    said = of.conditions
    if said is None:
        return InstanceState.READY
    if said.terminating:
        return None if said.serving is False else InstanceState.DRAINING
    return None if said.ready is False else InstanceState.READY


def _better(one: Instance, other: Instance) -> bool:
    """Which of two notes of the same pod counts: ready before draining, IPv4 before IPv6."""

    def rank(of: Instance) -> tuple[bool, bool]:
        return of.state is not InstanceState.READY, ":" in of.address.host

    return rank(one) < rank(other)


@dataclass(slots=True)
class Slices:
    """The slices of a namespace, by name. A pod may be in several for a moment, and is once in
    what they say. As many as the cluster has: each holds up to 100 endpoints."""

    _held: dict[str, tuple[Instance, ...]] = field(default_factory=dict)

    def all(self) -> dict[Place, Instance]:
        found: dict[Place, Instance] = {}
        for each in (one for held in self._held.values() for one in held):
            before = found.get(place(each))
            if before is None or _better(each, before):
                found[place(each)] = each
        return found

    def put(self, name: str, held: tuple[Instance, ...]) -> list[Instance]:
        """The slice is like this now; what that changes. Empty for one that is gone."""
        before = self.all()
        if held:
            self._held[name] = held
        else:
            self._held.pop(name, None)
        return list(_changes(before, self.all()))

    def replace(self, held: Mapping[str, tuple[Instance, ...]]) -> list[Instance]:
        """All slices are like this now; what that changes."""
        before = self.all()
        self._held = dict(held)
        return list(_changes(before, self.all()))

    def __iter__(self) -> Iterator[Instance]:
        return iter(self.all().values())


def _changes(
    before: Mapping[Place, Instance], after: Mapping[Place, Instance]
) -> Iterable[Instance]:
    for where, instance in before.items():
        if where not in after:
            yield instance.moved(InstanceState.GONE)
    for where, instance in after.items():
        known = before.get(where)
        if known is None or lasting(known) != lasting(instance):
            yield instance
