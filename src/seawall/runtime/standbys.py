"""Keeps processes of a service at hand that have only to be told which replica to be.

One is used where a replica starts, whether it comes or follows one that died; another is made
when the start is over, so that it does not get in its way.
"""

import asyncio
import socket
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Protocol

from seawall.clock import Clock
from seawall.errors import NotSent
from seawall.runtime.process import Process, Sink
from seawall.runtime.program import Program
from seawall.runtime.standby import tell

# A start takes a tenth of a second; a new standby is made when that is over.
_AFTER = 0.5  # seconds

# One that ends by itself cannot start: its replicas tell why, and are tried with pauses of theirs.
_AFTER_A_DEATH = 5.0  # seconds


class Parent(Protocol):
    """The process from which a standby was forked."""

    async def became(self, pid: int, program: Program, sockets: Mapping[str, int]) -> None:
        """A child is another program now. Raises `NotSent`."""


@dataclass(frozen=True, slots=True)
class Standby:
    """A process that waits, the socket on which it is told, and its parent."""

    process: Process
    call: socket.socket
    parent: Parent

    def become(self, sink: Sink, environment: Mapping[str, str], fds: Mapping[str, int]) -> bool:
        """Be that replica from now on; False if it cannot be told, and ends."""
        told = tell(self.call, environment, fds)
        self.call.close()
        if told:
            self.process.begin(sink)
        return told


Make = Callable[[], Awaitable[Standby]]


class Standbys:
    """As many as `count` that wait, while `run` runs. `make` raises `NotSent`."""

    def __init__(self, count: int, make: Make, clock: Clock) -> None:
        self._count = count
        self._make = make
        self._clock = clock
        self._waiting: list[Standby] = []
        self._age = 0  # of the code: what was made for an earlier one is not used
        self._died = False
        self._missing = asyncio.Event()
        self._missing.set()

    def __len__(self) -> int:
        return len(self._waiting)

    def take(self) -> Standby | None:
        """One that lives, for whoever starts a replica; None if there is none."""
        while self._waiting:
            standby = self._waiting.pop(0)
            self._missing.set()
            if standby.process.lives:
                return standby
            standby.call.close()
        return None

    def discard(self) -> None:
        """The code has changed: those that wait are not needed."""
        self._age += 1
        for standby in self._waiting:
            standby.call.close()
        self._waiting.clear()
        self._missing.set()

    async def run(self) -> None:
        """Keep them, until cancelled; then let them end."""
        try:
            while self._count:
                await self._missing.wait()
                self._missing.clear()
                await self._clock.sleep(_AFTER_A_DEATH if self._died else _AFTER)
                self._died = False
                await self._fill()
        finally:
            self._count = 0
            self.discard()

    async def _fill(self) -> None:
        while len(self._waiting) < self._count:
            age = self._age
            try:
                standby = await self._make()
            except NotSent:
                await self._clock.sleep(_AFTER_A_DEATH)
                continue
            if age != self._age:
                standby.call.close()
                continue
            self._waiting.append(standby)
            standby.process.when_ended(partial(self._forget, standby))

    def _forget(self, standby: Standby) -> None:
        if standby in self._waiting:
            self._waiting.remove(standby)
            standby.call.close()
            self._died = True
            self._missing.set()
