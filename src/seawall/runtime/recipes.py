"""How the process in a place is made: what any such recipe can, and those of services."""

import asyncio
import socket
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Protocol

from seawall.errors import NotSent, Refused
from seawall.runtime.asked import Asked
from seawall.runtime.asking import At
from seawall.runtime.environment import identity, replica_environment, service_environment
from seawall.runtime.launcher import Launcher, Unfit
from seawall.runtime.layout import Layout
from seawall.runtime.logs import plain
from seawall.runtime.process import Process
from seawall.runtime.program import Program
from seawall.runtime.replica import Kind, Place, Started
from seawall.runtime.restart import RestartConfig
from seawall.runtime.sockets import listen, port_for_command
from seawall.runtime.standbys import Standby, Standbys
from seawall.runtime.workshop import Heir, Workshop
from seawall.spec.project import ServiceSpec
from seawall.topology import Address, parse_version

HOST = "127.0.0.1"

_SERVE = "seawall.service.serve:serve"

# A service drains for as long as its spec says; it then needs a moment to close and exit.
EXTRA_GRACE = 3.0  # seconds

# How long a command still answers after it has left the registry: callers are told within 0.1 s.
_LINGER = 0.5  # seconds


class Recipe(Protocol):
    """Makes places and starts what belongs in them."""

    kind: Kind

    @property
    def has_fixed_ports(self) -> bool:
        """Whether a person chose the ports of its places: that of the first and those after it."""

    @property
    def standbys(self) -> Standbys | None:
        """What waits to be a replica, where it can."""

    def place(self, number: int) -> Place:
        """The place of that number, with its address taken. Raises `Misconfigured`."""

    async def start(self, place: Place, incarnation: str) -> Started:
        """Start its process. Raises `NotSent`."""

    def successor(self, place: Place) -> Place:
        """The same place for a process that starts beside the one that is there. Raises
        `Refused`, with the reason, where two cannot be there at the same time."""

    def renew(self) -> None:
        """A person asked for a restart: the next start uses the code as it is then."""

    def restore(self) -> bool:
        """The next start uses the code from before `renew`, if that is still at hand."""

    def door(self, place: Place) -> socket.socket | None:
        """The listening socket of the place, where it is ours."""

    def leave(self, place: Place) -> None:
        """The place is given up: free its address."""

    def end(self) -> None:
        """Nothing is started by it any more."""


@dataclass(frozen=True, slots=True)
class ForkedAlone:
    """The replicas of a service are forked from the common parent: it cannot have its own."""

    service: str
    reason: str


class ModuleRecipe:
    """A Python service: forked from a parent that has imported it already."""

    kind = Kind.SERVICE

    def __init__(self, name: str, spec: ServiceSpec, workshop: Workshop, called: str = "") -> None:
        assert spec.module is not None
        self._name = name
        self._called = called or name
        self._spec = spec
        self._module = spec.module
        self._workshop = workshop
        self._folder = _folder(spec, workshop.layout)
        self._environment = _environment(name, spec, workshop)
        self._asked = Asked(spec, self._folder)
        self._listeners: dict[str, socket.socket] = {}
        self._alone: Launcher | None = None  # the parent with which no branch could be grown
        self._growing = asyncio.Lock()
        # Of a supervisor before us: the newest has the code that a crash brings back.
        self._retired = list(workshop.estate.branches.get(name, ()))
        self._branch = self._retired.pop() if self._retired else None
        self.standbys = Standbys(spec.standbys, self._standby, workshop.clock)

    @property
    def has_fixed_ports(self) -> bool:
        return bool(self._spec.port)

    def place(self, number: int) -> Place:
        instance_id = f"{self._called}-{number}"
        wanted = self._spec.port + number - 1 if self._spec.port else 0
        listener = self._workshop.socket_of(instance_id, wanted) or listen(HOST, wanted)
        self._listeners[instance_id] = listener
        return Place(
            service=self._name,
            instance_id=instance_id,
            kind=self.kind,
            address=Address(HOST, listener.getsockname()[1]),
            tls=self._workshop.towards(self._name),
            version=self._spec.version,
            health_path=self._spec.health,
            zone=self._environment.get("SEAWALL_ZONE", ""),
            priority=self._spec.priority,
            start_within=self._spec.start_within,
            grace=self._spec.drain + EXTRA_GRACE,
            startup=self._asked.startup,
            readiness=self._asked.readiness,
            liveness=self._asked.liveness,
            restarts=_restarts(self._spec),
            gives_up=self._spec.restart.then != "try",
        )

    async def start(self, place: Place, incarnation: str) -> Started:
        assert place.address is not None
        own = identity(place.instance_id, incarnation, place.address)
        program = self._program(place.instance_id, _SERVE, own)
        if (heir := await self._workshop.heir(place, program)) is not None:
            return self._going_on(place, heir)
        certificate = await self._workshop.identified(place, incarnation)
        own |= certificate
        program = program.with_environment(certificate)
        # On the place's socket another process may answer: a successor is asked on one of its own.
        probed = listen(HOST, 0)
        sockets = {
            "SEAWALL_LISTEN_FD": self._listeners[place.instance_id].fileno(),
            "SEAWALL_PROBE_FD": probed.fileno(),
        }
        at = At(Address(HOST, probed.getsockname()[1]), place.tls)
        try:
            process = await self._woken(program, own, sockets)
            if process is None:
                parent = await self._parent(await self._workshop.nursery.warm())
                process = await self._workshop.launch(parent, program, sockets)
        finally:
            probed.close()
        return self._asked.started(process, at, {**self._environment, **own})

    def _going_on(self, place: Place, heir: Heir) -> Started:
        probed = heir.heirloom.take_socket("SEAWALL_PROBE_FD")
        assert probed is not None  # each has one
        with probed:
            at = At(Address(HOST, probed.getsockname()[1]), place.tls)
        heir.heirloom.close()
        environment = heir.heirloom.program.environment
        started = self._asked.started(heir.process, at, environment)
        return replace(started, incarnation=heir.heirloom.incarnation)

    async def _woken(
        self, program: Program, own: Mapping[str, str], sockets: Mapping[str, int]
    ) -> Process | None:
        """One that waited and is that replica now, if there is one."""
        while (standby := self.standbys.take()) is not None:
            if standby.become(self._workshop.logs.sink(program.name, plain), own, sockets):
                with suppress(NotSent):  # its parent is gone, and so is it
                    await standby.parent.became(standby.process.pid, program, sockets)
                return standby.process
        return None

    async def _standby(self) -> Standby:
        parent = await self._parent(await self._workshop.nursery.warm())
        program = self._program(f"{self._name}-standby", "seawall.runtime.standby:run", {})
        return await self._workshop.standby(parent, program)

    def _program(self, name: str, call: str, more: Mapping[str, str]) -> Program:
        return Program(
            name=name,
            call=call,
            arguments=(self._module,),
            environment={**self._environment, **more},
            folder=self._folder,
            grace=self._spec.drain + EXTRA_GRACE,
        )

    def successor(self, place: Place) -> Place:
        return place  # both accept on the socket of the place

    async def _parent(self, root: Launcher) -> Launcher:
        """The service's own warm parent; `root` if it cannot have one."""
        self._bury_retired()
        async with self._growing:
            if self._branch is not None and self._branch.alive:
                return self._branch
            if self._alone is root:
                return root
            program = Program(name=self._called, environment=self._environment, folder=self._folder)
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
        self.standbys.discard()

    def restore(self) -> bool:
        # It is not buried while a replica of its lives, which the one that is there is.
        if not self._retired or not self._retired[-1].alive:
            return False
        before = self._retired.pop()
        self.renew()
        self._branch = before
        return True

    def door(self, place: Place) -> socket.socket | None:
        return self._listeners.get(place.instance_id)

    def leave(self, place: Place) -> None:
        self._listeners.pop(place.instance_id).close()

    def end(self) -> None:
        self.renew()
        self._bury_retired()


class CommandRecipe:
    """Any command that listens on $PORT."""

    kind = Kind.COMMAND
    standbys: Standbys | None = None

    def __init__(self, name: str, spec: ServiceSpec, workshop: Workshop, called: str = "") -> None:
        assert spec.command is not None
        self._name = name
        self._called = called or name
        self._spec = spec
        self._command = tuple(spec.command)
        self._workshop = workshop
        self._folder = _folder(spec, workshop.layout)
        self._environment = _environment(name, spec, workshop)
        self._asked = Asked(spec, self._folder)
        self._ports: set[int] = set()

    @property
    def has_fixed_ports(self) -> bool:
        return bool(self._spec.port)

    def place(self, number: int) -> Place:
        instance_id = f"{self._called}-{number}"
        return Place(
            service=self._name,
            instance_id=instance_id,
            kind=self.kind,
            address=self._first_address(number, instance_id),
            tls=self._workshop.towards(self._name),
            version=self._spec.version,
            health_path=self._spec.health,
            zone=self._environment.get("SEAWALL_ZONE", ""),
            priority=self._spec.priority,
            start_within=self._spec.start_within,
            grace=self._spec.drain + EXTRA_GRACE,
            linger=_LINGER,
            startup=self._asked.startup,
            readiness=self._asked.readiness,
            liveness=self._asked.liveness,
            restarts=_restarts(self._spec),
            gives_up=self._spec.restart.then != "try",
        )

    def _first_address(self, number: int, instance_id: str) -> Address:
        """That of the process which is there already, if it is one that we would give."""
        wanted = self._spec.port + number - 1 if self._spec.port else 0
        heirloom = self._workshop.estate.get(instance_id)
        if heirloom is not None:
            port = int(heirloom.program.environment["PORT"])
            if wanted in (0, port):
                self._ports.add(port)
                return Address(HOST, port)
        return self._address(wanted)

    def _address(self, wanted: int) -> Address:
        port = port_for_command(HOST, wanted, self._ports, self._workshop.rng)
        self._ports.add(port)
        return Address(HOST, port)

    def successor(self, place: Place) -> Place:
        if self._spec.port:
            raise Refused(
                f"{self._name} has the fixed port {self._spec.port}, on which an old and a new "
                "process cannot listen at the same time; leave services."
                f"{self._name}.port out, or use: seawall restart {self._name}"
            )
        return replace(place, address=self._address(0))

    async def start(self, place: Place, incarnation: str) -> Started:
        assert place.address is not None
        at = At(place.address, place.tls)
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
        if (heir := await self._workshop.heir(place, program)) is not None:
            heir.heirloom.close()
            environment = heir.heirloom.program.environment
            started = self._asked.started(heir.process, at, environment)
            return replace(started, incarnation=heir.heirloom.incarnation)
        program = program.with_environment(await self._workshop.identified(place, incarnation))
        process = await self._workshop.launch(parent, program, {})
        return self._asked.started(process, at, program.environment)

    def renew(self) -> None:
        pass  # every start reads the program anew

    def restore(self) -> bool:
        return False  # what was overwritten on the disk is gone

    def door(self, place: Place) -> socket.socket | None:
        return None

    def leave(self, place: Place) -> None:
        assert place.address is not None
        self._ports.discard(place.address.port)

    def end(self) -> None:
        pass  # nothing stays of it


def _restarts(spec: ServiceSpec) -> RestartConfig:
    return RestartConfig(intensity=spec.restart.intensity, period=spec.restart.period)


def _folder(spec: ServiceSpec, layout: Layout) -> str:
    return str((layout.root / spec.cwd).resolve())


def _locality(spec: ServiceSpec) -> dict[str, str]:
    said = {"SEAWALL_ZONE": spec.zone, "SEAWALL_PRIORITY": str(spec.priority or "")}
    return {name: value for name, value in said.items() if value}


def canary_recipe(name: str, spec: ServiceSpec, workshop: Workshop) -> Recipe:
    """Of the code as it is now, beside what runs: with places of its own, as a prerelease."""
    version = parse_version(spec.version).finalize_version()
    spec = spec.model_copy(
        update={
            "port": 0,
            "version": f"{version}-canary",
            "env": {**spec.env, "SEAWALL_VERSION_TAG": "canary"},
        }
    )
    called = f"{name}-canary"
    if spec.module is not None:
        return ModuleRecipe(name, spec, workshop, called)
    return CommandRecipe(name, spec, workshop, called)


def _admission(spec: ServiceSpec) -> dict[str, str]:
    return {} if spec.admission is None else {"SEAWALL_ADMISSION": spec.admission.model_dump_json()}


def _environment(name: str, spec: ServiceSpec, workshop: Workshop) -> dict[str, str]:
    return service_environment(
        workshop.inherited,
        workshop.urls,
        declared={**_locality(spec), **_admission(spec), **spec.env},
        database=spec.database or workshop.layout.database_url(name),
        drain=spec.drain,
    )
