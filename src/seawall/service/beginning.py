"""Who begins next: of those that were let in, the most important first, and one at a time.

A handler that does not wait holds the loop until it is done. Whoever was let in with it would be
worked on in the same turn of the loop, in the order in which they came: nobody would be looked at
in between, were it the most important request of the day. So each begins in a turn of its own, and
where a handler has held the loop, whoever came meanwhile is let in or refused before the next.

Who never gets its turn, since more important ones or those before it have theirs, is told so once
its patience is over, but not if nobody else would begin instead.
"""

import asyncio
from collections import deque
from collections.abc import Sequence

from seawall.clock import Clock

# A turn of the loop that took longer was held up by a handler that does not wait.
HELD = 0.001  # seconds

# Turns in which to look round: a connection, its request, its task. Some 10 µs each.
TURNS = 64
QUIET = 4  # of them in which nobody came


class _Turn:
    """One that is to begin."""

    __slots__ = ("heads", "importance", "told", "until")

    def __init__(self, importance: str, until: float) -> None:
        self.importance = importance
        self.until = until
        self.told: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self.heads = True

    def tell(self, begins: bool) -> bool:
        """Whether it still waited for it."""
        if self.told.done():
            return False
        self.told.set_result(begins)
        return True


class Beginners:
    """A line for each importance; whoever heads them all looks round, and begins."""

    def __init__(self, order: Sequence[str], clock: Clock) -> None:
        self._lines: dict[str, deque[_Turn]] = {name: deque() for name in order}
        self._order = tuple(order)
        self._clock = clock
        self._is_headed = False
        self.arrived = 0  # requests, those that are refused among them

    def __len__(self) -> int:
        return sum(map(len, self._lines.values()))

    async def begin(self, importance: str, patience: float) -> bool:
        """Return True when it is this one's turn; or False, after `patience` seconds or more."""
        turn = _Turn(importance, self._clock.now() + patience)
        if self._is_headed:
            self._lines[importance].append(turn)
            if not await self._called(turn):
                return False
        self._is_headed = True
        try:
            await self._look_round()
            while self._outranked(importance):
                turn.told = asyncio.get_running_loop().create_future()
                self._call()
                self._lines[importance].appendleft(turn)
                if not await self._called(turn):
                    return False
                await self._look_round()
        finally:
            if turn.heads:
                self._call()
        return True

    async def _called(self, turn: "_Turn") -> bool:
        try:
            turn.heads = False
            turn.heads = await turn.told
        except asyncio.CancelledError:
            if turn in self._lines[turn.importance]:
                self._lines[turn.importance].remove(turn)
            elif turn.told.done() and not turn.told.cancelled() and turn.told.result():
                self._call()
            raise
        return turn.heads

    def _call(self) -> None:
        """The next one heads the lines from now on, or nobody does."""
        now, head = self._clock.now(), None
        for line in map(self._lines.__getitem__, self._order):
            # In the line of the next one, the last is not late: nobody else would begin instead.
            while line and line[0].until <= now and (head or len(line) > 1):
                line.popleft().tell(False)
            while line and head is None:
                turn = line.popleft()
                head = turn if turn.tell(True) else None
        self._is_headed = head is not None

    def _outranked(self, importance: str) -> bool:
        above = self._order[: self._order.index(importance)]
        return any(self._lines[name] for name in above)

    async def _look_round(self) -> None:
        """Let in or refuse whoever has come by now, before a request is worked on.

        If a handler has held the loop, more may have come than a turn of it takes in: it accepts
        one connection a turn.
        """
        began = self._clock.now()
        await self._clock.sleep(0)
        if self._clock.now() - began < HELD:
            return
        quiet = 0
        for _ in range(TURNS):
            before = self.arrived
            await self._clock.sleep(0)
            quiet = quiet + 1 if self.arrived == before else 0
            if quiet == QUIET:
                return
