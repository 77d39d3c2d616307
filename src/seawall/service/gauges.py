"""What the parts of a running service are asked when somebody wants its metrics.

All of them belong to the event loop, and the text is written in a thread; so they are asked
first, on the loop, and the text is written from the answers.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from operator import attrgetter
from typing import Protocol

from seawall.clock import SYSTEM, Clock
from seawall.concurrency.tasks import Tasks
from seawall.errors import SeawallError
from seawall.messaging.base import Lag, Subscription, Transport
from seawall.messaging.outbox import Backlog
from seawall.resilience.breaker import State
from seawall.service.backlog import Depth
from seawall.service.life import Declarations, Life
from seawall.telemetry.metrics import Labels, Metrics
from seawall.topology import InstanceState

# Queues are asked at most this often, however many scrape.
CACHED_FOR = 3.0  # seconds

# What a scrape waits for a slow broker; one that is away costs this once in `CACHED_FOR`.
WITHIN = 0.5  # seconds

_BREAKER_VALUE = {State.CLOSED: 0.0, State.OPEN: 1.0, State.HALF_OPEN: 2.0}

Values = Iterable[tuple[Labels, float]]


class Gauged(Protocol):
    """Whose gauges these are."""

    name: str
    in_flight: int
    life: Life | None


class Queues:
    """How far the groups of a service are behind, at most `CACHED_FOR` seconds ago."""

    def __init__(self, clock: Clock = SYSTEM) -> None:
        self._clock = clock
        self._asked_at = float("-inf")
        self.lags: dict[Subscription, Lag] = {}  # without those that nobody answered for

    async def refresh(self, transport: Transport, subscriptions: Sequence[Subscription]) -> None:
        now = self._clock.now()
        if now - self._asked_at < CACHED_FOR:
            return  # also while somebody else is asking
        self._asked_at = now
        async with Tasks() as tasks:
            asked = {one: tasks.start(_lag(transport, one)) for one in subscriptions}
            if asked:
                await asyncio.wait(asked.values(), timeout=WITHIN)
            # Nothing is better than a number from before the broker went away.
            answers = {one: task.result() for one, task in asked.items() if task.done()}
        self.lags = {one: lag for one, lag in answers.items() if lag is not None}


async def _lag(transport: Transport, subscription: Subscription) -> Lag | None:
    try:
        return await transport.lag(subscription)
    except SeawallError:
        return None


class Gauges:
    """The gauges of one service, beside those its users add."""

    def __init__(self, service: Gauged, declared: Declarations, metrics: Metrics) -> None:
        self._service = service
        self.declared = declared
        self._metrics = metrics
        self._queues = Queues()
        self._outbox = Depth(cached_for=CACHED_FOR, within=WITHIN)
        self._reads: dict[str, Callable[[], Values]] = {}
        self._values: dict[str, list[tuple[Labels, float]]] = {}
        self._declare_own()
        self._declare_clients()
        self._declare_queues()
        self._declare_outbox()

    async def refresh(self) -> None:
        """Ask all of them, the queues included; never longer than `WITHIN` and a little."""
        life = self._service.life
        if life is None or life.transport is None:
            self._queues.lags, self._outbox.last = {}, None
        else:
            groups = [declared.subscription for declared in self.declared.handlers]
            async with Tasks() as tasks:
                if self.declared.database is not None:
                    tasks.start(self._outbox.refresh(self.declared.database))
                await self._queues.refresh(life.transport, groups)
                await tasks.join()
        self._values = {name: list(read()) for name, read in self._reads.items()}

    def _add(
        self,
        name: str,
        help_text: str,
        labels: tuple[str, ...],
        read: Callable[[], Values],
        *,
        counter: bool = False,
    ) -> None:
        self._reads[name] = read
        self._metrics.readings(
            name, help_text, labels, lambda: self._values.get(name, ()), counter=counter
        )

    # the service itself

    def _declare_own(self) -> None:
        def own(name: str, help_text: str, read: Callable[[], float]) -> None:
            self._add(name, help_text, ("service",), lambda: [((self._service.name,), read())])

        own("http_server_active_requests", "HTTP requests under way", self._in_flight)
        own(
            "seawall_event_loop_lag_seconds",
            "How late the event loop answered, at the last heartbeat",
            self._loop_lag,
        )
        own(
            "seawall_registry_staleness_seconds",
            "Since the registry was read; 0 where nobody asks it",
            self._staleness,
        )
        self._add(
            "seawall_registry_instances",
            "Instances that this one believes in; none where it calls nobody",
            ("service", "state"),
            self._instances,
        )

    def _in_flight(self) -> float:
        return self._service.in_flight

    def _loop_lag(self) -> float:
        return 0.0 if self._service.life is None else self._service.life.loop_lag

    def _staleness(self) -> float:
        return 0.0 if self._service.life is None else self._service.life.staleness

    def _instances(self) -> Values:
        life = self._service.life
        if life is None or life.watcher is None:
            return
        counted = Counter((one.service, one.state) for one in life.watcher.view.instances)
        for name in sorted({service for service, _ in counted}):
            for state in (InstanceState.STARTING, InstanceState.READY, InstanceState.DRAINING):
                yield (name, state.value), counted[name, state]

    # its clients

    def _declare_clients(self) -> None:
        self._add(
            "seawall_breaker_state",
            "0 closed, 1 open, 2 half-open; of a service as a whole and of its instances",
            ("caller", "callee"),
            self._breakers,
        )
        self._add(
            "seawall_retry_budget_ratio",
            "Share of the retries allowed at present that is left",
            ("caller", "callee"),
            self._budgets,
        )
        self._add(
            "seawall_lb_picks",
            "Tries sent to each instance that is known now",
            ("caller", "callee", "instance"),
            self._picks,
            counter=True,
        )

    def _breakers(self) -> Values:
        for client in self.declared.clients:
            for breaker in client.breakers():
                yield (self._service.name, breaker.name), _BREAKER_VALUE[breaker.state]

    def _budgets(self) -> Values:
        for client in self.declared.clients:
            yield (self._service.name, client.service), client.retry_budget()

    def _picks(self) -> Values:
        for client in self.declared.clients:
            for instance_id, picks in client.picks().items():
                yield (self._service.name, client.service, instance_id), picks

    # its queues

    def _declare_queues(self) -> None:
        for name, help_text, of in (
            ("seawall_queue_depth", "Messages ready to be handled", "ready"),
            ("seawall_queue_delayed", "Messages that are due later", "delayed"),
            ("seawall_queue_inflight", "Messages being handled", "in_flight"),
            (
                "seawall_queue_oldest_age_seconds",
                "Since the oldest message not yet settled was published",
                "oldest_age",
            ),
            ("seawall_dlq_depth", "Dead letters", "dead"),
        ):
            self._add(name, help_text, ("queue", "group"), partial(self._backlogs, attrgetter(of)))

        for name, help_text, state in (
            ("seawall_consumer_paused", "1 while failing handlers pause consumption", "paused"),
            ("seawall_consumer_stalled", "Messages that wait while none comes here", "stalled"),
            ("seawall_consumer_held", "Messages held by this replica", "held"),
        ):
            self._add(name, help_text, ("queue", "group"), partial(self._consumers, state))
        self._add(
            "seawall_queue_paused",
            "1 while an operator has paused the group",
            ("queue", "group"),
            self._paused,
        )

    def _paused(self) -> Values:
        life = self._service.life
        for consumer in life.consumers if life is not None else ():
            one = consumer.subscription
            yield (one.topic, one.group), float(life is not None and one in life.held_back)

    def _consumers(self, state: str) -> Values:
        for consumer in self._service.life.consumers if self._service.life is not None else ():
            one = consumer.snapshot()
            value = one.buffered + one.running if state == "held" else getattr(one, state)
            yield (consumer.subscription.topic, consumer.subscription.group), float(value)

    def _declare_outbox(self) -> None:
        for name, help_text, of in (
            ("seawall_outbox_unsent", "Messages written and not yet published", "unsent"),
            ("seawall_outbox_refused", "Messages the broker will never take", "refused"),
            (
                "seawall_outbox_oldest_age_seconds",
                "Since the oldest unpublished message was due",
                "oldest_age",
            ),
        ):
            self._add(name, help_text, ("service",), partial(self._waiting, attrgetter(of)))

    def _waiting(self, of: Callable[[Backlog], float]) -> Values:
        if self._outbox.last is not None:
            yield (self._service.name,), of(self._outbox.last)

    def _backlogs(self, of: Callable[[Lag], float]) -> Values:
        for subscription, lag in self._queues.lags.items():
            yield (subscription.topic, subscription.group), of(lag)
