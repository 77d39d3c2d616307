"""A command as a service where no supervisor is: it runs, and is listed while it answers.

A program that knows nothing of the registry needs somebody who holds its lease. On a machine
that is the supervisor; in a container it is this process, and the program its child.
"""

import asyncio
import contextlib
import logging
import os
import secrets
import signal
from collections.abc import Sequence
from dataclasses import dataclass

from seawall.clock import SYSTEM, Clock
from seawall.concurrency.tasks import Tasks
from seawall.errors import Misconfigured
from seawall.identity.credentials import Credentials
from seawall.registry.heartbeat import Heartbeat, HeartbeatLost, HeartbeatRestored, PlaceTaken
from seawall.runtime.asking import At
from seawall.runtime.probe import http_probe, tcp_probe
from seawall.runtime.thresholds import Finding, ProbeConfig, Tally
from seawall.service.address import reachable
from seawall.service.settings import Settings
from seawall.topology import Address, Instance, InstanceState, parse_version, service_name

log = logging.getLogger("seawall.attending")

# As the supervisor looks at its replicas: one answer that stays away may be chance, two are not.
_LOOK = ProbeConfig(period=2.0, failure_threshold=2, again=0.5)

# While it starts, since callers wait for it.
_LOOK_SOON = 0.2  # seconds

# An answer that takes longer is none.
_ANSWER_WITHIN = 2.0  # seconds

# What is asked of a registry that may be gone.
_LEAVE_WITHIN = 2.0  # seconds

_NOT_FOUND = 127  # the status that a shell has for a command that is not there


@dataclass(frozen=True, kw_only=True, slots=True)
class Attended:
    """What runs, and as whom. `health` is a path that answers 200; "": a connection is tried."""

    name: str
    version: str
    command: Sequence[str]
    health: str

    def __post_init__(self) -> None:
        service_name(self.name)
        parse_version(self.version)
        if self.health and not self.health.startswith("/"):
            raise Misconfigured(f"the health path {self.health!r} does not begin with /")


def where(name: str, settings: Settings) -> Address:
    """Where others reach it; raises `Misconfigured` if nothing says on which port it listens."""
    if settings.address is None:
        raise Misconfigured(
            f"nobody knows where {name} listens", fix=f"PORT=8080 seawall register {name} …"
        )
    return reachable(settings.address)


async def attend(what: Attended, at: Address, settings: Settings, clock: Clock = SYSTEM) -> int:
    """Run it until it ends or a signal ends it; the exit status is its own.

    SIGTERM and SIGINT: callers are told first, and the command is when they have heard; what it
    does not end within the drain is killed. A second signal kills it at once.
    """
    return await _Attendance(what, at, settings, clock).run()


class _Attendance:
    """One run of one command."""

    def __init__(self, what: Attended, address: Address, settings: Settings, clock: Clock) -> None:
        self._what = what
        self._settings = settings
        self._address = address
        self._clock = clock
        self._credentials = None if settings.tls is None else Credentials(settings.tls)
        self._listed: Heartbeat | None = None
        self._signals = 0
        self._signalled = asyncio.Event()

    async def run(self) -> int:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._signal)
        command = self._what.command
        try:
            # A group of its own: Ctrl-C is ours to handle, and what it started ends with it.
            child = await asyncio.create_subprocess_exec(*command, start_new_session=True)
        except OSError as exc:
            log.error("cannot run %s: %s", command[0], exc.strerror)
            return _NOT_FOUND
        try:
            async with Tasks() as tasks:
                ended = tasks.start(child.wait(), name="child")
                meanwhile = [
                    tasks.start(self._look(), name="look"),
                    tasks.start(self._stop(child), name="stop"),
                ]
                if self._credentials is not None:
                    meanwhile.append(tasks.start(self._credentials.follow(), name="certificate"))
                await asyncio.wait([ended])
                for task in meanwhile:
                    task.cancel()
        finally:
            _kill(child)
            await self._leave("")
        return self._status(child.returncode)

    def _status(self, returned: int | None) -> int:
        assert returned is not None
        if self._signals and returned == -signal.SIGTERM:
            return 0  # as it was told to
        return returned if returned >= 0 else 128 - returned

    def _signal(self) -> None:
        self._signals += 1
        self._signalled.set()

    async def _stop(self, child: asyncio.subprocess.Process) -> None:
        await self._signalled.wait()
        until = self._clock.now() + self._settings.drain
        if self._listed is not None:
            self._listed.move(InstanceState.DRAINING)
            await self._or_again(min(self._settings.propagation, self._settings.drain))
        child.terminate()
        await self._or_again(max(0.0, until - self._clock.now()))
        _kill(child)

    async def _or_again(self, seconds: float) -> None:
        """Wait, unless a second signal says not to."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while self._signals < 2:
                    self._signalled.clear()
                    await self._signalled.wait()

    # being listed

    async def _look(self) -> None:
        """Have it listed while it answers, until cancelled."""
        what, tally = self._what, Tally(_LOOK)
        tls = None if self._credentials is None else self._credentials.towards(what.name)
        ask = (
            http_probe(At(self._address, tls), what.health, _ANSWER_WITHIN)
            if what.health
            else tcp_probe(self._address, _ANSWER_WITHIN)
        )
        while True:
            answer = await ask()
            found = tally.heard(answer.ready)
            if found is Finding.PASSED and self._listed is None and not self._signals:
                await self._enter()
            elif found is Finding.FAILED and self._listed is not None:
                await self._leave(answer.reason)
            await self._clock.sleep(_LOOK_SOON if self._listed is None else tally.pause())

    async def _enter(self) -> None:
        what, settings = self._what, self._settings
        instance = Instance(
            service=what.name,
            version=what.version,
            instance_id=settings.instance_of(what.name),
            # To deregister is final for an incarnation, and it may come back.
            incarnation=secrets.token_hex(8),
            address=self._address,
            state=InstanceState.READY,
            health_path=what.health,
            started_at=self._clock.wall(),
            zone=settings.zone,
            priority=settings.priority,
        )
        self._listed = Heartbeat(settings.registry_url, instance, observer=_tell)
        await self._listed.start()
        log.info("%s answers at %s, and is listed", what.name, self._address)

    async def _leave(self, reason: str) -> None:
        listed, self._listed = self._listed, None
        if listed is None:
            return
        if reason:
            log.warning("%s is listed no more: %s", self._what.name, reason)
        await listed.stop(_LEAVE_WITHIN)


def _kill(child: asyncio.subprocess.Process) -> None:
    """SIGKILL to it and to all it started."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(child.pid, signal.SIGKILL)


def _tell(fact: object) -> None:
    match fact:
        case HeartbeatLost(reason=reason):
            log.warning("the registry cannot be told that it lives: %s", reason)
        case HeartbeatRestored(away=away):
            log.info("the registry knows it again, after %.1f s", away)
        case PlaceTaken(instance_id=instance):
            log.error("another process is listed as %s, and this one is not", instance)
