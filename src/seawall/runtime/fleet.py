"""The replicas of one service: how many there are, which goes, and in which order they change."""

import asyncio
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from random import Random

from seawall.clock import Clock
from seawall.concurrency.tasks import Tasks
from seawall.errors import Refused
from seawall.facts import Observer
from seawall.runtime.door import Door
from seawall.runtime.recipes import Recipe
from seawall.runtime.replica import Place, Replica, ReplicaSnapshot
from seawall.runtime.restart import State

# More processes than this on one machine is a slip of the finger.
MOST_REPLICAS = 200


def leaving(names: Sequence[str], count: int, busy: Mapping[str, int]) -> list[str]:
    """Which `count` of `names` go: the least busy, and of those the youngest number."""
    newest_first = list(reversed(names))
    return sorted(newest_first, key=lambda name: busy.get(name, 0))[:count]


@dataclass(frozen=True, slots=True)
class Reloaded:
    """One place of a reload. `failed` says why its successor did not become ready, or, if it
    `was_ready`, why it does not do; it is empty where all is well. `restored`: it runs the code
    from before again."""

    instance_id: str
    after: float  # seconds from its start until it was ready, or had failed
    failed: str = ""
    restored: bool = False
    last_words: tuple[str, ...] = ()
    was_ready: bool = False


Settled = Callable[[Place], Awaitable[str]]
"""Asked once a place has its successor: why that does not do, or nothing."""


@dataclass(frozen=True, slots=True)
class _Asleep:
    """The place of the last replica, kept for the next one."""

    number: int
    last: Replica  # it may still be leaving
    door: Door


@dataclass(frozen=True, slots=True)
class _Leaving:
    """One that was asked to go, and has its place until it has gone."""

    number: int
    gone: asyncio.Task[None]


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
        self._beside: set[Replica] = set()  # on trial, or drained for a successor
        self._leaving: dict[Replica, _Leaving] = {}
        self._asleep: _Asleep | None = None  # where the next replica comes to
        self._door: Door | None = None  # before which callers waited last

    @property
    def desired(self) -> int:
        return len(self._replicas)

    @property
    def replicas(self) -> tuple[Replica, ...]:
        """Those that are to be there, without what leaves."""
        return tuple(self._replicas[number] for number in sorted(self._replicas))

    def find(self, instance_id: str) -> Replica | None:
        everybody = (*self.replicas, *self._leaving)
        return next((r for r in everybody if r.place.instance_id == instance_id), None)

    def add(self) -> Replica:
        """One more. Raises `Misconfigured` if its address is taken."""
        if (asleep := self._asleep) is not None:
            self._asleep = None
            asleep.door.open()  # callers are told of the place until its replica is ready
            number, place = asleep.number, asleep.last.place
        else:
            taken = self._replicas.keys() | {leaving.number for leaving in self._leaving.values()}
            number = next(n for n in itertools.count(1) if n not in taken)
            place = self.recipe.place(number)
        replica = self._replicas[number] = self._replica(place)
        return replica

    def _replica(self, place: Place, after: Replica | None = None) -> Replica:
        return Replica(
            place,
            self.recipe.start,
            observer=self._observer,
            clock=self._clock,
            rng=self._rng,
            after=after,
        )

    def run(self) -> None:
        """Start what was added."""
        for number, replica in self._replicas.items():
            if number not in self._runs:
                self._runs[number] = self._run(replica)

    def _run(self, replica: Replica) -> asyncio.Task[None]:
        task = self._tasks.start(replica.run(), name=replica.place.instance_id)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[None]) -> None:
        # Whoever owns the tasks raises the error; the rest must not go on as if nothing were.
        if not task.cancelled() and task.exception() is not None:
            self._on_defect()

    @property
    def asleep(self) -> bool:
        """Whether nothing is to run, and a caller would wake it."""
        return self._asleep is not None

    async def scale(self, count: int, busy: Mapping[str, int], door: Door | None = None) -> None:
        """Have `count` replicas. Raises `Refused`, or `Misconfigured` as `add` does.

        Those that leave are asked to, and hold up nobody: `left` waits for them. Without any,
        callers wait before the `door`, if there is one.
        """
        if not 0 <= count <= MOST_REPLICAS:
            raise Refused(f"{self.name} can have 0 to {MOST_REPLICAS} replicas, not {count}")
        async with self._changing:
            await self._grow(count)
            self.run()
            names = [replica.place.instance_id for replica in self.replicas]
            gone = set(leaving(names, max(0, self.desired - count), busy))
            numbers = [n for n, r in self._replicas.items() if r.place.instance_id in gone]
            last = numbers.pop(0) if numbers and not count and door is not None else None
            for number in numbers:
                self._dismiss(number)
            if last is not None and door is not None:
                await self._sleep(last, door)
            elif not count and door is None:
                self._wake_no_more()

    async def left(self) -> None:
        """Return when those that leave now have left."""
        if self._leaving:
            await asyncio.wait([leaving.gone for leaving in self._leaving.values()])

    async def _grow(self, count: int) -> None:
        if self.desired < count and count + len(self._leaving) > MOST_REPLICAS:
            await self.left()
        while self.desired < count:
            if self.recipe.has_fixed_ports and self._asleep is None:
                await self.left()  # or the next port would be taken, which may be another's
            self.add()
            self.run()

    def _dismiss(self, number: int) -> None:
        """Ask it to go."""
        replica = self._replicas.pop(number)
        leave = self._leave(replica, self._runs.pop(number))
        gone = self._tasks.start(leave, name=f"{replica.place.instance_id} leaves")
        gone.add_done_callback(self._ended)
        self._leaving[replica] = _Leaving(number, gone)

    async def _leave(self, replica: Replica, run: asyncio.Task[None]) -> None:
        await replica.stop()
        await asyncio.wait([run])
        del self._leaving[replica]
        place, asleep = replica.place, self._asleep
        if asleep is not None and asleep.last is replica:
            listener = self.recipe.door(place)
            assert listener is not None  # else it would not have one to sleep behind
            asleep.door.watch(place, listener)
        elif not self._has_another(place):
            self._left(place)

    def _has_another(self, place: Place) -> bool:
        """Somebody came while it left, to where callers were told to come."""
        others = [*self._replicas.values(), *self._leaving]
        others += [] if self._asleep is None else [self._asleep.last]
        return any(other.place.instance_id == place.instance_id for other in others)

    def _left(self, place: Place) -> None:
        if self._door is not None:
            self._door.close(place)
        self.recipe.leave(place)

    async def _sleep(self, number: int, door: Door) -> None:
        """Have the last one leave, and its place kept for who comes."""
        replica = self._replicas[number]
        if self.recipe.door(replica.place) is not None:
            self._door = door
            await door.show(replica.place)
            self._asleep = _Asleep(number, replica, door)
        self._dismiss(number)

    def _wake_no_more(self) -> None:
        asleep, self._asleep = self._asleep, None
        if asleep is not None and asleep.last not in self._leaving:
            self._left(asleep.last.place)

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
                    if not await ready_again(replica, before):
                        return [replica.place.instance_id]
        return []

    async def reload(self, settled: Settled | None = None) -> AsyncIterator[Reloaded]:
        """Replace the processes one after another, each only once its successor is ready beside
        it: nobody is ever missing.

        Where a successor does not become ready the one before goes on, and those that were
        replaced already are put back to the code from before, where that is still at hand; so are
        all where `settled` finds that one does not do. Tells
        of each place as it is done, and goes on to its end when nobody listens any more. Raises
        `Refused` where two cannot be in a place at a time.
        """
        # At most two steps for each place.
        steps: asyncio.Queue[Reloaded | Refused | None] = asyncio.Queue(2 * MOST_REPLICAS + 1)
        self._tasks.start(self._reload(steps.put_nowait, settled), name=f"reload {self.name}")
        while (step := await steps.get()) is not None:
            if isinstance(step, Refused):
                raise step
            yield step

    async def replace(self, instance_id: str) -> None:
        """Have another process for that instance: beside the one that is there if it can be, else
        after it. One that does not become ready leaves the one before where it is."""
        async with self._changing:
            for number, replica in tuple(self._replicas.items()):
                if replica.place.instance_id == instance_id:
                    try:
                        await self._succeed(number)
                    except Refused:
                        await replica.restart()

    async def _reload(
        self, tell: Callable[[Reloaded | Refused | None], None], settled: Settled | None
    ) -> None:
        async with self._changing:
            try:
                await self._succeed_all(tell, settled)
            except Refused as refused:
                tell(refused)
        tell(None)

    async def _succeed_all(self, tell: Callable[[Reloaded], None], settled: Settled | None) -> None:
        self.recipe.renew()
        done = []
        for number in sorted(self._replicas):
            told = await self._succeed(number)
            if not told.failed:
                done.append(number)
                if settled is not None and (why := await settled(self._replicas[number].place)):
                    told = replace(told, failed=why, was_ready=True)
            tell(told)
            if told.failed:
                break
        else:
            return
        if self.recipe.restore():
            for number in done:
                tell(replace(await self._succeed(number), restored=True))

    async def _succeed(self, number: int) -> Reloaded:
        """Have another process in that place, and return when the one before is gone."""
        before = self._replicas.get(number)
        if before is None or before.leaving:
            return Reloaded(f"{self.name}-{number}", 0.0, "was stopped")
        began = self._clock.now()
        successor = self._replica(self.recipe.successor(before.place), before)
        self._beside.add(successor)
        run = self._run(successor)
        await successor.becomes(State.READY, State.STOPPED)
        after = self._clock.now() - began
        name = before.place.instance_id
        if successor.leaving:
            await asyncio.wait([run])
            self._beside.discard(successor)
            self._abandon(successor.place, kept=before.place)
            told = successor.snapshot()
            return Reloaded(name, after, told.last_exit or "was stopped", False, told.last_words)
        self._replicas[number] = successor
        self._beside.discard(successor)
        self._beside.add(before)
        ended, self._runs[number] = self._runs[number], run
        await before.stop()
        await asyncio.wait([ended])
        self._beside.discard(before)
        self._abandon(before.place, kept=successor.place)
        return Reloaded(name, after)

    def _abandon(self, place: Place, *, kept: Place) -> None:
        if place.address != kept.address:
            self.recipe.leave(place)

    async def ready(self) -> None:
        """Return when every replica is ready, or has left: what scales itself may not wait."""
        for replica in self.replicas:
            await replica.becomes(State.READY, State.STOPPED)

    async def stop(self) -> None:
        """Stop all of them, at the same time."""
        self._wake_no_more()
        everybody = (*self.replicas, *self._beside)
        await asyncio.gather(self.left(), *(replica.stop() for replica in everybody))
        if self._runs:
            await asyncio.wait(self._runs.values())
        for replica in self.replicas:
            self._left(replica.place)
        self._replicas.clear()
        self._runs.clear()

    def kill(self) -> None:
        for replica in (*self.replicas, *self._beside, *self._leaving):
            replica.kill()

    def snapshot(self) -> tuple[ReplicaSnapshot, ...]:
        """Of all that have a place, those that leave last."""
        return tuple(replica.snapshot() for replica in (*self.replicas, *self._leaving))

    def __repr__(self) -> str:
        ready = sum(replica.state is State.READY for replica in self.replicas)
        return f"<Fleet {self.name} {ready}/{self.desired} ready>"


async def ready_again(replica: Replica, restarts: int) -> bool:
    """Whether the new process gets ready before it dies for the `restarts + 1`st time."""
    while True:
        await replica.becomes(State.READY, State.WAITING, State.STOPPED, State.FAILED)
        if replica.state is State.READY:
            return True
        if replica.restarts > restarts or replica.leaving:
            return False
        await replica.becomes(State.STARTING, State.READY)
