"""Coarse timeouts for many connections, without a timer object for each.

A connection stands in at most one slot of the wheel that counts. Moving its deadline back costs
an assignment: it is found in its old slot and put into the new one. Only a deadline that comes
closer is entered anew, which a busy connection does about once a timeout, not once a request.
"""

from collections.abc import Iterator
from typing import Final

NEVER: Final = float("inf")


class Timed:
    """Something with a deadline."""

    __slots__ = ("deadline", "slot", "soon")

    def __init__(self) -> None:
        self.deadline: float = NEVER
        self.slot: int = -1  # where it stands in the wheel; -1 = nowhere
        # A deadline before this is for the wheel to `watch`; another is just written down.
        self.soon: float = NEVER

    def expire(self, now: float) -> None:
        """The deadline has passed; another may be set."""


class Wheel:
    """Says what is due, up to `tick` seconds late, whenever it is turned."""

    __slots__ = ("_at", "_slots", "tick")

    def __init__(self, tick: float, now: float) -> None:
        self.tick: float = tick
        self._at: int = int(now / tick)
        self._slots: dict[int, list[Timed]] = {}

    def watch(self, timed: Timed, deadline: float) -> None:
        """Set a deadline, earlier or later than before; NEVER takes it away."""
        timed.deadline = deadline
        if deadline == NEVER:
            return
        slot = int(deadline / self.tick) + 1
        if timed.slot < 0 or slot < timed.slot:
            self._enter(timed, slot)

    def turn(self, now: float) -> Iterator[Timed]:
        """What is due at `now`, one after another, so that what expires may still save another.
        None of it has a deadline any more; go on to the end, or the rest is forgotten."""
        until = int(now / self.tick)
        if until - self._at > len(self._slots):  # a long pause: look at what there is
            due = sorted(slot for slot in self._slots if slot <= until)
        else:
            due = [slot for slot in range(self._at + 1, until + 1) if slot in self._slots]
        self._at = until
        for slot in due:
            for timed in self._slots.pop(slot):
                if timed.slot != slot:
                    continue  # it was entered anew, closer, and has been looked at there
                timed.slot = -1
                timed.soon = NEVER
                if timed.deadline <= now:
                    timed.deadline = NEVER
                    yield timed
                if timed.slot < 0 and timed.deadline != NEVER:
                    self._enter(timed, int(timed.deadline / self.tick) + 1)

    def _enter(self, timed: Timed, slot: int) -> None:
        slot = max(slot, self._at + 1)
        timed.slot = slot
        timed.soon = (slot - 1) * self.tick
        entries = self._slots.get(slot)
        if entries is None:
            self._slots[slot] = [timed]
        else:
            entries.append(timed)
