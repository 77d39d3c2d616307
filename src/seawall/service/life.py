"""One run of a service: what is started in which order, and stopped in the reverse.

    database → messages → registry → start hooks → relay, consumers → ready → registered

Nobody hears of an instance before its socket listens. Leaving begins with being seen to leave
(`drain`), while requests are still answered as if nothing were; only then are parts closed.
"""

import asyncio
import logging
import os
import secrets
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field
from inspect import isawaitable
from random import Random

from seawall.clock import SYSTEM, Clock
from seawall.concurrency.tasks import Tasks
from seawall.errors import SeawallError, Unavailable
from seawall.facts import Observer
from seawall.messaging import inbox
from seawall.messaging.base import Message, Transport
from seawall.messaging.connect import open_transport
from seawall.messaging.consumer import Consumer
from seawall.messaging.outbox import Relay
from seawall.messaging.publisher import Publisher
from seawall.registry.connect import open_registry
from seawall.registry.heartbeat import Heartbeat
from seawall.registry.watcher import Watcher
from seawall.resilience.backoff import full_jitter
from seawall.service import routes
from seawall.service.address import listening, reachable
from seawall.service.client import Client
from seawall.service.database import Database
from seawall.service.handlers import Declared, MessageHandler
from seawall.service.sessions import CookieSessions
from seawall.service.settings import Settings
from seawall.topology import Address, Instance, InstanceState

log = logging.getLogger("seawall.service")

Hook = Callable[[], Awaitable[object] | object]
Work = Callable[[], Awaitable[object]]

# How long we look for the socket that a foreign server opens for us.
_LOOK_FOR = 30.0  # seconds

# Parts of stopping that talk to servers which may be gone.
_LAST_WORDS = 2.0  # seconds

# Deleting is cheap where there is little, and what is old enough to go is a day old.
_FORGET_EVERY = 3600.0  # seconds

# Waits before background work that failed runs again.
_AGAIN_BASE, _AGAIN_CAP = 0.5, 30.0  # seconds


@dataclass(slots=True)
class Declarations:
    """What a service declared before it started."""

    database: Database | None = None
    clients: list[Client] = field(default_factory=list)
    sessions: list[CookieSessions] = field(default_factory=list)
    handlers: list[Declared] = field(default_factory=list)
    start_hooks: list[Hook] = field(default_factory=list)
    stop_hooks: list[Hook] = field(default_factory=list)
    background: list[Work] = field(default_factory=list)


class Life:
    """From `start` to `stop`; a service that is started again gets a new one."""

    def __init__(
        self,
        name: str,
        version: str,
        needs: Sequence[str],
        declared: Declarations,
        settings: Settings,
        *,
        observer: Observer,
        in_flight: Callable[[], int],
        clock: Clock = SYSTEM,
    ) -> None:
        self.settings = settings
        self.instance_id = settings.instance_id or f"{name}-{os.getpid()}"
        self.incarnation = settings.incarnation or secrets.token_hex(8)
        self.state = InstanceState.STARTING
        self._name = name
        self._version = version
        self._needs = tuple(needs)
        self._declared = declared
        self._observer = observer
        self._in_flight = in_flight
        self._clock = clock
        self._stack = AsyncExitStack()
        self._tasks = Tasks()
        self._background = Tasks()
        self._consumers: list[Consumer] = []
        self._heartbeat: Heartbeat | None = None
        self._drained: asyncio.Task[None] | None = None
        self.transport: Transport | None = None
        self.publisher: Publisher | None = None
        self.watcher: Watcher | None = None

    # starting

    async def start(self) -> None:
        """Start all parts; if one fails, stop those that were started and raise."""
        # First of all, since what a person wrote wrong needs no server to be found.
        handlers = [
            (
                declared,
                MessageHandler(self._name, declared, self._declared.database, self._publish),
            )
            for declared in self._declared.handlers
        ]
        try:
            await self._open()
            for hook in self._declared.start_hooks:
                await _run(hook)
            await self._consume(handlers)
        except BaseException:
            await self._stack.aclose()
            raise
        self.state = InstanceState.READY
        log.info("%s %s is ready", self._name, self._version)

    async def _open(self) -> None:
        declared, settings = self._declared, self.settings
        await self._stack.enter_async_context(self._tasks)
        if declared.database is not None:
            await declared.database.open(settings.database_url)
            self._stack.push_async_callback(declared.database.close)
        self.transport = open_transport(settings.messages_url, observer=self._observer)
        self._stack.push_async_callback(self.transport.aclose)
        try:
            await self.transport.open()
        except Unavailable as away:
            # Requests can be served and outbox rows written meanwhile; a service that waits
            # here, or dies, makes one server's outage everybody's.
            log.warning("%s starts without its broker: %s", self._name, away)
            self._tasks.start(self._open_later(self.transport), name="open the transport")
        self.publisher = Publisher(self.transport, observer=self._observer)
        self._stack.push_async_callback(_within, self.publisher.aclose)
        for sessions in declared.sessions:
            sessions.open(settings.sessions_url or settings.messages_url)
            self._stack.push_async_callback(sessions.close)
        await self._watch()

    async def _open_later(self, transport: Transport) -> None:
        for wait in full_jitter(_AGAIN_BASE, _AGAIN_CAP, Random()):
            await self._clock.sleep(wait)
            with suppress(Unavailable):
                await transport.open()
                return

    async def _watch(self) -> None:
        if not self._declared.clients:
            return
        registry = open_registry(self.settings.registry_url, observer=self._observer)
        self._stack.push_async_callback(registry.aclose)
        watching = Watcher(registry, observer=self._observer)
        self.watcher = await self._stack.enter_async_context(watching)
        for client in self._declared.clients:
            client.open(self.watcher, self._observer)
            self._stack.callback(client.close)

    async def _consume(self, handlers: Sequence[tuple[Declared, MessageHandler]]) -> None:
        assert self.transport is not None
        database = self._declared.database
        if database is not None:
            relay = Relay(database.engine, self.transport, observer=self._observer)
            await self._stack.enter_async_context(relay)
            keeping = self._persistently(self._forget_old)
            self._background.start(keeping, name="forget what is old")
        for declared, handler in handlers:
            consumer = Consumer(
                self.transport,
                declared.subscription,
                handler,
                config=declared.config,
                retry=declared.retry,
                observer=self._observer,
            )
            await consumer.start()
            self._consumers.append(consumer)
        for work in self._declared.background:
            self._background.start(self._persistently(work), name=f"background {_named(work)}")

    async def _forget_old(self) -> None:
        """Delete what inbox and idempotent routes need not remember any more, now and then."""
        database = self._declared.database
        assert database is not None
        rng = Random()
        while True:
            await self._clock.sleep(_FORGET_EVERY * rng.uniform(0.5, 1.5))
            await inbox.forget(database.engine)
            await routes.forget(database)

    async def _publish(self, topic: str, message: Message) -> None:
        assert self.publisher is not None
        await self.publisher.publish(topic, message)

    async def _persistently(self, work: Work) -> None:
        """Run `work` until it returns; when it fails, say so and run it again after a while."""
        waits = full_jitter(_AGAIN_BASE, _AGAIN_CAP, Random())
        while True:
            try:
                await work()
                return
            except Exception:
                log.exception("background work %s failed", _named(work))
            await self._clock.sleep(next(waits))

    # being known

    async def listening(self, address: Address) -> None:
        """Others may call us there: register. Called again it does nothing."""
        if self._heartbeat is not None or self.state is not InstanceState.READY:
            return
        instance = Instance(
            service=self._name,
            version=self._version,
            instance_id=self.instance_id,
            incarnation=self.incarnation,
            address=reachable(address),
            state=InstanceState.READY,
            needs=self._needs,
            started_at=self._clock.wall(),
            zone=self.settings.zone,
            priority=self.settings.priority,
        )
        self._heartbeat = Heartbeat(
            self.settings.registry_url,
            instance,
            in_flight=self._in_flight,
            observer=self._observer,
        )
        await self._heartbeat.start()

    def find_address(self) -> None:
        """For servers that do not tell us where they listen: look for the socket, then register."""
        self._tasks.start(self._look(), name="look for our socket")

    async def _look(self) -> None:
        until = self._clock.now() + _LOOK_FOR
        while self._clock.now() < until:
            found = await asyncio.to_thread(listening, self.settings.port)
            if found is not None:
                await self.listening(found)
                return
            await self._clock.sleep(0.05)
        log.warning("no listening TCP socket of this process was found; it is not registered")

    # leaving

    def drain(self) -> None:
        """Leave: be seen to, take no further messages, finish those under way. Returns at once;
        requests are still served until whoever owns the socket closes it."""
        if self.state is not InstanceState.READY:
            return
        self.state = InstanceState.DRAINING
        log.info("%s is draining", self._name)
        if self._heartbeat is not None:
            self._heartbeat.move(InstanceState.DRAINING)
        self._drained = self._tasks.start(self._finish_messages(), name="drain messages")

    async def _finish_messages(self) -> None:
        within = self.settings.drain
        outcomes = await asyncio.gather(
            *(consumer.drain(within) for consumer in self._consumers), return_exceptions=True
        )
        for outcome in outcomes:
            if isinstance(outcome, BaseException):
                log.error("a consumer did not drain", exc_info=outcome)

    async def stop(self, *, now: bool = False) -> None:
        """Stop all parts; the order is that of starting, reversed. `now`: finish nothing."""
        self.drain()
        if self._drained is not None:
            if now:
                self._drained.cancel()
            await asyncio.wait([self._drained])
        await self._background.cancel()
        for hook in reversed(self._declared.stop_hooks):
            try:
                await _run(hook)
            except Exception:
                log.exception("stop hook %s failed", _named(hook))
        if self._heartbeat is not None:
            await self._heartbeat.stop(_LAST_WORDS)
        self.state = InstanceState.GONE
        await self._stack.aclose()
        log.info("%s has stopped", self._name)

    @property
    def loop_lag(self) -> float:
        """Seconds the event loop answered late, at the last heartbeat."""
        return 0.0 if self._heartbeat is None else self._heartbeat.snapshot().loop_lag

    @property
    def staleness(self) -> float:
        """Seconds since the registry was read; 0 if nobody here asks it."""
        if self.watcher is None:
            return 0.0
        return max(0.0, self._clock.now() - self.watcher.view.read_at)

    def __repr__(self) -> str:
        return f"<Life of {self.instance_id} {self.state}, {len(self._consumers)} consumers>"


async def _run(hook: Hook) -> None:
    outcome = hook()
    if isawaitable(outcome):
        await outcome


async def _within(close: Callable[[], Awaitable[None]]) -> None:
    try:
        async with asyncio.timeout(_LAST_WORDS):
            await close()
    except (TimeoutError, SeawallError) as exc:
        log.warning("closing took too long or failed: %s", exc)


def _named(work: Callable[..., object]) -> str:
    return getattr(work, "__qualname__", repr(work))
