"""Heartbeats from a thread of their own, so that a busy event loop keeps its lease.

The thread has its own event loop and its own connection. It touches the main loop in one way
only: by `call_soon_threadsafe`, which never waits. How late the main loop answers that is the
loop lag in the record: a stuck instance stays registered and is seen to be stuck.
"""

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from random import Random
from typing import Self

from seawall.clock import SYSTEM, Clock
from seawall.concurrency.tasks import Tasks
from seawall.errors import Misconfigured, Unavailable
from seawall.facts import Observer, ignore
from seawall.registry.base import DEFAULT_TTL, Registry
from seawall.registry.connect import open_registry
from seawall.registry.lease import follows
from seawall.resilience.backoff import full_jitter
from seawall.topology import Instance, InstanceState

# How often the main loop is asked whether it still turns. A callback twice a second costs it
# about 0.001 % of a core.
ASK_EVERY = 0.5  # seconds

# The first wait after a missed beat; the waits grow to the time between beats.
RETRY_BASE = 0.05  # seconds

# How long `stop` waits for the thread beyond the time it was given to deregister in.
ENDING = 0.5  # seconds


@dataclass(frozen=True, slots=True)
class HeartbeatLost:
    """The registry cannot be told that this instance lives; the beats go on trying."""

    instance_id: str
    reason: str
    at: float


@dataclass(frozen=True, slots=True)
class HeartbeatRestored:
    """The registry has this instance's record again."""

    instance_id: str
    away: float  # seconds without a beat that counted
    at: float


@dataclass(frozen=True, slots=True)
class PlaceTaken:
    """Another process, started later, holds this instance's place; ours is not listed."""

    instance_id: str
    incarnation: str  # ours, that is no longer listed
    at: float


@dataclass(frozen=True, slots=True)
class HeartbeatSnapshot:
    state: InstanceState
    beats: int  # that counted
    missed: int
    answered: bool  # the registry has taken us or not, or did not hear us; else it is being asked
    loop_lag: float  # seconds, at the last beat


class LoopLag:
    """How late an event loop answers, measured from another thread."""

    def __init__(self, loop: asyncio.AbstractEventLoop, clock: Clock) -> None:
        self._loop = loop
        self._clock = clock
        self._lock = threading.Lock()  # held for a few instructions, so the loop never waits
        self._asked: float | None = None
        self._worst = 0.0

    def ask(self) -> None:
        """Ask, unless an answer is still due. Raises `RuntimeError` when the loop is closed."""
        with self._lock:
            if self._asked is not None and not self._loop.is_closed():
                return
            self._asked = self._clock.now()
        self._loop.call_soon_threadsafe(self._answer)

    def _answer(self) -> None:
        with self._lock:
            if self._asked is not None:
                self._worst = max(self._worst, self._clock.now() - self._asked)
            self._asked = None

    def take(self) -> float:
        """The worst lag since this was called last, in seconds; an answer still due counts."""
        with self._lock:
            due = 0.0 if self._asked is None else self._clock.now() - self._asked
            worst, self._worst = max(self._worst, due), 0.0
        return worst


class Heartbeat:
    """Keeps `instance` registered at `url` from `start` to `stop`, or for the block.

    A beat is the whole record, at a third of `ttl` or a little sooner, and at once after `move`.
    Outages of the registry are survived and reported as facts; the observer is called on the
    loop that started this. `in_flight` is called from the thread, and should only read.
    """

    def __init__(
        self,
        url: str,
        instance: Instance,
        *,
        ttl: float = DEFAULT_TTL,
        in_flight: Callable[[], int] = lambda: 0,
        observer: Observer = ignore,
        opener: Callable[[str], Registry] = open_registry,
        clock: Clock = SYSTEM,
    ) -> None:
        if ttl <= 0:
            raise Misconfigured(f"ttl is in seconds above 0, not {ttl}")
        self._instance = instance
        self._ttl = ttl
        self._in_flight = in_flight
        self._observer = observer
        self._registry = opener(url)
        self._clock = clock
        self._rng = Random()
        self._beats = self._missed = 0
        self._lag_sent = 0.0
        self._lost_at: float | None = None
        self._taken = False
        self._stopping = False
        self._leave_within = ENDING  # where the main loop closed without asking us to stop
        self._own: asyncio.AbstractEventLoop | None = None  # the thread's loop, while it runs
        self._woken = asyncio.Event()  # this and the next: used on the thread's loop only
        self._ended = asyncio.Event()
        self._main: asyncio.AbstractEventLoop | None = None
        self._finished: asyncio.Future[None] | None = None

    async def start(self) -> None:
        """Start the thread and return at once; the first beat is under way. Only once."""
        self._main = asyncio.get_running_loop()
        self._finished = self._main.create_future()
        # A daemon, so that an exit that forgot to stop it is not held up.
        threading.Thread(target=self._live, name="seawall heartbeat", daemon=True).start()

    def move(self, state: InstanceState) -> None:
        """Change the state and send it at once. From any thread; never waits.

        States only move forward: one that lies behind (ready, when draining has begun) is
        ignored.
        """
        moved = self._instance.moved(state)
        if follows(moved, self._instance):
            self._instance = moved
            self._signal(self._woken)

    async def stop(self, within: float = 2.0) -> None:
        """Deregister and end the thread; give up on the registry after `within` seconds.

        A lease that could not be removed runs out by itself. Calling it twice is fine. An error
        that ended the thread earlier is raised here.
        """
        if self._finished is None:
            return
        self._leave_within = within
        self._stopping = True
        self._signal(self._ended)
        with suppress(TimeoutError):
            async with asyncio.timeout(within + ENDING):
                await asyncio.shield(self._finished)

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    def snapshot(self) -> HeartbeatSnapshot:
        answered = bool(self._beats or self._missed or self._taken)
        return HeartbeatSnapshot(
            self._instance.state, self._beats, self._missed, answered, self._lag_sent
        )

    def _signal(self, event: asyncio.Event) -> None:
        if (own := self._own) is not None:
            with suppress(RuntimeError):  # the thread has just ended
                own.call_soon_threadsafe(event.set)

    # What follows runs in the thread.

    def _live(self) -> None:
        failure: BaseException | None = None
        try:
            asyncio.run(self._life())
        except BaseException as error:  # noqa: BLE001 - handed to whoever stops us
            failure = error
        finally:
            self._own = None
            self._on_main(self._finish, failure)

    def _finish(self, failure: BaseException | None) -> None:
        assert self._finished is not None
        if failure is None:
            self._finished.set_result(None)
        else:
            self._finished.set_exception(failure)

    def _on_main(self, call: Callable[..., object], *arguments: object) -> None:
        assert self._main is not None
        with suppress(RuntimeError):  # the main loop is closed: nobody is left to tell
            self._main.call_soon_threadsafe(call, *arguments)

    async def _life(self) -> None:
        assert self._main is not None
        lag = LoopLag(self._main, self._clock)
        self._own = asyncio.get_running_loop()
        if self._stopping:  # asked before there was a loop to tell
            self._ended.set()
        try:
            async with Tasks() as tasks:
                sides = (self._beat_on(lag), self._ask_on(lag), self._ended.wait())
                await asyncio.wait(
                    [tasks.start(side) for side in sides], return_when=asyncio.FIRST_COMPLETED
                )
            # A beat that is still on its way is refused when it arrives after this.
            await self._leave()
        finally:
            await self._registry.aclose()

    async def _ask_on(self, lag: LoopLag) -> None:
        """Return when the main loop is closed: then this process is ending, and so do we."""
        with suppress(RuntimeError):
            while True:
                lag.ask()
                await self._clock.sleep(ASK_EVERY)

    async def _beat_on(self, lag: LoopLag) -> None:
        every = self._ttl / 3
        waits = full_jitter(RETRY_BASE, every, self._rng)
        while True:
            self._woken.clear()
            if await self._beat(lag):
                waits = full_jitter(RETRY_BASE, every, self._rng)
                wait = every * self._rng.uniform(0.8, 1.0)
            else:
                wait = next(waits)
            with suppress(TimeoutError):
                async with asyncio.timeout(wait):
                    await self._woken.wait()

    async def _beat(self, lag: LoopLag) -> bool:
        """Send one beat; True if it arrived."""
        self._lag_sent = lag.take()
        record = replace(
            self._instance, loop_lag=round(self._lag_sent, 4), in_flight=self._in_flight()
        )
        try:
            counted = await self._registry.renew(record, self._ttl)
        except Unavailable as unavailable:
            self._not_heard(str(unavailable))
            return False
        self._heard(counted)
        return True

    def _not_heard(self, reason: str) -> None:
        self._missed += 1
        if self._lost_at is None:
            self._lost_at = self._clock.now()
            self._tell(HeartbeatLost(self._instance.instance_id, reason, self._lost_at))

    def _heard(self, counted: bool) -> None:
        now = self._clock.now()
        if self._lost_at is not None:
            self._tell(HeartbeatRestored(self._instance.instance_id, now - self._lost_at, now))
            self._lost_at = None
        self._beats += counted
        if not counted and not self._taken:
            self._tell(PlaceTaken(self._instance.instance_id, self._instance.incarnation, now))
        self._taken = not counted

    def _tell(self, fact: object) -> None:
        self._on_main(self._observer, fact)

    async def _leave(self) -> None:
        with suppress(Unavailable, TimeoutError):  # the lease runs out by itself
            async with asyncio.timeout(self._leave_within):
                await self._registry.deregister(self._instance)

    def __repr__(self) -> str:
        return f"<Heartbeat {self._instance!r} {self._beats} beats, {self._missed} missed>"
