"""How the process of a gateway is made."""

import socket

from seawall.errors import Refused
from seawall.runtime.environment import replica_environment, service_environment
from seawall.runtime.probe import Health, ReadyPipe
from seawall.runtime.program import Program
from seawall.runtime.recipes import EXTRA_GRACE
from seawall.runtime.replica import Kind, Place, Started
from seawall.runtime.standbys import Standbys
from seawall.runtime.workshop import Workshop
from seawall.spec.project import Spec
from seawall.topology import Address


class GatewayRecipe:
    """The gateway: all its replicas answer on one socket."""

    kind = Kind.GATEWAY
    has_fixed_ports = False  # one socket for all
    standbys: Standbys | None = None

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
            grace=self._spec.gateway.drain + EXTRA_GRACE,
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
        if (heir := await self._workshop.heir(place, program)) is not None:
            ready.launched()
            ready.close()
            heir.heirloom.close()
            return Started(heir.process, _ready, incarnation=heir.heirloom.incarnation)
        program = program.with_environment(await self._workshop.identified(place, incarnation))
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

    def successor(self, place: Place) -> Place:
        raise Refused(
            "a gateway takes another configuration with: seawall gateway reload; its process is "
            "replaced with: seawall restart gateway"
        )

    def renew(self) -> None:
        pass

    def restore(self) -> bool:
        return False

    def door(self, place: Place) -> socket.socket | None:
        return None

    def leave(self, place: Place) -> None:
        pass  # the socket is the gateway's, not the place's

    def end(self) -> None:
        pass  # it is not on trial


async def _ready() -> Health:
    """Of a gateway that goes on: it has said so to the supervisor before us."""
    return Health(True)
