"""Where processes are made: what every recipe uses, and how their output comes to the logs."""

import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from random import Random

from seawall.clock import Clock
from seawall.facts import Observer
from seawall.runtime.environment import Urls, same
from seawall.runtime.identities import Identities
from seawall.runtime.inheritance import Estate, Heirloom
from seawall.runtime.launcher import Launcher, Pipe
from seawall.runtime.layout import Layout
from seawall.runtime.logs import LogStore, Read, plain
from seawall.runtime.nursery import Nursery
from seawall.runtime.process import Output, Process
from seawall.runtime.program import Program
from seawall.runtime.replica import Kind, Place
from seawall.runtime.standby import VARIABLE as STANDBY_FD
from seawall.runtime.standbys import Standby
from seawall.transport.tls import Secured


@dataclass(frozen=True, slots=True)
class Heir:
    """A process that goes on under us."""

    process: Process
    heirloom: Heirloom


@dataclass(frozen=True, slots=True)
class Workshop:
    """What all recipes have in common, and how a process is started with it."""

    layout: Layout
    nursery: Nursery
    logs: LogStore
    urls: Urls
    inherited: Mapping[str, str]
    observer: Observer
    clock: Clock
    rng: Random
    identities: Identities | None = None  # with mTLS only

    async def identified(self, place: Place, incarnation: str) -> Mapping[str, str]:
        """What the environment of that process says of its certificate. Raises `NotSent`."""
        if self.identities is None:
            return {}
        return await self.identities.issue(place, incarnation)

    def towards(self, service: str) -> Secured | None:
        """How the supervisor asks that service; None: in plain text."""
        return None if self.identities is None else self.identities.towards(service)

    estate: Estate = field(default_factory=Estate)

    def socket_of(self, instance_id: str, wanted: int) -> socket.socket | None:
        """The listening socket of the process that is in that place already, if it has one on the
        port that is wanted; 0 means any."""
        heirloom = self.estate.get(instance_id)
        held = None if heirloom is None else heirloom.take_socket("SEAWALL_LISTEN_FD")
        if held is not None and wanted not in (0, held.getsockname()[1]):
            held.close()
            return None
        return held

    async def heir(self, place: Place, wanted: Program, read: Read = plain) -> Heir | None:
        """The process that a supervisor before us started in that place, if it runs what is
        wanted there; one that runs something else is ended."""
        heirloom = self.estate.take(place.instance_id)
        if heirloom is None:
            return None
        output = Output(heirloom.fds.pop("discard"), self.logs.sink(place.instance_id, read))
        needs_one = self.identities is not None and place.kind is not Kind.SERVER
        process = Process(heirloom.child, output, self.clock)
        has_certificate = "SEAWALL_TLS" in heirloom.program.environment
        if same(heirloom.program, wanted, self.inherited) and has_certificate == needs_one:
            if needs_one:
                await self.identified(place, heirloom.incarnation)
            return Heir(process, heirloom)
        heirloom.close()
        await process.stop(place.grace)  # another start of the same place follows
        return None

    async def end(self, instance_id: str) -> None:
        """Stop a process that a supervisor before us started, and nobody wants."""
        if (heirloom := self.estate.take(instance_id)) is not None:
            output = Output(heirloom.fds.pop("discard"), self.logs.sink(instance_id))
            heirloom.close()
            await Process(heirloom.child, output, self.clock).stop(heirloom.child.grace)

    async def launch(
        self,
        parent: Launcher,
        program: Program,
        sockets: Mapping[str, int],
        at_end: Callable[[], None] = lambda: None,
        read: Read = plain,
    ) -> Process:
        pipe = Pipe.open()
        output = Output(pipe.read, self.logs.sink(program.name, read))
        try:
            child = await parent.launch(program, pipe, sockets)
        except BaseException:
            output.close()
            raise
        return Process(child, output, self.clock, at_end)

    async def standby(self, parent: Launcher, program: Program) -> Standby:
        """A process that waits to be told which replica to be."""
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        try:
            process = await self.launch(parent, program, {STANDBY_FD: theirs.fileno()})
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()
        return Standby(process, ours, parent)

    async def branch(self, parent: Launcher, program: Program, module: str) -> Launcher:
        pipe = Pipe.open()
        output = Output(pipe.read, self.logs.sink(program.name))
        try:
            return await parent.branch(program, pipe, [module])
        except BaseException:
            output.close()
            raise
