"""A local view of the registry that is pushed to, checked by reading, and outlives outages."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, replace
from random import Random
from types import TracebackType
from typing import Self

from seawall.clock import SYSTEM, Clock
from seawall.concurrency.tasks import Tasks
from seawall.errors import Misconfigured, NoInstance, Unavailable
from seawall.facts import Observer, ignore
from seawall.registry.base import DEFAULT_TTL, Registry
from seawall.registry.view import View as View
from seawall.registry.view import changed, refreshed
from seawall.resilience.backoff import full_jitter
from seawall.topology import ANY, Constraint, Instance, resolve

# Distinct questions whose answers are kept until the view changes: services x constraints of
# one process, far fewer. When full, all are forgotten.
MAX_ANSWERS = 1024


@dataclass(frozen=True, slots=True)
class WatchLost:
    """The registry cannot be heard; the last view is used from here on, and marked stale."""

    reason: str
    at: float


@dataclass(frozen=True, slots=True)
class WatchRestored:
    """The registry is heard and was read again."""

    away: float  # seconds since it was lost
    at: float


@dataclass(frozen=True, slots=True)
class InstancesSuspected:
    """Instances vanished together from the registry, and are believed for one more lease."""

    instance_ids: tuple[str, ...]
    at: float


@dataclass(frozen=True, kw_only=True, slots=True)
class WatcherConfig:
    """How a watcher keeps its view."""

    reread: float = 5.0  # seconds between full readings: half a lease
    lease: float = DEFAULT_TTL  # seconds a suspect is believed
    first_within: float = 3.0  # seconds to wait at the start: more than one call may take
    retry_base: float = 0.05  # seconds; the first wait before asking a lost registry again
    retry_cap: float = 2.0  # seconds; below a lease, so that nobody is lost for waiting

    def __post_init__(self) -> None:
        if self.reread <= 0 or self.lease <= 0 or self.retry_base <= 0:
            raise Misconfigured("reread, lease and retry_base are seconds above 0")


class Watcher:
    """Watches `registry` for as long as its block is open.

    Entering waits for the first reading, or the first failure to read, and never longer than
    `first_within`: with the registry down the view is empty and stale, and fills by itself. The
    registry stays the caller's to close.
    """

    def __init__(
        self,
        registry: Registry,
        *,
        observer: Observer = ignore,
        clock: Clock = SYSTEM,
        rng: Random | None = None,
        config: WatcherConfig | None = None,
    ) -> None:
        self._registry = registry
        self._observer = observer
        self._clock = clock
        self._rng = rng or Random()
        self._config = config or WatcherConfig()
        self._view = View()
        self._lost_at: float | None = None
        self._tried = asyncio.Event()
        self._tasks = Tasks()
        self._callbacks: list[Callable[[View], None]] = []
        self._answers: dict[tuple[str, str], tuple[Instance, ...]] = {}

    @property
    def view(self) -> View:
        return self._view

    def resolve(self, service: str, constraint: Constraint = ANY) -> tuple[Instance, ...]:
        """The ready instances of `service` in an allowed version.

        Raises `NoInstance` when there is none, naming the versions seen, or that the registry
        cannot be heard.
        """
        question = (service, constraint.text)
        answer = self._answers.get(question)
        if answer is None:
            answer = self._answer(service, constraint)
            if len(self._answers) >= MAX_ANSWERS:
                self._answers.clear()
            self._answers[question] = answer
        return answer

    def _answer(self, service: str, constraint: Constraint) -> tuple[Instance, ...]:
        try:
            return resolve(self._view.instances, service, constraint)
        except NoInstance as none:
            if self._view.stale:
                raise NoInstance(f"{none} (the registry cannot be reached)") from none
            raise

    def subscribe(self, callback: Callable[[View], None]) -> Callable[[], None]:
        """Call back with the view now, and on the loop whenever it has changed.

        Returns what ends it. A callback that raises is reported by the loop and called again.
        """
        self._callbacks.append(callback)
        callback(self._view)

        def unsubscribe() -> None:
            if callback in self._callbacks:
                self._callbacks.remove(callback)

        return unsubscribe

    async def __aenter__(self) -> Self:
        await self._tasks.__aenter__()
        self._tasks.start(self._watch(), name="registry watcher")
        try:
            async with asyncio.timeout(self._config.first_within):
                await self._tried.wait()
        except TimeoutError:
            self._lost("no answer yet")
        except BaseException:
            await self._tasks.cancel()
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._callbacks.clear()
        await self._tasks.__aexit__(kind, error, traceback)

    async def _watch(self) -> None:
        try:
            await self._keep_watching()
        finally:
            self._show(replace(self._view, stale=True))

    async def _keep_watching(self) -> None:
        waits = self._waits()
        while True:
            try:
                # First subscribe, then read: what changes in between is in the stream.
                async with self._registry.changes() as changes:
                    await self._read()
                    waits = self._waits()
                    await self._follow(changes)
            except Unavailable as unavailable:
                self._lost(str(unavailable))
            await self._clock.sleep(next(waits))

    async def _follow(self, changes: AsyncIterator[Instance]) -> None:
        """Apply changes and read again now and then, until either fails."""
        async with Tasks() as tasks:
            sides = [tasks.start(self._apply(changes)), tasks.start(self._reread())]
            await asyncio.wait(sides, return_when=asyncio.FIRST_COMPLETED)

    async def _apply(self, changes: AsyncIterator[Instance]) -> None:
        async for change in changes:
            self._show(changed(self._view, change))
        raise Unavailable("the registry ended its stream of changes")

    async def _reread(self) -> None:
        while True:
            await self._clock.sleep(self._config.reread * self._rng.uniform(0.8, 1.2))
            await self._read()

    async def _read(self) -> None:
        reading = await self._registry.read()
        now = self._clock.now()
        before = self._view
        view = refreshed(before, reading, now, lease=self._config.lease)
        self._show(view)
        self._tried.set()
        if self._lost_at is not None:
            self._observer(WatchRestored(away=now - self._lost_at, at=now))
            self._lost_at = None
        if new := view.suspects.keys() - before.suspects.keys():
            self._observer(InstancesSuspected(tuple(sorted(s.instance_id for s in new)), now))

    def _lost(self, reason: str) -> None:
        self._tried.set()
        if self._lost_at is None:
            self._lost_at = self._clock.now()
            self._observer(WatchLost(reason, self._lost_at))
        self._show(replace(self._view, stale=True))

    def _show(self, view: View) -> None:
        before, self._view = self._view, view
        if (view.instances, view.stale, view.suspects) == (
            *(before.instances, before.stale),
            before.suspects,
        ):
            return
        self._answers.clear()
        for callback in self._callbacks:
            asyncio.get_running_loop().call_soon(self._tell, callback)

    def _tell(self, callback: Callable[[View], None]) -> None:
        if callback in self._callbacks:  # it may have unsubscribed since
            callback(self._view)

    def _waits(self) -> Iterator[float]:
        return full_jitter(self._config.retry_base, self._config.retry_cap, self._rng)

    def __repr__(self) -> str:
        return f"<Watcher {self._view!r}>"
