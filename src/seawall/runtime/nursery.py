"""Keeps the warm parent alive, and hands it out."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from seawall.clock import SYSTEM, Clock
from seawall.errors import NotSent
from seawall.facts import Observer
from seawall.runtime.inheritance import Estate
from seawall.runtime.launcher import Launcher, Unfit, zygote

# A parent that dies again and again is not started faster than this.
_PAUSE = 0.5  # seconds


@dataclass(frozen=True, slots=True)
class ParentLost:
    """The warm parent died; a new one is started, and what it had forked too."""

    at: float


@dataclass(frozen=True, slots=True)
class ParentUnfit:
    """It could not import what services share; they start without, and more slowly."""

    reason: str


class Nursery:
    """One warm parent at a time, from `run` until it is cancelled.

    `cold` is there at once and is for servers and commands; `warm` has imported what services
    share. Both wait while there is none.
    """

    def __init__(
        self,
        folder: Path,
        modules: Sequence[str],
        *,
        observer: Observer,
        lock: int | None = None,
        meeting: str = "",
        estate: Estate | None = None,
        spawn: bool = False,
        clock: Clock = SYSTEM,
    ) -> None:
        """The first parent is that of the `estate`, where it has one."""
        self._folder = folder
        self._modules = modules
        self._observer = observer
        self._lock = lock
        self._meeting = meeting
        self._estate = estate
        self._spawn = spawn
        self._clock = clock
        self._cold: Launcher | None = None
        self._warm: Launcher | None = None
        self._changed = asyncio.Event()
        self._preload = asyncio.Event()

    def preload(self) -> None:
        """Import now: what had to start before is under way. Importing takes a second, in which
        the parent starts nothing."""
        self._preload.set()

    async def run(self) -> None:
        while True:
            is_warm = self._estate is not None and self._estate.warm
            async with self._parent() as launcher:
                self._cold = launcher
                self._tell()
                await self._preload.wait()
                try:
                    if not is_warm:
                        await launcher.preload(self._modules)
                except Unfit as exc:
                    self._observer(ParentUnfit(str(exc)))
                except NotSent:
                    continue
                self._warm = launcher
                self._tell()
                await asyncio.shield(launcher.lost)
            self._cold = self._warm = None
            self._observer(ParentLost(self._clock.now()))
            await self._clock.sleep(_PAUSE)

    @asynccontextmanager
    async def _parent(self) -> AsyncIterator[Launcher]:
        estate, self._estate = self._estate, None
        if estate is None or estate.root is None:
            async with zygote(
                self._folder,
                lock=self._lock,
                meeting=self._meeting,
                spawn=self._spawn,
                clock=self._clock,
            ) as launcher:
                yield launcher
            return
        try:
            yield estate.root
        finally:
            estate.root.close()
            # It is nobody's child by now: its end is that of its socket.
            await asyncio.shield(estate.root.lost)

    def _tell(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    async def cold(self) -> Launcher:
        while self._cold is None or not self._cold.alive:
            await self._changed.wait()
        return self._cold

    async def warm(self) -> Launcher:
        while self._warm is None or not self._warm.alive:
            await self._changed.wait()
        return self._warm
