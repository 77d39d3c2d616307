"""One place of a service: keeps a process in it, replaces what dies, and says what happens."""

import asyncio
import secrets
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import StrEnum
from random import Random

from seawall.clock import Clock
from seawall.concurrency.tasks import Tasks, running
from seawall.errors import NotSent
from seawall.facts import Observer
from seawall.runtime.asking import At
from seawall.runtime.probe import Health, Probe
from seawall.runtime.process import Exit, Process
from seawall.runtime.restart import Event, RestartConfig, Restarts, State, Verdict, step
from seawall.runtime.thresholds import Finding, ProbeConfig, Tally, on_beat
from seawall.topology import Address
from seawall.transport.tls import Secured

# Between two questions to a process that starts: a start takes some 100 ms, and its readiness
# should not be noticed much later than it is there.
_ASK_EVERY = 0.05  # seconds

# What does not live gets so long to end by itself before SIGKILL.
_HUNG_GRACE = 1.0  # seconds


_RESTARTS = RestartConfig()


class Kind(StrEnum):
    """What runs there."""

    SERVICE = "service"  # registers itself
    COMMAND = "command"  # knows nothing of the registry: the supervisor speaks for it
    GATEWAY = "gateway"
    SERVER = "server"  # the embedded Valkey


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """What is known of a replica before it runs."""

    service: str
    instance_id: str
    kind: Kind = Kind.SERVICE
    address: Address | None = None
    tls: Secured | None = None  # how it is asked there; None: in plain text
    version: str = "0.0.0"
    health_path: str = "/readyz"
    zone: str = ""
    priority: int = 0
    start_within: float = 30.0  # seconds to become ready
    grace: float = 10.0  # seconds between SIGTERM and SIGKILL
    linger: float = 0.0  # seconds between leaving the registry and SIGTERM
    startup: ProbeConfig | None = None
    readiness: ProbeConfig | None = None  # once it has been ready
    liveness: ProbeConfig | None = None
    restarts: RestartConfig = _RESTARTS
    gives_up: bool = False  # when it keeps dying; else it is tried for ever

    @property
    def at(self) -> At | None:
        return None if self.address is None else At(self.address, self.tls)


@dataclass(frozen=True, slots=True)
class ReplicaStarted:
    place: Place
    incarnation: str
    pid: int
    at: float


@dataclass(frozen=True, slots=True)
class ReplicaReady:
    place: Place
    incarnation: str
    pid: int
    after: float  # seconds since its start
    at: float


@dataclass(frozen=True, slots=True)
class ReplicaUnready:
    place: Place
    incarnation: str
    reason: str
    at: float


@dataclass(frozen=True, slots=True)
class ReplicaHung:
    """It does not live, as its liveness probe has it, and is ended."""

    place: Place
    incarnation: str
    reason: str
    at: float


@dataclass(frozen=True, slots=True)
class ReplicaStopping:
    place: Place
    incarnation: str
    at: float


@dataclass(frozen=True, slots=True)
class ReplicaDied:
    """It ended without having been asked to."""

    place: Place
    incarnation: str
    exit: Exit
    ran_for: float  # seconds
    was_ready: bool
    last_words: tuple[str, ...]
    verdict: Verdict
    at: float


@dataclass(frozen=True, slots=True)
class ReplicaGivenUp:
    """It kept dying, and is not started again until a person acts."""

    place: Place
    reason: str
    at: float


@dataclass(frozen=True, slots=True)
class SuccessorFailed:
    """It ended before it was ready; the one it was to follow goes on."""

    place: Place
    incarnation: str
    reason: str
    last_words: tuple[str, ...]
    at: float


@dataclass(frozen=True, slots=True)
class ReplicaStopped:
    place: Place
    incarnation: str
    exit: Exit
    at: float


@dataclass(frozen=True, slots=True)
class ReplicaSnapshot:
    """What `seawall ps` shows of it."""

    place: Place
    state: State
    incarnation: str
    pid: int | None
    age: float  # seconds
    restarts: int
    reason: str  # why it is not ready
    last_exit: str
    last_words: tuple[str, ...]
    next_start: float | None  # seconds


@dataclass(frozen=True, slots=True)
class Started:
    """A process and the questions to it: whether it is ready, has started, and lives."""

    process: Process
    probe: Probe
    startup: Probe | None = None
    liveness: Probe | None = None
    incarnation: str = ""  # of one that was started before, and goes on


Start = Callable[[Place, str], Awaitable[Started]]
"""Starts a process for that place under that incarnation; raises `NotSent`."""


class Replica:
    """Keeps the place filled from `run` until `stop`.

    With `after`, it is started beside that one, to follow it: until it has been ready once it is
    on trial, and `run` ends with the first process.
    """

    def __init__(
        self,
        place: Place,
        start: Start,
        *,
        observer: Observer,
        clock: Clock,
        rng: Random,
        after: "Replica | None" = None,
    ) -> None:
        self.place = place
        self.state = State.WAITING
        self.incarnation = ""
        self._start = start
        self._observer = observer
        self._clock = clock
        self._rng = rng
        self._on_trial = after is not None
        self._restarts = Restarts(place.restarts, after.restarts if after else 0)
        self._process: Process | None = None
        self._leaving = False
        self._again = self._hopeless = False
        self._poke = asyncio.Event()
        self._reason = ""
        self._last_exit = ""
        self._last_words: tuple[str, ...] = ()
        self._due: float | None = None
        self.launched = asyncio.Event()  # a first process was started, or could not be
        self.changed = asyncio.Event()  # set at each change of state; whoever waits clears it

    async def run(self) -> None:
        delay = 0.0
        while not self._leaving:
            await self._pause(delay)
            if not self._leaving:
                delay = await self._life()
            if self._hopeless and not self._leaving:
                await self._give_up()
                delay = 0.0
        if self.state in (State.WAITING, State.FAILED):
            self._move(Event.STOP)

    async def _give_up(self) -> None:
        """Return when a person acted."""
        rule = self.place.restarts
        self._hopeless = False
        self._reason = f"given up after {rule.intensity} deaths within {rule.period:g} s"
        self._poke.clear()
        self._move(Event.GIVEN_UP)
        self._observer(ReplicaGivenUp(self.place, self._reason, self._clock.now()))
        await self._poke.wait()
        if not self._leaving:
            self._move(Event.REVIVED)

    async def stop(self) -> None:
        """Ask it to go, and return when it has. `run` ends."""
        self._leaving = True
        self._poke.set()
        await self._end()

    async def restart(self) -> None:
        """Replace the process by a new one; return when the old one has ended."""
        self._restarts.forgive()
        self._again = True
        self._poke.set()
        await self._end()

    def kill(self) -> None:
        """SIGKILL to the process and all it started, now."""
        if self._process is not None:
            self._process.kill()

    @property
    def restarts(self) -> int:
        """How often it died on its own."""
        return self._restarts.total

    @property
    def leaving(self) -> bool:
        return self._leaving

    async def becomes(self, *states: State) -> None:
        """Return when it is in one of these states."""
        while self.state not in states:
            self.changed.clear()
            await self.changed.wait()

    async def _pause(self, seconds: float) -> None:
        self._due = self._clock.now() + seconds
        if seconds > 0:
            self._poke.clear()
            async with Tasks() as tasks:
                waiting = {
                    tasks.start(self._clock.sleep(seconds)),
                    tasks.start(self._poke.wait()),
                }
                await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        self._due = None

    async def _life(self) -> float:
        """One process, from its start to its end; the seconds until the next."""
        self.incarnation = secrets.token_hex(8)
        self._again = False
        self._reason = ""
        try:
            started = await self._start(self.place, self.incarnation)
        except NotSent as exc:
            self._move(Event.LAUNCHED)
            self.launched.set()
            return self._died(Exit(None), 0.0, (str(exc),))
        process = self._process = started.process
        self.incarnation = started.incarnation or self.incarnation
        self._move(Event.LAUNCHED)
        self.launched.set()
        now = self._clock.now()
        self._observer(ReplicaStarted(self.place, self.incarnation, process.pid, now))
        if self._leaving or self._again:  # asked to go while it was being started
            self._ask_to_go()
        async with running(self._attend(started)):
            ending = await process.wait()
        self._process = None
        return self._died(ending, process.age(), process.last_words)

    async def _attend(self, started: Started) -> None:
        """Ask whether it is ready until it is; then, where wanted, whether it still is; and all
        the while, once it has started, whether it lives."""
        if self.state is State.STOPPING:
            await started.process.stop(self.place.grace)
            return
        if not await self._has_started(started):
            return
        async with Tasks() as tasks:
            tasks.start(self._stays_alive(started))
            await self._await_ready(started)
            await self._stays_ready(started.probe)
            await tasks.join()

    async def _has_started(self, started: Started) -> bool:
        """Whether its startup probe passed; without one there is nothing to wait for."""
        config, probe = self.place.startup, started.startup
        if config is None or probe is None:
            return True
        tally = Tally(config)
        await self._clock.sleep(config.initial_delay)
        while self.state is State.STARTING:
            health = await probe()
            finding = tally.heard(health.ready)
            if finding is Finding.PASSED:
                return True
            self._reason = health.reason
            if finding is Finding.FAILED:
                self._reason = f"not started after {tally.failures} probes: {health.reason}"
                await started.process.stop(self.place.grace)
                return False
            await self._clock.sleep(tally.pause())
        return False

    async def _stays_alive(self, started: Started) -> None:
        """End it when its liveness probe has failed."""
        config, probe = self.place.liveness, started.liveness
        if config is None or probe is None:
            return
        tally = Tally(config)
        await self._clock.sleep(config.initial_delay)
        while True:
            health = await probe()
            if tally.heard(health.ready) is Finding.FAILED and self.state is not State.STOPPING:
                break
            await self._clock.sleep(on_beat(self._clock.now(), tally.pause()))
        self._reason = f"does not live: {health.reason}"
        now = self._clock.now()
        self._observer(ReplicaHung(self.place, self.incarnation, health.reason, now))
        # What does not turn its loop cannot drain either.
        await started.process.stop(min(self.place.grace, _HUNG_GRACE))

    async def _stays_ready(self, probe: Probe) -> None:
        config = self.place.readiness
        if config is None:
            return
        tally = Tally(config)
        while True:
            await self._clock.sleep(on_beat(self._clock.now(), tally.pause()))
            health = await probe()
            self._noted(health, tally.heard(health.ready))

    async def _await_ready(self, started: Started) -> None:
        config = self.place.readiness or ProbeConfig()
        tally = Tally(config)
        await self._clock.sleep(config.initial_delay)
        while True:
            health = await started.probe()
            if self.state is not State.STARTING:
                return
            if tally.heard(health.ready) is Finding.PASSED:
                self._ready()
                return
            self._reason = health.reason
            if started.process.age() > self.place.start_within:
                self._reason = f"not ready within {self.place.start_within:g} s: {health.reason}"
                await started.process.stop(self.place.grace)
                return
            await self._clock.sleep(_ASK_EVERY)

    def _ready(self) -> None:
        assert self._process is not None
        self._reason = ""
        self._on_trial = False
        self._move(Event.PASSED)
        after, now = self._process.age(), self._clock.now()
        pid = self._process.pid
        self._observer(ReplicaReady(self.place, self.incarnation, pid, after, now))

    def _noted(self, health: Health, finding: Finding | None) -> None:
        if self.state is State.READY and finding is Finding.FAILED:
            self._reason = health.reason
            self._move(Event.FAILED)
            now = self._clock.now()
            self._observer(ReplicaUnready(self.place, self.incarnation, health.reason, now))
        elif self.state is State.UNREADY and finding is Finding.PASSED:
            self._ready()

    async def _end(self) -> None:
        process = self._process
        if process is None or self.state is State.STOPPING:
            return
        self._ask_to_go()
        await self._clock.sleep(self.place.linger)
        await process.stop(self.place.grace)
        await self.becomes(State.STOPPED, State.STARTING)

    def _ask_to_go(self) -> None:
        self._move(Event.STOP)
        self._observer(ReplicaStopping(self.place, self.incarnation, self._clock.now()))

    def _died(self, ending: Exit, ran_for: float, last_words: tuple[str, ...]) -> float:
        was, now = self.state, self._clock.now()
        if was is State.STOPPING:
            self._move(Event.DIED)
            self._observer(ReplicaStopped(self.place, self.incarnation, ending, now))
            return 0.0
        why = f" ({self._reason})" if self._reason else ""
        self._last_exit, self._last_words = f"{ending}{why}", last_words
        if self._on_trial:
            self._leaving = True
            self._move(Event.DIED)
            failed = SuccessorFailed(self.place, self.incarnation, self._last_exit, last_words, now)
            self._observer(failed)
            return 0.0
        verdict = self._restarts.died(ran_for, now, self._rng)
        self._hopeless = verdict.looping and self.place.gives_up
        self._move(Event.DIED)
        ready = was in (State.READY, State.UNREADY)
        self._observer(
            ReplicaDied(
                self.place, self.incarnation, ending, ran_for, ready, last_words, verdict, now
            )
        )
        return verdict.delay

    def _move(self, event: Event) -> None:
        self.state = step(self.state, event)
        self.changed.set()

    def snapshot(self) -> ReplicaSnapshot:
        process, now = self._process, self._clock.now()
        return ReplicaSnapshot(
            place=self.place,
            state=self.state,
            incarnation=self.incarnation,
            pid=process.pid if process else None,
            age=process.age() if process else 0.0,
            restarts=self._restarts.total,
            reason=self._reason,
            last_exit=self._last_exit,
            last_words=self._last_words,
            next_start=max(0.0, self._due - now) if self._due is not None else None,
        )

    def __repr__(self) -> str:
        return f"<Replica {self.place.instance_id} {self.state} restarts={self._restarts.total}>"
