"""One member of a group consumes at a time, where a broker gives a key's messages to any of them.

The others stand by. A member that leaves gives its turn to another at once; one that dies, or
cannot reach the store of turns any more, loses it with its lease.
"""

from typing import Protocol

from seawall.clock import Clock
from seawall.errors import SeawallError

# How long a group stands still after its member died, at most, and the time to renew a turn.
TURN = 15.0  # seconds

# How often those that stand by look.
LOOK = 1.0  # seconds


class Turn(Protocol):
    """The turn of one group, for one member; a lease in a store that all members share."""

    async def take(self, seconds: float) -> bool:
        """Make it ours for `seconds` from now; False if it is another's."""

    async def give(self) -> None:
        """End it, if it is ours."""


class Standby:
    """Waits for a turn, keeps it, and says when it is lost."""

    def __init__(self, turn: Turn, clock: Clock) -> None:
        self._turn = turn
        self._clock = clock
        self._until = 0.0

    async def wait(self) -> None:
        """Return when it is our turn."""
        while not await self._take():
            await self._clock.sleep(LOOK)

    async def keep(self) -> None:
        """Return when it is our turn no more, or nobody can tell us that it is."""
        while True:
            await self._clock.sleep(TURN / 3)
            if not await self._take(unless_known=True):
                return

    async def _take(self, *, unless_known: bool = False) -> bool:
        asked = self._clock.now()
        try:
            ours = await self._turn.take(TURN)
        except SeawallError:
            # Ours by what the store said last; with a margin, since others may take it then.
            return unless_known and asked < self._until - TURN / 3
        if ours:
            self._until = asked + TURN
        return ours

    async def give(self) -> None:
        await self._turn.give()
