"""One run of a service: what is started in which order, and stopped in the reverse.

    database → messages → registry → groups → start hooks → relay, consumers → ready → registered

Nobody hears of an instance before its socket listens. Leaving begins with being seen to leave
(`drain`), while requests are still answered as if nothing were; only then are parts closed.
"""

import asyncio
import logging
import secrets
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field
from functools import partial
from inspect import isawaitable
from random import Random

from seawall.clock import SYSTEM, Clock
from seawall.concurrency.tasks import Tasks
from seawall.errors import Misconfigured, NotSent, OutcomeUnknown, SeawallError, Unavailable
from seawall.facts import Observer
from seawall.identity.credentials import Credentials
from seawall.messaging import inbox
from seawall.messaging.base import Message, Subscription, Transport
from seawall.messaging.connect import open_transport
from seawall.messaging.consumer import Consumer
from seawall.messaging.publisher import Publisher
from seawall.messaging.relay import Relay
from seawall.messaging.slots import Handler
from seawall.messaging.turn import Turn
from seawall.registry.connect import beside, open_registry, open_turns
from seawall.registry.consuming import consuming
from seawall.registry.heartbeat import Heartbeat
from seawall.registry.pauses import open_pauses
from seawall.registry.turns import OwnTurn, Turns
from seawall.registry.watcher import Watcher
from seawall.resilience.backoff import full_jitter
from seawall.service import routes
from seawall.service.address import listening, reachable
from seawall.service.batch_handlers import BatchHandler
from seawall.service.client import Client
from seawall.service.contracts import Publishes
from seawall.service.database import Database
from seawall.service.handlers import Declared, MessageHandler
from seawall.service.pauses import PauseWatch
from seawall.service.requests import Requests
from seawall.service.schedules import Firing, Schedule
from seawall.service.sessions import CookieSessions
from seawall.service.settings import Settings
from seawall.topology import Address, Instance, InstanceState, parse_version

log = logging.getLogger("seawall.service")

Hook = Callable[[], Awaitable[object] | object]
Work = Callable[[], Awaitable[object]]

# How long we look for the socket that a foreign server opens for us.
_LOOK_FOR = 30.0  # seconds

# A broker that is slow holds up our start for so long; a supervisor gives a start 30 s.
_JOIN_WITHIN = 10.0  # seconds

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
    schedules: list[Schedule] = field(default_factory=list)
    published: dict[str, Publishes] = field(default_factory=dict)
    start_hooks: list[Hook] = field(default_factory=list)
    stop_hooks: list[Hook] = field(default_factory=list)
    background: list[Work] = field(default_factory=list)


class Life:
    """From `start` to `stop`; a service that is started again gets a new one."""

    def __init__(  # noqa: PLR0913 - its parts, each by name
        self,
        name: str,
        version: str,
        needs: Sequence[str],
        declared: Declarations,
        settings: Settings,
        *,
        observer: Observer,
        in_flight: Callable[[], int],
        credentials: Credentials | None = None,
        clock: Clock = SYSTEM,
    ) -> None:
        self.settings = settings
        self._credentials = credentials
        self.instance_id = settings.instance_of(name)
        self.incarnation = settings.incarnation or secrets.token_hex(8)
        self.state = InstanceState.STARTING
        self._name = name
        tag = settings.version_tag
        self._version = f"{parse_version(version).finalize_version()}-{tag}" if tag else version
        self._needs = tuple(needs)
        self._declared = declared
        self._observer = observer
        self._in_flight = in_flight
        self._clock = clock
        self._stack = AsyncExitStack()
        self._tasks = Tasks()
        self._background = Tasks()
        self._consumers: list[Consumer] = []
        self._pauses: PauseWatch | None = None
        self._heartbeat: Heartbeat | None = None
        self._expected = False  # its server will say where it listens
        self._drained: asyncio.Task[None] | None = None
        self._away = False  # the broker did not answer when we started
        self.transport: Transport | None = None
        self.publisher: Publisher | None = None
        self.requests: Requests | None = None
        self._shared_turns: Turns | None = None
        self._holder = f"{self.instance_id}/{self.incarnation}"
        self.watcher: Watcher | None = None

    # starting

    async def start(self) -> None:
        """Start all parts; if one fails, stop those that were started and raise."""
        # First of all, since what a person wrote wrong needs no server to be found.
        handlers = [(declared, self._handler(declared)) for declared in self._declared.handlers]
        try:
            await self._open()
            await self._join([declared.subscription for declared, _ in handlers])
            for hook in self._declared.start_hooks:
                await _run(hook)
            await self._consume(handlers)
        except BaseException:
            await self._stack.aclose()
            raise
        self.state = InstanceState.READY
        log.info("%s %s is ready", self._name, self._version)

    def _handler(self, declared: Declared) -> Handler:
        database = self._declared.database
        if declared.config.batch > 1:
            return BatchHandler(self._name, declared, database)
        return MessageHandler(self._name, declared, database, self._publish)

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
            self._away = True
            self._tasks.start(self._open_later(self.transport), name="open the transport")
        self.publisher = Publisher(self.transport, observer=self._observer)
        self._stack.push_async_callback(_within, self.publisher.aclose)
        self.requests = Requests(
            *(self._name, self.instance_id, self.transport, self._publish),
            observer=self._observer,
        )
        self._stack.push_async_callback(_within, self.requests.aclose)
        for sessions in declared.sessions:
            sessions.open(settings.sessions_url or settings.messages_url)
            self._stack.push_async_callback(sessions.close)
        await self._watch()

    async def _join(self, subscriptions: Sequence[Subscription]) -> None:
        """Have our groups before anybody sees us ready, so that they miss nothing from then on.

        Where that fails the consumers do it, as soon as the broker answers.
        """
        if self._away or not subscriptions:
            return
        assert self.transport is not None
        try:
            async with self._clock.timeout(_JOIN_WITHIN):
                await self.transport.provision(subscriptions)
        except (NotSent, OutcomeUnknown, TimeoutError) as away:
            log.warning("%s starts before its groups exist: %r", self._name, away)

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
        credentials = await self._identified()
        towards = None if credentials is None else credentials.towards
        for client in self._declared.clients:
            client.open(self.watcher, self._observer, towards)
            self._stack.callback(client.close)

    async def _identified(self) -> Credentials | None:
        """What we call with: our server's, or, under a foreign one, our own."""
        if self._credentials is None and self.settings.tls is not None:
            self._credentials = await asyncio.to_thread(
                Credentials, self.settings.tls, observer=self._observer
            )
            self._tasks.start(self._credentials.follow(), name="certificate")
        return self._credentials

    async def _consume(self, handlers: Sequence[tuple[Declared, Handler]]) -> None:
        assert self.transport is not None
        database = self._declared.database
        if database is not None:
            relay = Relay(database.engine, self.transport, observer=self._observer)
            await self._stack.enter_async_context(relay)
            keeping = self._persistently(self._forget_old)
            self._background.start(keeping, name="forget what is old")
        self._pauses = await self._follow_pauses() if handlers else None
        for declared, handler in handlers:
            consumer = Consumer(
                self.transport,
                declared.subscription,
                handler,
                config=declared.config,
                retry=declared.retry,
                turn=self._turn_of(declared),
                observer=self._observer,
            )
            await consumer.start()
            if declared.subscription in self.held_back:
                await consumer.pause()
            self._consumers.append(consumer)
        if self._declared.schedules:
            self._fire_ticks()
        for work in self._declared.background:
            self._background.start(self._persistently(work), name=f"background {_named(work)}")

    def _turn_of(self, declared: Declared) -> Turn | None:
        if declared.config.ordered is None:
            return None
        group = declared.subscription
        return OwnTurn(f"{group.topic}/{group.group}", self._holder, self._turns())

    def _turns(self) -> Turns:
        """The turns of all replicas, opened when they are needed."""
        if self._shared_turns is None:
            where = self._beside()
            if where is None:
                raise Misconfigured(
                    "the cluster is the registry, and keeps nothing for schedules and ordered"
                    " handlers",
                    fix="[sessions] url = or [messages] url = of a Valkey; or that as [registry]",
                )
            self._shared_turns = open_turns(where)
            self._stack.push_async_callback(self._shared_turns.aclose)
        return self._shared_turns

    def _fire_ticks(self) -> None:
        firing = Firing(
            *(self._name, self._holder, self._turns(), self._publish), observer=self._observer
        )
        for schedule in self._declared.schedules:
            work = self._persistently(partial(firing.run, schedule))
            self._background.start(work, name=f"schedule {schedule.name}")

    def _beside(self) -> str | None:
        own = self.settings
        return beside(own.registry_url, own.messages_url, own.sessions_url)

    async def _follow_pauses(self) -> PauseWatch | None:
        where = self._beside()
        if where is None:  # nobody could have paused anything
            return None
        pauses = open_pauses(where)
        self._stack.push_async_callback(pauses.aclose)
        watch = PauseWatch(pauses, lambda: self._consumers, clock=self._clock)
        await watch.first()
        self._background.start(watch.follow(), name="follow pauses")
        return watch

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
            metadata=consuming(
                (declared.subscription.topic, declared.subscription.group)
                for declared in self._declared.handlers
            ),
        )
        self._heartbeat = Heartbeat(
            self.settings.registry_url,
            instance,
            in_flight=self._in_flight,
            observer=self._observer,
        )
        await self._heartbeat.start()

    def expect_address(self) -> None:
        """Whoever serves calls `listening`, soon."""
        self._expected = True

    @property
    def registering(self) -> bool:
        """The registry is to be told of us, and has not answered yet. Where it is away we go on."""
        if self._heartbeat is None:
            return self._expected
        return not self._heartbeat.snapshot().answered

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
    def consumers(self) -> Sequence[Consumer]:
        return self._consumers

    @property
    def stalled(self) -> list[str]:
        """The groups of this replica that get nothing although messages wait."""
        return [
            f"{each.subscription.topic}/{each.subscription.group}: {waiting} messages wait, and"
            " none comes"
            for each in self._consumers
            if (waiting := each.snapshot().stalled)
        ]

    @property
    def paused(self) -> list[str]:
        """The groups whose handlers fail too often to go on, or that an operator stopped."""
        failing = {each.subscription for each in self._consumers if each.snapshot().paused}
        return [
            *(f"{each.topic}/{each.group} is paused: its handlers fail" for each in failing),
            *(f"{each.topic}/{each.group} is paused by an operator" for each in self.held_back),
        ]

    @property
    def held_back(self) -> frozenset[Subscription]:
        """Our groups that an operator paused: they take no messages here."""
        if self._pauses is None:
            return frozenset()
        ours = {each.subscription for each in self._declared.handlers}
        return self._pauses.paused & ours

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
