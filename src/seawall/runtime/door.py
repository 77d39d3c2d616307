"""The door of a service that sleeps: its socket is open, callers are told of it, and who comes
wakes the service.

The supervisor only watches the socket; it takes no connection. The kernel keeps those that come,
and the replica that is started then accepts them: no request passes through another process, and
none is lost.
"""

import asyncio
import socket

from seawall.runtime.registration import Registrar
from seawall.runtime.replica import Place


class Door:
    """Of one service. `rang` is set when somebody waits before it; whoever answers clears it."""

    def __init__(self, registrar: Registrar) -> None:
        self._registrar = registrar
        self._place: Place | None = None  # whose socket is watched
        self._watched: socket.socket | None = None
        self.rang = asyncio.Event()

    async def show(self, place: Place) -> None:
        """Have callers told of the place as if a replica were there, before the last one leaves.

        Returns once the registry has it, or does not answer.
        """
        await self._registrar.stand_in(place)

    def watch(self, place: Place, listener: socket.socket) -> None:
        """Nobody accepts there any more: ring when somebody comes, once."""
        self._place, self._watched = place, listener
        asyncio.get_running_loop().add_reader(listener, self._ring)

    def _ring(self) -> None:
        self._unwatch()
        self.rang.set()

    def open(self) -> None:
        """A replica comes, which tells callers of itself: watch no longer."""
        self._unwatch()

    def close(self, place: Place) -> None:
        """Nothing is in that place any more, and nothing comes: callers are told."""
        if self._place is not None and self._place.instance_id == place.instance_id:
            self._unwatch()
        self._registrar.stand_down(place)

    def _unwatch(self) -> None:
        if self._watched is not None:
            asyncio.get_running_loop().remove_reader(self._watched)
            self._place = self._watched = None
