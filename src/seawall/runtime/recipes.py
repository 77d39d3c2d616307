"""How the process in a place is made, for each kind of place."""

import asyncio
import socket
from dataclasses import dataclass
from typing import Protocol

from seawall.errors import NotSent
from seawall.runtime.embedded import NAME as VALKEY
from seawall.runtime.embedded import read_line, server_command
from seawall.runtime.environment import replica_environment, service_environment
from seawall.runtime.launcher import Launcher, Unfit
from seawall.runtime.layout import Layout
from seawall.runtime.probe import ReadyPipe, http_probe, ping_probe
from seawall.runtime.program import Program
from seawall.runtime.replica import Kind, Place, Started
from seawall.runtime.sockets import listen, port_for_command
from seawall.runtime.workshop import Workshop
from seawall.spec.project import ServiceSpec, Spec
from seawall.topology import Address

HOST = "127.0.0.1"

# A service drains for as long as its spec says; it then needs a moment to close and exit.
_EXTRA_GRACE = 3.0  # seconds

# How long a command still answers after it has left the registry: callers are told within 0.1 s.
_LINGER = 0.3  # seconds

# A Seawall service tells the registry of itself; what we ask it is only shown.
_CHECK_SERVICE = 5.0  # seconds
# A command's readiness is what routes requests to it.
_CHECK_COMMAND = 1.0  # seconds


class Recipe(Protocol):
    """Makes places and starts what belongs in them."""

    kind: Kind

    def place(self, number: int) -> Place:
        """The place of that number, with its address taken. Raises `Misconfigured`."""

    async def start(self, place: Place, incarnation: str) -> Started:
        """Start its process. Raises `NotSent`."""

    def renew(self) -> None:
        """A person asked for a restart: the next start uses the code as it is then."""

    def leave(self, place: Place) -> None:
        """The place is given up: free its address."""


@dataclass(frozen=True, slots=True)
class ForkedAlone:
    """The replicas of a service are forked from the common parent: it cannot have its own."""

    service: str
    reason: str


class ModuleRecipe:
    """A Python service: forked from a parent that has imported it already."""

    kind = Kind.SERVICE

    def __init__(self, name: str, spec: ServiceSpec, workshop: Workshop) -> None:
        assert spec.module is not None
        self._name = name
        self._spec = spec
        self._module = spec.module
        self._workshop = workshop
        self._folder = _folder(spec, workshop.layout)
        self._environment = _environment(name, spec, workshop)
        self._listeners: dict[str, socket.socket] = {}
        self._branch: Launcher | None = None
        self._alone: Launcher | None = None  # the parent with which no branch could be grown
        self._retired: list[Launcher] = []
        self._growing = asyncio.Lock()

    def place(self, number: int) -> Place:
        instance_id = f"{self._name}-{number}"
        listener = listen(HOST, self._spec.port + number - 1 if self._spec.port else 0)
        self._listeners[instance_id] = listener
        return Place(
            service=self._name,
            instance_id=instance_id,
            kind=self.kind,
            address=Address(HOST, listener.getsockname()[1]),
            version=self._spec.version,
            health_path=self._spec.health,
            zone=self._environment.get("SEAWALL_ZONE", ""),
            priority=self._spec.priority,
            start_within=self._spec.start_within,
            grace=self._spec.drain + _EXTRA_GRACE,
            check_every=_CHECK_SERVICE,
        )

    async def start(self, place: Place, incarnation: str) -> Started:
        assert place.address is not None
        parent = await self._parent(await self._workshop.nursery.warm())
        environment = replica_environment(
            self._environment,
            instance_id=place.instance_id,
            incarnation=incarnation,
            address=place.address,
        )
        program = Program(
            name=place.instance_id,
            call="seawall.service.serve:serve",
            arguments=(self._module,),
            environment=environment,
            folder=self._folder,
            grace=place.grace,
        )
        sockets = {"SEAWALL_LISTEN_FD": self._listeners[place.instance_id].fileno()}
        process = await self._workshop.launch(parent, program, sockets)
        return Started(process, http_probe(place.address, place.health_path))

    async def _parent(self, root: Launcher) -> Launcher:
        """The service's own warm parent; `root` if it cannot have one."""
        self._bury_retired()
        async with self._growing:
            if self._branch is not None and self._branch.alive:
                return self._branch
            if self._alone is root:
                return root
            program = Program(name=self._name, environment=self._environment, folder=self._folder)
            try:
                module = self._module.partition(":")[0]
                self._branch = await self._workshop.branch(root, program, module)
            except Unfit as exc:
                self._alone = root
                self._workshop.observer(ForkedAlone(self._name, str(exc)))
                return root
            except NotSent:
                return root
            return self._branch

    def _bury_retired(self) -> None:
        for parent in self._retired:
            if not parent.children:
                parent.close()
        self._retired = [parent for parent in self._retired if parent.children]

    def renew(self) -> None:
        if self._branch is not None:
            self._retired.append(self._branch)
        self._branch = self._alone = None

    def leave(self, place: Place) -> None:
        self._listeners.pop(place.instance_id).close()


class CommandRecipe:
    """Any command that listens on $PORT."""

    kind = Kind.COMMAND

    def __init__(self, name: str, spec: ServiceSpec, workshop: Workshop) -> None:
        assert spec.command is not None
        self._name = name
        self._spec = spec
        self._command = tuple(spec.command)
        self._workshop = workshop
        self._folder = _folder(spec, workshop.layout)
        self._environment = _environment(name, spec, workshop)
        self._ports: dict[str, int] = {}

    def place(self, number: int) -> Place:
        instance_id = f"{self._name}-{number}"
        wanted = self._spec.port + number - 1 if self._spec.port else 0
        port = port_for_command(HOST, wanted, self._ports.values(), self._workshop.rng)
        self._ports[instance_id] = port
        return Place(
            service=self._name,
            instance_id=instance_id,
            kind=self.kind,
            address=Address(HOST, port),
            version=self._spec.version,
            health_path=self._spec.health,
            zone=self._environment.get("SEAWALL_ZONE", ""),
            priority=self._spec.priority,
            start_within=self._spec.start_within,
            grace=self._spec.drain + _EXTRA_GRACE,
            linger=_LINGER,
            check_every=_CHECK_COMMAND,
        )

    async def start(self, place: Place, incarnation: str) -> Started:
        assert place.address is not None
        parent = await self._workshop.nursery.cold()
        program = Program(
            name=place.instance_id,
            arguments=self._command,
            environment=replica_environment(
                self._environment,
                instance_id=place.instance_id,
                incarnation=incarnation,
                address=place.address,
            ),
            folder=self._folder,
            grace=place.grace,
        )
        process = await self._workshop.launch(parent, program, {})
        return Started(process, http_probe(place.address, place.health_path))

    def renew(self) -> None:
        pass  # every start reads the program anew

    def leave(self, place: Place) -> None:
        del self._ports[place.instance_id]


class GatewayRecipe:
    """The gateway: all its replicas answer on one socket."""

    kind = Kind.GATEWAY

    def __init__(self, spec: Spec, listener: socket.socket, workshop: Workshop) -> None:
        self._spec = spec
        self._listener = listener
        self._workshop = workshop
        self._environment = service_environment(
            workshop.inherited, workshop.urls, declared={}, database=None, drain=spec.gateway.drain
        )

    def place(self, number: int) -> Place:
        return Place(
            service="gateway",
            instance_id=f"gateway-{number}",
            kind=self.kind,
            address=Address(self._spec.gateway.host, self._listener.getsockname()[1]),
            grace=self._spec.gateway.drain + _EXTRA_GRACE,
        )

    async def start(self, place: Place, incarnation: str) -> Started:
        parent = await self._workshop.nursery.warm()
        ready = ReadyPipe()
        program = Program(
            name=place.instance_id,
            call="seawall.runtime.gateway:run",
            arguments=(str(self._spec.root), self._spec.profile or ""),
            environment={
                **replica_environment(
                    self._environment,
                    instance_id=place.instance_id,
                    incarnation=incarnation,
                    address=place.address,
                ),
                "SEAWALL_ADMIN": str(self._workshop.layout.gateway_socket(place.instance_id)),
            },
            folder=str(self._spec.root),
            grace=place.grace,
        )
        sockets = {
            "SEAWALL_LISTEN_FD": self._listener.fileno(),
            "SEAWALL_READY_FD": ready.write,
        }
        try:
            process = await self._workshop.launch(parent, program, sockets, ready.close)
        except BaseException:
            ready.close()
            raise
        finally:
            ready.launched()
        return Started(process, ready.probe)

    def renew(self) -> None:
        pass

    def leave(self, place: Place) -> None:
        pass  # the socket is the gateway's, not the place's


class ValkeyRecipe:
    """The embedded Valkey, which ends after all who need it."""

    kind = Kind.SERVER

    def __init__(self, program: str, workshop: Workshop) -> None:
        self._program = program
        self._workshop = workshop

    def place(self, number: int) -> Place:
        return Place(
            service=VALKEY,
            instance_id=VALKEY,
            kind=self.kind,
            grace=10.0,
            check_every=_CHECK_SERVICE,
        )

    async def start(self, place: Place, incarnation: str) -> Started:
        parent = await self._workshop.nursery.cold()
        program = Program(
            name=place.instance_id,
            arguments=server_command(self._program, self._workshop.layout),
            environment=self._workshop.inherited,
            folder=str(self._workshop.layout.valkey),
            grace=place.grace,
            last=True,
        )
        process = await self._workshop.launch(parent, program, {}, read=read_line)
        return Started(process, ping_probe(self._workshop.layout.valkey_socket))

    def renew(self) -> None:
        pass

    def leave(self, place: Place) -> None:
        pass


def _folder(spec: ServiceSpec, layout: Layout) -> str:
    return str((layout.root / spec.cwd).resolve())


def _locality(spec: ServiceSpec) -> dict[str, str]:
    said = {"SEAWALL_ZONE": spec.zone, "SEAWALL_PRIORITY": str(spec.priority or "")}
    return {name: value for name, value in said.items() if value}


def _environment(name: str, spec: ServiceSpec, workshop: Workshop) -> dict[str, str]:
    return service_environment(
        workshop.inherited,
        workshop.urls,
        declared={**_locality(spec), **spec.env},
        database=spec.database or workshop.layout.database_url(name),
        drain=spec.drain,
    )
