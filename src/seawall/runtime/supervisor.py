"""Makes what is equal to what should be: starts the processes of a project and keeps them.

Everything starts at the same time and waits for nobody, so services that need each other cannot
block a start; each is reported ready when it is. Stopping goes the other way round: the gateway
first, so that no new work comes in; then the services, at the same time; then the Valkey that
they need to finish; then the parent of all. Every step has a bound.
"""

import asyncio
import secrets
import signal
import socket
import sys
from collections.abc import Mapping
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from random import Random

from seawall.clock import SYSTEM, Clock
from seawall.concurrency.tasks import Tasks
from seawall.facts import Fanout, Observer, ignore
from seawall.messaging.connect import transport_module
from seawall.registry.connect import open_registry
from seawall.runtime.admin import admin_server
from seawall.runtime.admin_api import AdminApi
from seawall.runtime.autoscaler import Autoscaler
from seawall.runtime.autoscaler_samples import Broker, Sampler
from seawall.runtime.canary import Canaries
from seawall.runtime.counted import COUNTED
from seawall.runtime.environment import with_operator_token, with_own_programs
from seawall.runtime.fleet import Fleet
from seawall.runtime.fleets import GATEWAY, Fleets, assemble, check_commands, server_urls
from seawall.runtime.identities import Identities
from seawall.runtime.inheritance import Estate, inherited
from seawall.runtime.layout import Layout
from seawall.runtime.lock import Lock, processes_of_before_gone, sole_supervisor
from seawall.runtime.logs import Line, LogStore, Show
from seawall.runtime.memory import give_back
from seawall.runtime.memory_limits import MemoryLimits
from seawall.runtime.messages import message_routes
from seawall.runtime.narration import NARRATOR, is_routine, tell
from seawall.runtime.nursery import Nursery
from seawall.runtime.recipes import Recipe
from seawall.runtime.registration import Registrar
from seawall.runtime.replica import ReplicaGivenUp
from seawall.runtime.settling import Settling
from seawall.runtime.sockets import listen
from seawall.runtime.stages import (
    ProjectReady,
    ProjectStopped,
    ProjectStopping,
    ProjectWaiting,
    Stage,
    TookOver,
)
from seawall.runtime.watching import Watching
from seawall.runtime.workshop import Workshop
from seawall.spec.load import load_spec
from seawall.spec.project import Spec

# What the processes of a kind have in common. Each is imported once, in the warm parent.
_OF_GATEWAYS = ("uvloop", "seawall.runtime.gateway")
_OF_SERVICES = (
    *("uvloop", "httptools", "uvicorn", "fastapi"),
    *("redis.asyncio", "sqlalchemy.ext.asyncio", "aiosqlite"),
    *("seawall.service.warm", "seawall.runtime.standby"),
)
_OF_IDENTIFIED = ("cryptography.x509",)

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
        watch: bool = False,
        clock: Clock = SYSTEM,
        rng: Random | None = None,
    ) -> None:
        self.spec = spec
        self.layout = Layout(spec.root)
        # Proves to our services that a question is an operator's.
        self.operator_token = secrets.token_urlsafe(32)
        self._environ = with_own_programs(environ, sys.executable)
        self._show = show
        self._watch = watch
        self._clock = clock
        self._rng = rng or Random()
        self._observer = Fanout(observer)
        self._stop = asyncio.Event()
        self._fleets: Fleets | None = None
        self._identities: Identities | None = None  # with mTLS only
        self.stage = Stage.STARTING
        self.stopped_by: signal.Signals | None = None
        self.given_up = ""  # why a service ended the whole project

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
            # Again, since the one before may have left meanwhile.
            await asyncio.to_thread(self.layout.prepare)
            stack.push_async_callback(asyncio.to_thread, self.layout.leave)
            kept = stack.enter_context(Lock(self.layout.processes_lock))
            logs = LogStore(self.layout.logs, self._clock, self._show)
            stack.push_async_callback(asyncio.to_thread, logs.close)
            self._observer.add(partial(self._narrate, logs))
            self._observer.add(self._escalate)
            check_commands(self.spec, self._environ["PATH"], self._observer)
            tasks = await stack.enter_async_context(Tasks())
            estate = await self._inherit(tasks, kept)
            listener = stack.enter_context(self._listener(estate))
            await self._supervise(tasks, logs, listener, kept, estate)

    async def _inherit(self, tasks: Tasks, kept: Lock) -> Estate:
        """Take over what a supervisor that was killed has left; else wait until it has gone."""
        estate = await inherited(self.layout.parents, tasks, self._clock)
        if estate.root is None or estate.lock is None:
            await processes_of_before_gone(kept, _BEFORE_WITHIN, self._clock)
        else:
            kept.inherit(estate.lock)
            self.operator_token = estate.token or self.operator_token
            self._observer(TookOver(len(estate.processes)))
        self._environ = with_operator_token(self._environ, self.operator_token)
        return estate

    def _listener(self, estate: Estate) -> socket.socket:
        """That of the gateways which go on, if it is where it should be."""
        gateway = self.spec.gateway
        for number in estate.numbers(GATEWAY):
            heirloom = estate.get(f"{GATEWAY}-{number}")
            held = None if heirloom is None else heirloom.take_socket("SEAWALL_LISTEN_FD")
            if held is not None:
                host, port = held.getsockname()[:2]
                if host == gateway.host and gateway.port in (0, port):
                    held.setblocking(False)
                    return held
                held.close()
        return listen(gateway.host, gateway.port)

    def _narrate(self, logs: LogStore, fact: object) -> None:
        routine = is_routine(fact, self.stage)
        for text in tell(fact):
            logs.add(Line(self._clock.wall(), NARRATOR, text, routine))

    async def _supervise(
        self,
        tasks: Tasks,
        logs: LogStore,
        listener: socket.socket,
        kept: Lock,
        estate: Estate,
    ) -> None:
        self._identities = await self._identified(tasks, estate)
        workshop = Workshop(
            layout=self.layout,
            nursery=Nursery(
                self.layout.root,
                preloaded(self.spec),
                observer=self._observer,
                lock=kept.fd,
                meeting=self.layout.parents,
                estate=estate,
                clock=self._clock,
            ),
            estate=estate,
            logs=logs,
            urls=server_urls(self.spec, self.layout),
            inherited=self._environ,
            observer=self._observer,
            clock=self._clock,
            rng=self._rng,
            identities=self._identities,
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
        urls = workshop.urls
        broker = Broker(urls.messages, registrar)
        sampler = Sampler(fleets.gateway, self.layout, broker, self._clock)
        autoscaler = Autoscaler(
            fleets.services,
            self.spec.services,
            sampler,
            registrar,
            observer=self._observer,
            clock=self._clock,
        )
        counted = partial(sampler.of_gateways, COUNTED)
        canaries = Canaries(
            *(self.spec, fleets, workshop, fleet, registrar),
            counted,
            tasks,
        )
        settling = partial(
            Settling,
            gateways=counted,
            process=partial(sampler.of_replica, COUNTED),
            clock=self._clock,
        )
        api = AdminApi(self, fleets, logs, registrar, autoscaler, canaries, settling)
        about_messages = message_routes(urls.messages, urls.registry, clock=self._clock)
        routes = {**api.routes(), **about_messages}
        try:
            async with admin_server(self.layout.admin_socket, routes):
                for name in estate.unwanted(fleets.instances()):
                    tasks.start(workshop.end(name), name=f"end of {name}")
                await self._keep(fleets, workshop.nursery, parent, registrar, autoscaler, tasks)
                began = self._clock.now()
                await fleets.stop()
                self._observer(ProjectStopped(self._clock.now() - began))
        finally:
            # Whatever went wrong, no process is left: the parent's end is theirs.
            parent.cancel()
            await asyncio.wait({parent})
            await broker.aclose()
            await registry.aclose()

    async def reroute(self) -> None:
        """Gateways are about to read the spec again: have services let them in where its routes
        lead. Raises `Misconfigured` or `NotSent`."""
        if self._identities is not None:
            spec = await asyncio.to_thread(
                load_spec, self.layout.root, profile=self.spec.profile, environ=self._environ
            )
            await self._identities.reroute(spec)

    async def _identified(self, tasks: Tasks, estate: Estate) -> Identities | None:
        if not self.spec.identity.mtls:
            return None
        identities = Identities(self.spec, self.layout, observer=self._observer, clock=self._clock)
        go_on = (Path(one.program.environment.get("SEAWALL_TLS", "")) for one in estate.all())
        await identities.open([folder.name for folder in go_on])
        self._observer.add(identities)
        tasks.start(identities.keep(), name="certificates")
        tasks.start(identities.follow(), name="own certificate")
        return identities

    async def _keep(
        self,
        fleets: Fleets,
        nursery: Nursery,
        parent: asyncio.Task[None],
        registrar: Registrar,
        autoscaler: Autoscaler,
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
            while_running.start(self._memory_limits(fleets, tasks).run(), name="memory limits")
            if self._watch:
                watching = Watching(
                    *(self.spec.root, self.spec.services, fleets.services),
                    observer=self._observer,
                    clock=self._clock,
                )
                while_running.start(watching.run(), name="watch")
            for fleet in fleets.services.values():
                if (standbys := fleet.recipe.standbys) is not None:
                    while_running.start(standbys.run(), name=f"standbys of {fleet.name}")
            while_running.start(autoscaler.run(), name="autoscaler")
            asked = while_running.start(self._stop.wait(), name="stop")
            await asyncio.wait({asked, parent}, return_when=asyncio.FIRST_COMPLETED)

    def _memory_limits(self, fleets: Fleets, tasks: Tasks) -> MemoryLimits:
        said = {name: service.memory_limit for name, service in self.spec.services.items()}
        limits = {name: limit for name, limit in said.items() if limit is not None}
        return MemoryLimits(
            *(fleets.services, limits, tasks), observer=self._observer, clock=self._clock
        )

    def _escalate(self, fact: object) -> None:
        """What was given up ends the whole project, where it says so."""
        if isinstance(fact, ReplicaGivenUp):
            service = self.spec.services.get(fact.place.service)
            if service is not None and service.restart.then == "stop":
                self.given_up = f"{fact.place.instance_id} was {fact.reason}"
                if not self._stop.is_set():
                    self.stop(self.given_up)

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
    services: tuple[str, ...] = ()
    identified = _OF_IDENTIFIED if spec.identity.mtls else ()
    if any(s.module for s in spec.services.values()):
        # Some brokers' clients take a second to import, and tens of megabytes. The embedded
        # Valkey's is needed where no other is named.
        services = (*_OF_SERVICES, transport_module(spec.messages.url or "redis://"))
    # The broker's client last: one that is not installed is for a service to say.
    return (*(_OF_GATEWAYS if spec.gateway.replicas else ()), *identified, *services)
