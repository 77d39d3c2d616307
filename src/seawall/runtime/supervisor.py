"""Makes what is equal to what should be: starts the processes of a project and keeps them.

Everything starts at the same time and waits for nobody, so services that need each other cannot
block a start; each is reported ready when it is. Stopping goes the other way round: the gateway
first, so that no new work comes in; then the services, at the same time; then the Valkey that
they need to finish; then the parent of all. Every step has a bound.
"""

import asyncio
import signal
import socket
import sys
from collections.abc import Mapping
from contextlib import AsyncExitStack
from functools import partial
from random import Random

from seawall.clock import SYSTEM, Clock
from seawall.concurrency.tasks import Tasks
from seawall.facts import Fanout, Observer, ignore
from seawall.registry.connect import open_registry
from seawall.runtime.admin import admin_server
from seawall.runtime.admin_api import AdminApi
from seawall.runtime.environment import with_own_programs
from seawall.runtime.fleet import Fleet
from seawall.runtime.fleets import Fleets, assemble, check_commands, server_urls
from seawall.runtime.layout import Layout
from seawall.runtime.lock import Lock, processes_of_before_gone, sole_supervisor
from seawall.runtime.logs import Line, LogStore, Show
from seawall.runtime.memory import give_back
from seawall.runtime.narration import NARRATOR, is_routine, tell
from seawall.runtime.nursery import Nursery
from seawall.runtime.recipes import Recipe
from seawall.runtime.registration import Registrar
from seawall.runtime.sockets import listen
from seawall.runtime.stages import (
    ProjectReady,
    ProjectStopped,
    ProjectStopping,
    ProjectWaiting,
    Stage,
)
from seawall.runtime.workshop import Workshop
from seawall.spec.project import Spec

# What the processes of a kind have in common. Each is imported once, in the warm parent.
_OF_GATEWAYS = ("uvloop", "seawall.runtime.gateway")
_OF_SERVICES = (
    *("uvloop", "httptools", "uvicorn", "fastapi"),
    *("redis.asyncio", "sqlalchemy.ext.asyncio", "aiosqlite"),
    "seawall.service.serve",
)

# Processes that an earlier, killed supervisor left need their own grace to end.
_BEFORE_WITHIN = 30.0  # seconds

# How long a start is quiet before it says what it waits for.
_SAY_WAITING_EVERY = 10.0  # seconds


class Supervisor:
    """Runs one project, from `run` until it is asked to stop."""

    def __init__(
        self,
        spec: Spec,
        *,
        environ: Mapping[str, str],
        observer: Observer = ignore,
        show: Show | None = None,
        clock: Clock = SYSTEM,
        rng: Random | None = None,
    ) -> None:
        self.spec = spec
        self.layout = Layout(spec.root)
        self._environ = with_own_programs(environ, sys.executable)
        self._show = show
        self._clock = clock
        self._rng = rng or Random()
        self._observer = Fanout(observer)
        self._stop = asyncio.Event()
        self._fleets: Fleets | None = None
        self.stage = Stage.STARTING
        self.stopped_by: signal.Signals | None = None

    def stop(self, why: str, by: signal.Signals | None = None) -> None:
        """Begin to stop; asked a second time, kill what still runs."""
        if self._stop.is_set():
            if self._fleets is not None:
                self._fleets.kill()
            return
        self.stopped_by = by
        self.stage = Stage.STOPPING
        self._observer(ProjectStopping(why))
        self._stop.set()

    async def run(self) -> None:
        """Start everything, keep it, and stop it when asked.

        Raises `Misconfigured`, `AlreadyRunning` or `StillEnding` if it cannot start, and then
        leaves nothing behind.
        """
        await asyncio.to_thread(self.layout.prepare)
        async with AsyncExitStack() as stack:
            stack.enter_context(sole_supervisor(self.layout))
            kept = stack.enter_context(Lock(self.layout.processes_lock))
            await processes_of_before_gone(kept, _BEFORE_WITHIN, self._clock)
            logs = LogStore(self.layout.logs, self._clock, self._show)
            stack.push_async_callback(asyncio.to_thread, logs.close)
            self._observer.add(partial(self._narrate, logs))
            check_commands(self.spec, self._environ["PATH"], self._observer)
            gateway = self.spec.gateway
            listener = stack.enter_context(listen(gateway.host, gateway.port))
            tasks = await stack.enter_async_context(Tasks())
            await self._supervise(tasks, logs, listener, kept)

    def _narrate(self, logs: LogStore, fact: object) -> None:
        routine = is_routine(fact, self.stage)
        for text in tell(fact):
            logs.add(Line(self._clock.wall(), NARRATOR, text, routine))

    async def _supervise(
        self, tasks: Tasks, logs: LogStore, listener: socket.socket, kept: Lock
    ) -> None:
        workshop = Workshop(
            layout=self.layout,
            nursery=Nursery(
                self.layout.root,
                preloaded(self.spec),
                observer=self._observer,
                lock=kept.fd,
                clock=self._clock,
            ),
            logs=logs,
            urls=server_urls(self.spec, self.layout),
            inherited=self._environ,
            observer=self._observer,
            clock=self._clock,
            rng=self._rng,
        )

        def fleet(name: str, recipe: Recipe) -> Fleet:
            return Fleet(
                name,
                recipe,
                tasks,
                observer=self._observer,
                clock=self._clock,
                rng=self._rng,
                on_defect=partial(self.stop, "a defect in Seawall"),
            )

        fleets = self._fleets = assemble(self.spec, workshop, listener, fleet)
        parent = tasks.start(workshop.nursery.run(), name="nursery")
        registry = open_registry(workshop.urls.registry)
        registrar = Registrar(registry, tasks, observer=self._observer, clock=self._clock)
        self._observer.add(registrar)
        api = AdminApi(self, fleets, logs, registrar)
        try:
            async with admin_server(self.layout.admin_socket, api.routes()):
                await self._keep(fleets, workshop.nursery, parent, registrar, tasks)
                began = self._clock.now()
                await fleets.stop()
                self._observer(ProjectStopped(self._clock.now() - began))
        finally:
            # Whatever went wrong, no process is left: the parent's end is theirs.
            parent.cancel()
            await asyncio.wait({parent})
            await registry.aclose()

    async def _keep(
        self,
        fleets: Fleets,
        nursery: Nursery,
        parent: asyncio.Task[None],
        registrar: Registrar,
        tasks: Tasks,
    ) -> None:
        """Start all, and return when asked to stop or when the parent cannot be kept."""
        if fleets.valkey is not None:
            # It has to be under way before the parent imports, in which it starts nothing.
            fleets.valkey.run()
            launched = tasks.start(fleets.valkey.replicas[0].launched.wait())
            await asyncio.wait({launched, parent}, return_when=asyncio.FIRST_COMPLETED)
        nursery.preload()
        for fleet in fleets.all():
            fleet.run()
        async with Tasks() as while_running:
            while_running.start(self._report_start(fleets), name="start")
            while_running.start(registrar.beat(), name="leases")
            asked = while_running.start(self._stop.wait(), name="stop")
            await asyncio.wait({asked, parent}, return_when=asyncio.FIRST_COMPLETED)

    async def _report_start(self, fleets: Fleets) -> None:
        """Say when everything is ready, and what holds it up while it is not."""
        began = self._clock.now()
        async with Tasks() as tasks:
            ready = tasks.start(fleets.ready())
            while not ready.done():
                await asyncio.wait({ready}, timeout=_SAY_WAITING_EVERY)
                if not ready.done():
                    after = self._clock.now() - began
                    self._observer(ProjectWaiting(after, fleets.unready(self.spec)))
        self.stage = Stage.RUNNING
        counts = tuple((name, fleet.desired) for name, fleet in fleets.services.items())
        url = self.gateway_url(fleets)
        self._observer(ProjectReady(self._clock.now() - began, counts, url))
        give_back()  # 14 of 63 MB

    def gateway_url(self, fleets: Fleets) -> str | None:
        """Where the outside asks; None if the project has no gateway."""
        if not fleets.gateway.replicas:
            return None
        address = fleets.gateway.replicas[0].place.address
        return f"http://{address}"


def preloaded(spec: Spec) -> tuple[str, ...]:
    """What the warm parent imports: nothing where there are only commands."""
    services = _OF_SERVICES if any(s.module for s in spec.services.values()) else ()
    return (*services, *(_OF_GATEWAYS if spec.gateway.replicas else ()))
