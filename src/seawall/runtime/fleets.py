"""All fleets of a project: made from its spec, started together, stopped in order."""

import asyncio
import shutil
import socket
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from seawall.errors import Misconfigured, Refused
from seawall.facts import Observer
from seawall.runtime.embedded import NAME as VALKEY
from seawall.runtime.embedded import embedded_url, find_server
from seawall.runtime.environment import Urls
from seawall.runtime.fleet import Fleet
from seawall.runtime.gateway_recipe import GatewayRecipe
from seawall.runtime.layout import Layout
from seawall.runtime.recipes import CommandRecipe, ModuleRecipe, Recipe
from seawall.runtime.restart import State
from seawall.runtime.valkey_recipe import ValkeyRecipe
from seawall.runtime.workshop import Workshop
from seawall.spec.project import ServiceSpec, Spec

GATEWAY = "gateway"


class UnknownName(Refused):
    """There is no service or instance of that name."""


@dataclass(frozen=True, slots=True)
class ServiceLeftOut:
    """An optional service whose command is not on this machine."""

    service: str
    command: str


MakeFleet = Callable[[str, Recipe], Fleet]


@dataclass(frozen=True, slots=True)
class Fleets:
    """Everything that runs, in the order in which it stops."""

    gateway: Fleet
    services: dict[str, Fleet]
    valkey: Fleet | None
    canaries: dict[str, Fleet] = field(default_factory=dict)  # by the service they are of

    def all(self) -> tuple[Fleet, ...]:
        first = () if self.valkey is None else (self.valkey,)
        return (*first, *self.services.values(), *self.canaries.values(), self.gateway)

    def instances(self) -> list[str]:
        """The names of all places."""
        return [r.place.instance_id for fleet in self.all() for r in fleet.replicas]

    async def ready(self) -> None:
        """Return when every replica has been ready."""
        await asyncio.gather(*(fleet.ready() for fleet in self.all()))

    def unready(self, spec: Spec) -> tuple[tuple[str, str], ...]:
        """The services that hold up the start, each with its reason."""
        reasons = {}
        for fleet in self.all():
            for replica in fleet.snapshot():
                if replica.state is not State.READY:
                    reason = replica.reason or replica.last_exit or replica.state
                    reasons[fleet.name] = f"{replica.place.instance_id}: {reason}"
        needs = {name: service.needs for name, service in spec.services.items()}
        return tuple((name, reasons[name]) for name in holding_up(needs, reasons))

    async def stop(self) -> None:
        """The gateway, so that no new work comes; the services, together; then what they use."""
        await self.gateway.stop()
        services = (*self.services.values(), *self.canaries.values())
        await asyncio.gather(*(fleet.stop() for fleet in services))
        if self.valkey is not None:
            await self.valkey.stop()

    def kill(self) -> None:
        """The same, at once. The Valkey is left to the end, since it has data to close."""
        for fleet in (self.gateway, *self.services.values(), *self.canaries.values()):
            fleet.kill()


def check_commands(spec: Spec, path: str, observer: Observer) -> None:
    """Leave out what is optional and not here; refuse what is needed and not here."""
    for name, service in spec.services.items():
        if name in (GATEWAY, VALKEY):
            raise Misconfigured(f"a service cannot be called {name!r}", fix="rename it")
        folder = spec.root / service.cwd
        if not folder.is_dir():
            raise Misconfigured(f"services.{name}.cwd: there is no folder {folder}")
        if service.command is None or _installed(service, spec.root, path):
            continue
        if not service.optional:
            raise Misconfigured(
                f"{name}: {service.command[0]} is not installed here",
                fix=f"install it, or set services.{name}.optional = true",
            )
        observer(ServiceLeftOut(name, service.command[0]))


def _installed(service: ServiceSpec, root: Path, path: str) -> bool:
    program = (service.command or [""])[0]
    if "/" in program:
        return (root / service.cwd / program).exists()
    return shutil.which(program, path=path) is not None


def server_urls(spec: Spec, layout: Layout) -> Urls:
    """Those of the spec; the embedded Valkey's where it names none."""
    embedded = embedded_url(layout)
    registry = spec.registry.url or embedded
    return Urls(
        registry=registry,
        messages=spec.messages.url or embedded,
        sessions=spec.sessions.url or registry,
    )


def assemble(spec: Spec, workshop: Workshop, listener: socket.socket, make: MakeFleet) -> Fleets:
    """Fleets with their places taken, and nothing started. Raises `Misconfigured`."""
    valkey = None
    if spec.registry.url is None or spec.messages.url is None:
        valkey = _filled(make(VALKEY, ValkeyRecipe(find_server(), workshop)), 1)
    services = {}
    for name, service in spec.services.items():
        if service.module is not None:
            recipe: Recipe = ModuleRecipe(name, service, workshop)
        elif _installed(service, spec.root, workshop.inherited["PATH"]):
            recipe = CommandRecipe(name, service, workshop)
        else:
            continue
        # One that sleeps has to run once, to say what it consumes.
        count = max(1, service.replicas.min) if service.scale else service.replicas.min
        # Those that go on are kept; whoever scales decides about them again.
        count = max([count, *workshop.estate.numbers(name)])
        services[name] = _filled(make(name, recipe), count)
    gateway = make(GATEWAY, GatewayRecipe(spec, listener, workshop))
    return Fleets(_filled(gateway, spec.gateway.replicas), services, valkey)


def _filled(fleet: Fleet, count: int) -> Fleet:
    for _ in range(count):
        fleet.add()
    return fleet


def holding_up(needs: Mapping[str, Collection[str]], unready: Collection[str]) -> Sequence[str]:
    """The services that are not ready though all they need is: look at these first.

    Everything starts at the same time and waits for nobody, so services that need each other do
    not wait for ever; where every unready service needs another unready one, all are returned.
    """
    waiting = sorted(unready)
    first = [name for name in waiting if not set(needs.get(name, ())) & set(waiting)]
    return first or waiting
