"""How the embedded Valkey is made."""

import socket

from seawall.errors import Refused
from seawall.runtime.embedded import NAME as VALKEY
from seawall.runtime.embedded import read_line, server_command
from seawall.runtime.probe import ping_probe
from seawall.runtime.program import Program
from seawall.runtime.replica import Kind, Place, Started
from seawall.runtime.standbys import Standbys
from seawall.runtime.thresholds import ProbeConfig
from seawall.runtime.workshop import Workshop

# A Valkey tells nobody of itself; what we ask it is only shown.
_CHECK = ProbeConfig(period=5.0, failure_threshold=2, again=0.0)


class ValkeyRecipe:
    """The embedded Valkey, which ends after all who need it."""

    kind = Kind.SERVER
    has_fixed_ports = False  # it has none
    standbys: Standbys | None = None

    def __init__(self, program: str, workshop: Workshop) -> None:
        self._program = program
        self._workshop = workshop

    def place(self, number: int) -> Place:
        return Place(
            service=VALKEY,
            instance_id=VALKEY,
            kind=self.kind,
            grace=10.0,
            readiness=_CHECK,
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
        probe = ping_probe(self._workshop.layout.valkey_socket)
        if (heir := await self._workshop.heir(place, program, read_line)) is not None:
            heir.heirloom.close()
            return Started(heir.process, probe, incarnation=heir.heirloom.incarnation)
        process = await self._workshop.launch(parent, program, {}, read=read_line)
        return Started(process, probe)

    def successor(self, place: Place) -> Place:
        raise Refused("two processes cannot write one Valkey's files: seawall restart valkey")

    def renew(self) -> None:
        pass

    def restore(self) -> bool:
        return False

    def door(self, place: Place) -> socket.socket | None:
        return None

    def leave(self, place: Place) -> None:
        pass

    def end(self) -> None:
        pass  # it is not on trial
