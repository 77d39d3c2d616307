"""What processes cost: memory and CPU, asked for when somebody looks."""

from collections.abc import Iterable
from dataclasses import dataclass

import psutil

from seawall.clock import SYSTEM


@dataclass(frozen=True, slots=True)
class Cost:
    """`memory` in bytes is a process's fair share of what it has in common with others (PSS),
    since forked replicas share most; where the system cannot tell, it is all (RSS). `cpu` is the
    share of one core since the last look, or since its start at the first."""

    memory: int
    cpu: float


class Meter:
    """Remembers what it looked at, so that a second look can tell the CPU used in between."""

    def __init__(self) -> None:
        self._seen: dict[int, psutil.Process] = {}

    def look(self, pids: Iterable[int]) -> dict[int, Cost]:
        """Blocks for about a millisecond a process. Those that are gone are left out."""
        wanted = set(pids)
        self._seen = {pid: process for pid, process in self._seen.items() if pid in wanted}
        costs = {}
        for pid in wanted:
            try:
                costs[pid] = self._look(pid)
            except psutil.Error:
                self._seen.pop(pid, None)
        return costs

    def _look(self, pid: int) -> Cost:
        process = self._seen.get(pid)
        if process is None:
            process = self._seen[pid] = psutil.Process(pid)
            process.cpu_percent()
            times = process.cpu_times()
            # Shorter ages make any start look like a full core.
            age = max(1.0, SYSTEM.wall() - process.create_time())
            cpu = (times.user + times.system) / age
        else:
            cpu = process.cpu_percent() / 100
        return Cost(fair_share(process), cpu)


def fair_share(process: psutil.Process) -> int:
    """Its memory in bytes, what it shares with others divided among them (PSS), where the system
    can tell; else all that it has (RSS). Raises `psutil.Error` if it has gone."""
    try:
        return int(process.memory_full_info().pss)
    except (psutil.Error, AttributeError):
        return int(process.memory_info().rss)
