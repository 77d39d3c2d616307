"""Whose turn it is, among processes that share a registry; and what was done last.

A turn is a lease on a name: one holder at a time, until it is given back or its time is over. A
holder that was paused for longer than that may believe that it still has it, so what is done in a
turn must bear to be done twice.
"""

from typing import Protocol
from weakref import WeakValueDictionary

from seawall.clock import SYSTEM, Clock


class Turns(Protocol):
    """Turns and marks by name. Every method raises `Unavailable` if the store cannot be reached."""

    async def take(self, name: str, holder: str, seconds: float) -> bool:
        """Make it `holder`'s turn for `seconds` from now; False if it is somebody else's."""

    async def give(self, name: str, holder: str) -> None:
        """End `holder`'s turn; does nothing if it is not."""

    async def mark(self, name: str, at: float) -> None:
        """Remember that what belongs to the time `at` was done. Marks only go forward."""

    async def marked(self, name: str) -> float | None:
        """The latest mark; None if there is none."""

    async def aclose(self) -> None:
        """Give back connections. Calling it twice is fine."""


class _Board:
    """What the holders of one name share."""

    def __init__(self) -> None:
        self.turns: dict[str, tuple[str, float]] = {}  # name -> holder, end
        self.marks: dict[str, float] = {}


_BOARDS: WeakValueDictionary[str, _Board] = WeakValueDictionary()


class MemoryTurns:
    """Turns inside this process, shared by all that open the same name."""

    def __init__(self, name: str, *, clock: Clock = SYSTEM) -> None:
        board = _BOARDS.get(name)
        if board is None:
            board = _BOARDS[name] = _Board()
        self._board = board
        self._clock = clock

    async def take(self, name: str, holder: str, seconds: float) -> bool:
        now = self._clock.now()
        held_by, until = self._board.turns.get(name, ("", 0.0))
        if held_by not in ("", holder) and now < until:
            return False
        self._board.turns[name] = (holder, now + seconds)
        return True

    async def give(self, name: str, holder: str) -> None:
        if self._board.turns.get(name, ("", 0.0))[0] == holder:
            del self._board.turns[name]

    async def mark(self, name: str, at: float) -> None:
        self._board.marks[name] = max(at, self._board.marks.get(name, at))

    async def marked(self, name: str) -> float | None:
        return self._board.marks.get(name)

    async def aclose(self) -> None:
        pass

    def __repr__(self) -> str:
        return f"<MemoryTurns {len(self._board.turns)} held>"


class OwnTurn:
    """One turn, for one holder."""

    def __init__(self, name: str, holder: str, turns: Turns) -> None:
        self._name = name
        self._holder = holder
        self._turns = turns

    async def take(self, seconds: float) -> bool:
        return await self._turns.take(self._name, self._holder, seconds)

    async def give(self) -> None:
        await self._turns.give(self._name, self._holder)
