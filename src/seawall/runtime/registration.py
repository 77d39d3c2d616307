"""What the supervisor tells the registry.

A Seawall `Service` registers itself. For a command, which knows nothing of the registry, the
supervisor holds the lease; so it does for a service that sleeps. And when any replica dies its
lease is taken back at once, so that callers see it within moments instead of when the lease runs
out.
"""

import asyncio
import itertools
import secrets
from collections.abc import Coroutine
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from seawall.clock import Clock
from seawall.concurrency.tasks import Tasks
from seawall.errors import SeawallError
from seawall.facts import Observer
from seawall.registry.base import DEFAULT_TTL, Registry
from seawall.runtime.replica import (
    Kind,
    Place,
    ReplicaDied,
    ReplicaHung,
    ReplicaReady,
    ReplicaStopped,
    ReplicaStopping,
    ReplicaUnready,
    SuccessorFailed,
)
from seawall.topology import Address, Instance, InstanceState

# A registry that does not answer is told again at the next beat.
_WITHIN = 2.0  # seconds

_T = TypeVar("_T")

_NOWHERE = Address("", 0)


@dataclass(frozen=True, slots=True)
class RegistryLost:
    """Told once, until it is back. Callers go on with the instances they know."""

    reason: str
    at: float


@dataclass(frozen=True, slots=True)
class RegistryBack:
    at: float


class Registrar:
    """An observer of replicas that keeps the registry in step with them; `beat` renews leases."""

    def __init__(
        self, registry: Registry, tasks: Tasks, *, observer: Observer, clock: Clock
    ) -> None:
        self._registry = registry
        self._tasks = tasks
        self._observer = observer
        self._clock = clock
        self._held: dict[str, Instance] = {}
        self._serial = itertools.count(1)
        self._lost = False

    async def beat(self) -> None:
        """Renew the leases of commands, and see whether the registry is there, until
        cancelled."""
        while True:
            await self._clock.sleep(DEFAULT_TTL / 3)
            await self._tell(self._registry.read())
            await asyncio.gather(*(self._renew(held) for held in tuple(self._held.values())))

    async def read(self) -> tuple[Instance, ...]:
        """Who is registered; nobody if the registry cannot be reached, which is `beat`'s to
        tell: somebody may ask before there is one."""
        try:
            async with asyncio.timeout(_WITHIN):
                return tuple(await self._registry.read())
        except (SeawallError, TimeoutError):
            return ()

    async def stand_in(self, place: Place) -> None:
        """Have callers told of a place of which nothing runs, under a name beside it, until its
        replica is ready or `stand_down`. It says of itself what the last replica said."""
        said = next((i for i in await self.read() if i.instance_id == place.instance_id), None)
        instance = replace(
            said or self._instance(place, ""),
            instance_id=f"{place.instance_id}-asleep",
            incarnation=f"asleep.{secrets.token_hex(8)}",
            state=InstanceState.READY,
            started_at=self._clock.wall(),
            in_flight=0,
            metadata={},
        )
        self._held[instance.instance_id] = instance
        await self._renew(instance)

    def stand_down(self, place: Place) -> None:
        """The opposite of `stand_in`; where nothing stands in it does nothing."""
        name = f"{place.instance_id}-asleep"
        if (held := self._held.pop(name, None)) is not None:
            self._tasks.start(self._tell(self._registry.deregister(held)), name=f"end {name}")

    def __call__(self, fact: object) -> None:
        match fact:
            case ReplicaReady(place=place) if place.kind is Kind.SERVICE:
                self.stand_down(place)
            case ReplicaReady(place=place) if place.kind is Kind.COMMAND:
                self._take(place, fact.incarnation)
            case (
                ReplicaUnready(place=place)
                | ReplicaStopping(place=place)
                | ReplicaHung(place=place)
            ) if place.kind is Kind.COMMAND:
                self._give_back(place, fact.incarnation)
            case (
                ReplicaDied(place=place)
                | ReplicaStopped(place=place)
                | SuccessorFailed(place=place)
            ) if place.kind in (Kind.COMMAND, Kind.SERVICE):
                self._give_back(place, fact.incarnation)

    def _take(self, place: Place, incarnation: str) -> None:
        # To deregister is final for an incarnation, and a command that stopped answering may
        # come back: each time under a name of its own.
        instance = self._instance(place, f"{incarnation}.{next(self._serial)}")
        self._held[place.instance_id] = instance
        self._tasks.start(self._renew(instance), name=f"register {place.instance_id}")

    def _give_back(self, place: Place, incarnation: str) -> None:
        held = self._held.get(place.instance_id)
        if held is not None and held.incarnation.startswith(incarnation):
            del self._held[place.instance_id]
        else:  # a service speaks for itself; or a successor has the place by now
            held = self._instance(place, incarnation)
        self._tasks.start(
            self._tell(self._registry.deregister(held)), name=f"deregister {place.instance_id}"
        )

    async def _renew(self, instance: Instance) -> None:
        await self._tell(self._registry.renew(instance))

    async def _tell(self, call: Coroutine[Any, Any, _T]) -> _T | None:
        try:
            async with asyncio.timeout(_WITHIN):
                answer = await call
        except (SeawallError, TimeoutError) as exc:
            if not self._lost:
                self._observer(RegistryLost(str(exc) or "it does not answer", self._clock.now()))
            self._lost = True
            return None
        if self._lost:
            self._lost = False
            self._observer(RegistryBack(self._clock.now()))
        return answer

    def _instance(self, place: Place, incarnation: str) -> Instance:
        return Instance(
            service=place.service,
            version=place.version,
            instance_id=place.instance_id,
            incarnation=incarnation,
            address=place.address or _NOWHERE,
            state=InstanceState.READY,
            health_path=place.health_path,
            started_at=self._clock.wall(),
            zone=place.zone,
            priority=place.priority,
        )
