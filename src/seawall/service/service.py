"""`Service`: a FastAPI application with a name, a version, and surroundings.

Declaring touches nothing: no socket, no file, no environment. All of that happens when the
application starts (its ASGI lifespan), and is undone when it stops.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import datetime
from functools import partial
from typing import Any, Literal, TypeVar, Unpack

from fastapi import FastAPI
from sqlalchemy import MetaData
from starlette.types import Lifespan, Receive, Scope, Send

from seawall.clock import SYSTEM
from seawall.contracts.contract import Contract
from seawall.errors import Misconfigured, SeawallError
from seawall.facts import Fanout, Observer
from seawall.identity.credentials import Credentials
from seawall.identity.sessions import SessionRules
from seawall.messaging import outbox, tables
from seawall.messaging.base import Message, Subscription
from seawall.messaging.consumer import ConsumerConfig
from seawall.messaging.policy import RetryPolicy
from seawall.messaging.ticks import Missed, ticks_of
from seawall.service import answers, backlog, context, contracts, documents, publishing
from seawall.service.calls import ClientConfig
from seawall.service.client import Client
from seawall.service.database import Database, PoolSize, Transaction
from seawall.service.declaring import Rules, consumer_config, delay_until
from seawall.service.edge import Edge
from seawall.service.events import topic_of
from seawall.service.gauges import Gauges
from seawall.service.handlers import Declared
from seawall.service.health import Check, Health, Probe, raise_if
from seawall.service.life import Declarations, Life
from seawall.service.observing import Observing
from seawall.service.operations import Operation, Operations
from seawall.service.probes import Probes
from seawall.service.routes import Idempotency, Memory, Route
from seawall.service.routes import metadata as kept_answers
from seawall.service.schedules import Schedule
from seawall.service.sessions import CookieSessions
from seawall.service.settings import Settings
from seawall.telemetry.metrics import Metrics
from seawall.topology import Address, InstanceState, parse_version, service_name

log = logging.getLogger("seawall.service")

F = TypeVar("F", bound=Callable[..., Any])
R = TypeVar("R")

# Larger bodies are uploads, and a route that takes them says so (`max_body_size=`).
MAX_BODY = 1024 * 1024  # bytes

# One process answers a few thousand requests a second; more than this at once only queue up.
MAX_IN_FLIGHT = 1000

_KEY_PARAMETER = {
    "name": "Idempotency-Key",
    "in": "header",
    "required": False,
    "description": "The same key with the same body gets the same answer, once carried out.",
    "schema": {"type": "string", "minLength": 1, "maxLength": 255},
}

WORKERS = "workers"  # the one consumer group of a queue

# A service counts and logs by itself. FastAPI would ask the environment anew at every request
# whether OpenTelemetry's meters and loggers are there; its spans stay on.
_TELEMETRY = {"metrics": False, "logs": False}


class Service(FastAPI):
    """A microservice.

        orders = Service("orders", version="1.2.0", needs=["inventory"])

    An ordinary ASGI application: `uvicorn shop.orders:orders` runs it, FastAPI's routes,
    dependencies and routers work unchanged, and all other arguments are FastAPI's.

    `needs` names the services without which this one cannot do its work: the supervisor starts
    them first, and the dashboard draws them.
    """

    def __init__(
        self,
        name: str,
        *,
        version: str = "0.1.0",
        needs: tuple[str, ...] | list[str] = (),
        max_in_flight: int = MAX_IN_FLIGHT,
        max_body_size: int = MAX_BODY,
        compress: bool = True,
        settings: Settings | None = None,
        lifespan: Lifespan[Any] | None = None,
        **fastapi: Any,
    ) -> None:
        self.name = service_name(name)
        self.needs = tuple(service_name(need) for need in needs)
        self.max_in_flight = max_in_flight
        self.max_body = max_body_size
        self.compress = compress
        self.in_flight = 0
        self.draining = False
        self.served_by = f"{name}/starting".encode()
        self.metrics = Metrics(name, str(parse_version(version)))
        self.observer = Fanout(Observing(name, self.metrics))
        self.metrics.dropping("facts", "observer failed", lambda: self.observer.failed)
        self.health = Health()
        self.memory = Memory(name)
        self.settings = settings
        self.knows_address = False
        self.credentials: Credentials | None = None  # its server's, by which it also calls
        self._declared = Declarations()
        self._user_lifespan = lifespan
        self.life: Life | None = None
        self.failure: Exception | None = None  # why the last start failed
        fastapi.setdefault("title", name)
        fastapi.setdefault("telemetry", _TELEMETRY)
        super().__init__(version=version, lifespan=self._live, **fastapi)
        self.router.route_class = Route
        answers.install(self)
        contracts.show(self, lambda: self.contract)
        documents.gather(self.router.routes)
        self.gauges = Gauges(self, self._declared, self.metrics)
        self._operations = Operations(self)
        self._edge = Edge(
            super().__call__, self, Probes(self).by_path, self._operations.by_path, self.metrics
        )

    # declaring

    def database(
        self,
        *,
        url: str | None = None,
        metadata: MetaData | None = None,
        min_size: int = 2,
        max_size: int = 10,
        acquire_timeout: float = 1.0,
    ) -> Database:
        """Declare the service's own database; the environment's URL wins over `url`.

        Without any, a SQLite file `./<service>.db`. Tables of `metadata`, and those of outbox and
        inbox, are created when the service starts, if they are missing.
        """
        if self._declared.database is not None:
            raise Misconfigured(f"{self.name} has a database already; a service owns one")
        size = PoolSize(min_size=min_size, max_size=max_size, acquire_timeout=acquire_timeout)
        database = Database(self.name, url, size, metadata)
        database.add_tables(tables.metadata)
        database.add_tables(kept_answers)
        self._declared.database = self.memory.database = database
        self.health.add(Check("database", database.check, needed=False, within=1.0))
        flowing = partial(backlog.check_flow, database)
        self.health.add(Check("outbox", flowing, needed=False, within=1.0))
        return database

    def sessions(
        self,
        *,
        cookie: str = "session",
        rules: SessionRules | None = None,
        same_site: Literal["lax", "strict", "none"] = "lax",
    ) -> CookieSessions:
        """Declare that browsers have sessions here, kept on the server.

        In the store that `SEAWALL_SESSIONS__URL` names, else beside the messages; every replica
        of every service with the same cookie and store sees them.
        """
        sessions = CookieSessions(cookie, rules or SessionRules(), same_site)
        self._declared.sessions.append(sessions)
        return sessions

    def client(
        self,
        service: str = "",
        *,
        version: str = "*",
        timeout: float = 2.0,
        url: str | None = None,
        config: ClientConfig | None = None,
    ) -> Client:
        """Declare that this service calls `service`, in a version that `version` allows.

        `timeout` is in seconds for each try. With `url` it calls that address (`http://...`)
        instead of asking the registry, for services that are not ours.
        """
        if not service and url is None:
            raise Misconfigured("a client needs the name of a service or a url")
        if config is None:
            config = ClientConfig(timeout=timeout)
        client = Client(service or str(url), version=version, url=url, config=config)
        self._declared.clients.append(client)
        return client

    def on(
        self,
        event: str | type,
        *,
        group: str | None = None,
        retry: RetryPolicy | None = None,
        config: ConsumerConfig | None = None,
        **rules: Unpack[Rules],
    ) -> Callable[[F], F]:
        """Handle an event: each consumer group gets it once; the group is the service's name if
        none is given, so replicas share the events.

        The handler is `async def f(event: Model)`, with `tx: Transaction` and
        `message: Delivery` beside it as wanted. It returns when done, raises `Retry` or
        `Reject`, or fails, which is retried as `retry` says. `rules` say how it is run; with
        `batch` it is `async def f(events: list[Model])`.
        """
        subscription = Subscription(topic_of(event), group or self.name)
        return self._handling(subscription, retry, consumer_config(config, rules))

    def worker(
        self,
        queue: str,
        *,
        retry: RetryPolicy | None = None,
        config: ConsumerConfig | None = None,
        **rules: Unpack[Rules],
    ) -> Callable[[F], F]:
        """Handle the jobs of a queue, each done by one of all workers. Handlers as in `on`."""
        subscription = Subscription(queue, WORKERS)
        return self._handling(subscription, retry, consumer_config(config, rules))

    def schedule(
        self,
        cron: str | None = None,
        *,
        every: float | None = None,
        zone: str = "UTC",
        name: str | None = None,
        missed: Missed = "skip",
        retry: RetryPolicy | None = None,
        **rules: Unpack[Rules],
    ) -> Callable[[F], F]:
        """Run `async def f()`, or `f(tick: Tick)`, at the times of `cron` in `zone`, or `every` so
        many seconds: each tick by one of all replicas, at least once.

        A tick that nobody fired within a minute, since no replica ran, is skipped, or with
        `missed="once"` the last of them is made up for.
        """
        ticks = ticks_of(cron, every, zone)
        config = consumer_config(None, rules)

        def declare(function: F) -> F:
            called = f"{self.name}.{name or function.__name__}"
            topic = f"{self.name}.schedule.{name or function.__name__}"
            self._handling(Subscription(topic, WORKERS), retry, config)(function)
            self._declared.schedules.append(Schedule(called, topic, ticks, missed))
            return function

        return declare

    def _handling(
        self,
        subscription: Subscription,
        retry: RetryPolicy | None,
        config: ConsumerConfig,
    ) -> Callable[[F], F]:
        if any(known.subscription == subscription for known in self._declared.handlers):
            raise Misconfigured(
                f"{subscription.topic} has a handler in group {subscription.group} already",
                fix="give the second one a group of its own",
            )

        self._check_consumers()

        def declare(function: F) -> F:
            self._declared.handlers.append(
                Declared(
                    function=function,
                    subscription=subscription,
                    config=config,
                    retry=retry or RetryPolicy(),
                )
            )
            return function

        return declare

    def _check_consumers(self) -> None:
        def stalled() -> None:
            raise_if(self.life.stalled if self.life is not None else ())

        def paused() -> None:
            raise_if(self.life.paused if self.life is not None else ())

        self.health.add(Check("messages arrive", stalled, needed=True, within=1.0))
        self.health.add(Check("messages are handled", paused, needed=False, within=1.0))

    def publishes(self, event: str | type, model: Any = None, *, structured: bool = False) -> None:
        """Say that this service publishes `event`, as `model` (or as the event's class).

        It is then part of the service's contract, and `publish` takes nothing else for that
        topic. `structured` writes the whole CloudEvent, attributes and data, into the body, for
        consumers that see no headers.
        """
        contracts.say(self._declared.published, event, model, structured=structured)

    @property
    def contract(self) -> Contract:
        """What this service publishes and consumes, with schemas."""
        told = (self.name, self.version, self.summary or self.description)
        return contracts.contract_of(*told, self._declared.published, self._declared.handlers)

    def on_start(self, hook: F) -> F:
        """Run `hook()` when the service starts, before it takes messages or requests."""
        self._declared.start_hooks.append(hook)
        return hook

    def on_stop(self, hook: F) -> F:
        """Run `hook()` when the service stops, the last declared first, after the last request."""
        self._declared.stop_hooks.append(hook)
        return hook

    def background(self, work: F) -> F:
        """Run `work()` beside the service for as long as it lives.

        When it fails it is logged and run again after a while; when the service stops it is
        cancelled.
        """
        self._declared.background.append(work)
        return work

    def check(self, name: str, *, needed: bool = False, within: float = 1.0) -> Callable[[F], F]:
        """Declare a health check, at most `within` seconds long and asked once a second.

        It passes unless it raises or returns False. Only a `needed` one makes this replica
        unready: that is for what this replica alone lacks. A shared server that is down belongs
        on `/health`, since it would make every replica unready at once.
        """

        def declare(function: F) -> F:
            probe: Probe = function
            self.health.add(Check(name, probe, needed=needed, within=within))
            return function

        return declare

    def offer(self, name: str, operation: Operation) -> Operation:
        """Let an operator ask `operation`, by `POST /-/NAME` with `SEAWALL_OPERATOR_TOKEN`; returns
        what is offered under that name already, if something is."""
        return self._operations.offer(name, operation)

    def observe(self, observer: Observer) -> None:
        """Tell `observer` every fact of this service's parts."""
        self.observer.add(observer)

    def post(
        self, path: str, *, idempotent: bool | Idempotency = False, **options: Any
    ) -> Callable[[F], F]:
        """FastAPI's `post`; with `idempotent=True` an `Idempotency-Key` makes it safe to repeat.

        The handler then runs in one transaction of the service's database, which also keeps the
        answer: a repetition with the same key gets that answer, and with another body 422. Calls
        to other services do not belong into such a handler; send them a message.
        """
        if not idempotent:
            return super().post(path, **options)
        how = idempotent if isinstance(idempotent, Idempotency) else Idempotency()
        extra = options.setdefault("openapi_extra", {})
        extra.setdefault("parameters", []).append(_KEY_PARAMETER)
        declare = super().post(path, **options)

        def remembered(function: F) -> F:
            self.memory.add(function, how)
            return declare(function)

        return remembered

    # doing

    async def publish(
        self,
        event: object,
        data: object = None,
        *,
        key: str | None = None,
        tx: Transaction | None = None,
        delay: float = 0.0,
        at: datetime | None = None,
        headers: Mapping[str, str] | None = None,
        message_id: str | None = None,
    ) -> str:
        """Publish an event: `publish("order.placed", data)` or `publish(OrderPlaced(...))`.

        With `tx` it is published if, and only if, that transaction commits. Without, this
        returns once the broker has stored it, and raises `Unavailable`, `Full` (not stored) or
        `OutcomeUnknown`. Events of one `key` stay in order where the broker can. It is delivered
        `delay` seconds from now, or `at` a time; for a broker that cannot hold it back it waits in
        the outbox, if this service has one. Returns the message's id.
        """
        topic = topic_of(event)
        value = data if isinstance(event, str) else event
        message = publishing.message(
            self.name, topic, value, key=key, headers=headers, message_id=message_id
        )
        message = contracts.held_to(self._declared.published, value, topic, message)
        return await self._put(topic, message, tx, delay_until(at, delay, SYSTEM.wall()))

    async def send(  # noqa: PLR0913 - all that can be said about a job
        self,
        queue: str,
        job: object,
        *,
        key: str | None = None,
        tx: Transaction | None = None,
        delay: float = 0.0,
        at: datetime | None = None,
        reply_to: str | None = None,
        headers: Mapping[str, str] | None = None,
        message_id: str | None = None,
    ) -> str:
        """Put a job into a queue; as `publish`. What the worker returns is published to
        `reply_to`, if that is given. Returns the message's id."""
        message = publishing.message(
            self.name,
            queue,
            job,
            key=key,
            reply_to=reply_to,
            headers=headers,
            message_id=message_id,
        )
        return await self._put(queue, message, tx, delay_until(at, delay, SYSTEM.wall()))

    async def request(
        self,
        topic: str,
        body: object,
        *,
        reply: type[R],
        timeout: float = 5.0,  # noqa: ASYNC109 - it travels with the request
        key: str | None = None,
    ) -> R:
        """Have `topic`'s handler do something, and return what it returned, as a `reply`.

        Raises `Refused` if it rejects, `DeadlineExceeded` if no answer came within `timeout`
        seconds (or the caller's own deadline) - the handler may have done it then - and what
        `publish` raises. A handler that has not begun by then does not begin.
        """
        requests = None if self.life is None else self.life.requests
        if requests is None:
            raise Misconfigured(f"{self.name} is not running", fix="ask from a handler or a hook")
        return await requests.ask(topic, body, reply, timeout, key)

    async def _put(self, topic: str, message: Message, tx: Transaction | None, delay: float) -> str:
        life, database = self.life, self._declared.database
        if tx is not None:
            await outbox.write(tx, topic, message, delay)
        elif life is None or life.publisher is None or life.transport is None:
            raise Misconfigured(
                f"{self.name} is not running", fix="publish from a handler or a start hook"
            )
        elif delay > 0 and not life.transport.caps.native_delay and database is not None:
            # Such a broker has its consumers wait, and those that are not ours would not.
            async with database.shared_transaction() as own:
                await outbox.write(own, topic, message, delay)
        else:
            await life.publisher.publish(topic, message, delay=delay)
        return message.id

    @property
    def context(self) -> context.Context:
        """The request or message being handled: its id, deadline and identity."""
        return context.current()

    # living

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await super().__call__(scope, receive, send)
        else:
            await self._edge(scope, receive, send)

    @asynccontextmanager
    async def _live(self, app: FastAPI) -> AsyncIterator[Any]:
        life = self._new_life()
        self.failure = None
        async with self._users(app) as state:
            try:
                self.memory.check()
                await life.start()
            except Exception as exc:
                self.failure = exc
                if isinstance(exc, SeawallError):
                    log.error("%s cannot start: %s", self.name, exc)
                else:
                    log.exception("%s cannot start", self.name)
                raise
            (life.expect_address if self.knows_address else life.find_address)()
            try:
                yield state
            finally:
                self.draining = True
                # A server that was told to stop at once cancels us; stopping is bounded.
                await asyncio.shield(life.stop())

    def _new_life(self) -> Life:
        self.life = Life(
            self.name,
            self.version,
            self.needs,
            self._declared,
            self.settings or Settings.from_environment(),
            observer=self.observer,
            in_flight=lambda: self.in_flight,
            credentials=self.credentials,
        )
        self.metrics.commit = self.life.settings.commit
        self.draining = False
        self.served_by = f"{self.name}/{self.life.instance_id}".encode()
        # FastAPI asks at every request whether an OpenTelemetry SDK is there, which costs 2 µs.
        # It is set up before a service starts, or not at all.
        if not self.root_path and not self._native_telemetry.enabled():
            self._edge.app = super(FastAPI, self).__call__
        self._edge.limit(self.life.settings.admission, self.observer)
        return self.life

    def _users(self, app: FastAPI) -> AbstractAsyncContextManager[Any]:
        return _no_lifespan() if self._user_lifespan is None else self._user_lifespan(app)

    async def listening(self, address: Address) -> None:
        """Told by whoever opened our socket: we are reached there, and may be registered."""
        if self.life is not None:
            await self.life.listening(address)

    def drain(self) -> None:
        """Begin to leave: not ready any more, no new messages; requests are still answered."""
        self.draining = True
        if self.life is not None:
            self.life.drain()

    @property
    def subscriptions(self) -> list[Subscription]:
        """What this service handles."""
        return [declared.subscription for declared in self._declared.handlers]

    async def settled(self) -> bool:
        """Is everything that was published with a transaction with the broker by now?"""
        database = self._declared.database
        if database is None or self.life is None:
            return True
        async with database.read() as session:
            waiting = await outbox.backlog(session)
        return waiting.unsent == 0

    @property
    def instance_state(self) -> InstanceState:
        return InstanceState.GONE if self.life is None else self.life.state

    def __repr__(self) -> str:
        return f"<Service {self.name} {self.version} {self.instance_state}>"


@asynccontextmanager
async def _no_lifespan() -> AsyncIterator[None]:
    yield
