"""Replaces what has grown above its memory limit: a successor first, then it drains."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass

import psutil

from seawall.clock import Clock
from seawall.concurrency.tasks import Tasks
from seawall.facts import Observer
from seawall.runtime.cost import fair_share
from seawall.runtime.fleet import Fleet
from seawall.runtime.replica import Place
from seawall.runtime.restart import State

# A leak of a hundred megabytes a second is seen before it has taken the machine's memory.
_EVERY = 1.0  # seconds

# What is too large as soon as it is imported would be replaced for ever; so it costs a start now
# and then.
_YOUNGEST = 30.0  # seconds


@dataclass(frozen=True, slots=True)
class ReplicaTooLarge:
    """It uses more memory than its service may, and is being replaced. Sizes in bytes."""

    place: Place
    memory: int
    limit: int
    at: float


class MemoryLimits:
    """Looks each second, while `run` runs, at the fleets of which `limits` (bytes) says one."""

    def __init__(
        self,
        fleets: Mapping[str, Fleet],
        limits: Mapping[str, int],
        tasks: Tasks,
        *,
        observer: Observer,
        clock: Clock,
    ) -> None:
        self._limited = [(fleets[name], limit) for name, limit in limits.items() if name in fleets]
        self._tasks = tasks
        self._observer = observer
        self._clock = clock
        self._replacing: set[str] = set()

    async def run(self) -> None:
        while self._limited:
            await self._clock.sleep(_EVERY)
            for fleet, limit in self._limited:
                await self._look(fleet, limit)

    async def _look(self, fleet: Fleet, limit: int) -> None:
        grown = [
            replica
            for replica in fleet.snapshot()
            if replica.state in (State.READY, State.UNREADY) and replica.age >= _YOUNGEST
        ]
        for replica in grown:
            name = replica.place.instance_id
            if replica.pid is None or name in self._replacing:
                continue
            memory = await asyncio.to_thread(tree_memory, replica.pid, limit)
            if memory > limit:
                now = self._clock.now()
                self._observer(ReplicaTooLarge(replica.place, memory, limit, now))
                self._replacing.add(name)
                self._tasks.start(self._replace(fleet, name), name=f"replace {name}")

    async def _replace(self, fleet: Fleet, name: str) -> None:
        try:
            await fleet.replace(name)
        finally:
            self._replacing.discard(name)


def tree_memory(pid: int, limit: int) -> int:
    """Bytes of a process and all below it; 0 if it has gone.

    What it has all to itself or with others (RSS) is quickly told, and no less than its fair
    share (PSS), which takes the kernel a millisecond: that is asked only above `limit`.
    """
    try:
        top = psutil.Process(pid)
        tree = [top, *top.children(recursive=True)]
        if sum(process.memory_info().rss for process in tree) <= limit:
            return 0
        return sum(fair_share(process) for process in tree)
    except psutil.Error:
        return 0  # somebody has just ended; the next look tells
