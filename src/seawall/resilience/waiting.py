"""Those that wait for a place: the most important first, and none for longer than it is worth.

A bounded room with a line for each importance. Whoever is at the head of the first line that can
have a place is next. A line whose waits do not get short again loses one, and then the next
sooner and sooner (`seawall.resilience.codel`). Where the room is full, the least important that
came last goes for one that is more important.
"""

from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

from seawall.errors import Misconfigured
from seawall.resilience.codel import INTERVAL, TARGET, CoDel

T = TypeVar("T")


class WaitingRoom(Generic[T]):
    """Whoever waits is named by anything hashable. `order` has the most important first."""

    def __init__(
        self,
        size: int,
        order: Sequence[str],
        target: float = TARGET,
        interval: float = INTERVAL,
    ) -> None:
        if size < 0 or not order:
            raise Misconfigured(f"a waiting room of {size} for {len(order)} kinds of waiters")
        self.size = size
        self._order = tuple(order)
        self._lines: dict[str, dict[T, float]] = {name: {} for name in order}
        self._codel = {name: CoDel(target, interval) for name in order}

    def __len__(self) -> int:
        return sum(map(len, self._lines.values()))

    def is_ahead(self, importance: str) -> bool:
        """Whether somebody waits already who is at least as important."""
        place = self._order.index(importance)
        return any(self._lines[name] for name in self._order[: place + 1])

    def enter(self, who: T, importance: str, now: float) -> T | None:
        """Wait; returns who has to go for it: nobody, somebody less important, or `who` itself."""
        leaves: T | None = None
        if len(self) >= self.size:
            below = self._order[self._order.index(importance) + 1 :]
            line = next((self._lines[name] for name in reversed(below) if self._lines[name]), None)
            if line is None:
                return who
            leaves = next(reversed(line))
            del line[leaves]
        self._lines[importance][who] = now
        return leaves

    def leave(self, who: T) -> None:
        """Does not wait any longer; whoever has left already is nobody."""
        for line in self._lines.values():
            line.pop(who, None)

    def next(self, can: Callable[[str], bool], now: float) -> tuple[T | None, list[T]]:
        """The next one, for whom `can` took a place; and those that waited too long for one."""
        dropped: list[T] = []
        for name in self._order:
            line, codel = self._lines[name], self._codel[name]
            if not line or not can(name):
                continue
            while True:  # ends: the last of a line is never dropped
                who = next(iter(line))
                if not codel.drops(now - line.pop(who), now, last=not line):
                    return who, dropped
                dropped.append(who)
        return None, dropped

    def __repr__(self) -> str:
        return f"<WaitingRoom {len(self)} of {self.size}>"
