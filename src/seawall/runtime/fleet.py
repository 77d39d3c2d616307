"""The replicas of one service: how many there are, which goes, and in which order they change."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from random import Random

from seawall.clock import Clock
from seawall.concurrency.tasks import Tasks
from seawall.errors import Refused
from seawall.facts import Observer
from seawall.runtime.recipes import Recipe
from seawall.runtime.replica import Replica, ReplicaSnapshot
from seawall.runtime.restart import State

# More processes than this on one machine is a slip of the finger.
MOST_REPLICAS = 200


def leaving(names: Sequence[str], count: int, busy: Mapping[str, int]) -> list[str]:
    """Which `count` of `names` go: the least busy, and of those the youngest number."""
    newest_first = list(reversed(names))
    return sorted(newest_first, key=lambda name: busy.get(name, 0))[:count]


class Fleet:
    """Holds `desired` replicas of one service, from `start` until `stop`."""

    def __init__(
        self,
        name: str,
        recipe: Recipe,
        tasks: Tasks,
        *,
        observer: Observer,
        clock: Clock,
        rng: Random,
        on_defect: Callable[[], None],
    ) -> None:
        self.name = name
        self.recipe = recipe
        self._tasks = tasks
        self._observer = observer
        self._clock = clock
        self._rng = rng
        self._on_defect = on_defect
        self._replicas: dict[int, Replica] = {}
        self._changing = asyncio.Lock()
        self._runs: dict[int, asyncio.Task[None]] = {}

    @property
    def desired(self) -> int:
        return len(self._replicas)

    @property
    def replicas(self) -> tuple[Replica, ...]:
        return tuple(self._replicas[number] for number in sorted(self._replicas))

    def find(self, instance_id: str) -> Replica | None:
        return next((r for r in self.replicas if r.place.instance_id == instance_id), None)

    def add(self) -> Replica:
        """One more. Raises `Misconfigured` if its address is taken."""
        number = next(n for n in range(1, MOST_REPLICAS + 2) if n not in self._replicas)
        replica = Replica(
            self.recipe.place(number),
            self.recipe.start,
            observer=self._observer,
            clock=self._clock,
            rng=self._rng,
        )
        self._replicas[number] = replica
        return replica

    def run(self) -> None:
        """Start what was added."""
        for number, replica in self._replicas.items():
            if number not in self._runs:
                task = self._tasks.start(replica.run(), name=replica.place.instance_id)
                task.add_done_callback(self._ended)
                self._runs[number] = task

    def _ended(self, task: asyncio.Task[None]) -> None:
        # Whoever owns the tasks raises the error; the rest must not go on as if nothing were.
        if not task.cancelled() and task.exception() is not None:
            self._on_defect()

    async def scale(self, count: int, busy: Mapping[str, int]) -> None:
        """Have `count` replicas; returns when those that leave have left. Raises `Refused`."""
        if not 0 <= count <= MOST_REPLICAS:
            raise Refused(f"{self.name} can have 0 to {MOST_REPLICAS} replicas, not {count}")
        async with self._changing:
            for _ in range(count - self.desired):
                self.add()
            self.run()
            names = [replica.place.instance_id for replica in self.replicas]
            gone = set(leaving(names, max(0, self.desired - count), busy))
            numbers = [n for n, r in self._replicas.items() if r.place.instance_id in gone]
            await asyncio.gather(*(self._remove(number) for number in numbers))

    async def _remove(self, number: int) -> None:
        replica = self._replicas[number]
        await replica.stop()
        await asyncio.wait([self._runs.pop(number)])
        del self._replicas[number]
        self.recipe.leave(replica.place)

    async def restart(self, instance_id: str | None = None) -> list[str]:
        """Replace the processes one after another, each when the one before is ready again.

        Returns the instances that did not become ready; the rest is then left as it is.
        """
        async with self._changing:
            self.recipe.renew()
            for replica in self.replicas:
                if instance_id in (None, replica.place.instance_id):
                    before = replica.restarts
                    await replica.restart()
                    if not await _ready_again(replica, before):
                        return [replica.place.instance_id]
        return []

    async def ready(self) -> None:
        """Return when every replica is ready."""
        for replica in self.replicas:
            await replica.becomes(State.READY)

    async def stop(self) -> None:
        """Stop all of them, at the same time."""
        await asyncio.gather(*(replica.stop() for replica in self.replicas))
        if self._runs:
            await asyncio.wait(self._runs.values())
        for replica in self.replicas:
            self.recipe.leave(replica.place)
        self._replicas.clear()
        self._runs.clear()

    def kill(self) -> None:
        for replica in self.replicas:
            replica.kill()

    def snapshot(self) -> tuple[ReplicaSnapshot, ...]:
        return tuple(replica.snapshot() for replica in self.replicas)

    def __repr__(self) -> str:
        ready = sum(replica.state is State.READY for replica in self.replicas)
        return f"<Fleet {self.name} {ready}/{self.desired} ready>"


async def _ready_again(replica: Replica, restarts: int) -> bool:
    """Whether the new process gets ready before it dies."""
    while True:
        await replica.becomes(State.READY, State.WAITING, State.STOPPED)
        if replica.state is State.READY:
            return True
        if replica.restarts > restarts or replica.leaving:
            return False
        await replica.becomes(State.STARTING, State.READY)
