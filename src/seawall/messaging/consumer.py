"""The runtime of one subscription: fetch, handle, settle, and stop without loss.

Who does what, all of it bounded and owned by the consumer's block:

    fetching   takes as many messages as there is room for, never more
    workers    `concurrency` of them run the handler, one message (or batch) each at a time
    settling   sends what is done in natural batches
    renewing   keeps the leases of what is still here, and stops handlers that lost theirs
    watching   connects anew when messages wait and none comes

A message may end its process, and with it every other delivery there: they all come back, again
and again together, and would all be taken for poison. So a message on its last attempt whose
process died before is handled alone: nothing else of this subscription is held meanwhile, neither
here nor by the transport.
"""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from random import Random
from typing import Self

from seawall.clock import SYSTEM, Clock
from seawall.concurrency.tasks import Tasks
from seawall.errors import Misconfigured, SeawallError
from seawall.facts import Observer, ignore
from seawall.messaging.base import Delivery, Subscription, Transport
from seawall.messaging.consumer_config import ConsumerConfig as ConsumerConfig
from seawall.messaging.consumer_config import ConsumerSnapshot as ConsumerSnapshot
from seawall.messaging.facts import ConsumerRecovered, ConsumerStalled, Fetched
from seawall.messaging.handling import Handling
from seawall.messaging.holding import Holding
from seawall.messaging.lookahead import Lookahead
from seawall.messaging.pausing import Pausing
from seawall.messaging.policy import RetryPolicy
from seawall.messaging.reach import Reach
from seawall.messaging.settling import Settling
from seawall.messaging.slots import Handler
from seawall.messaging.turn import LOOK, Standby, Turn
from seawall.messaging.watchdog import LOOKS, Reconnecting, Watchdog


class Consumer:
    """Runs `handler` for every message of a subscription while its block is open.

    At least once: the handler returned before a message is acknowledged; after a crash it comes
    again, with a higher `attempt`. A handler that raises has the message retried as `retry`
    says; `Retry` and `Reject` (raised or returned) say it themselves. Order is not kept when
    `concurrency` is above 1, unless `ordered` says so; where the broker needs one member at a time
    for that, it is the one whose `turn` it is. A handler whose lease was lost, or which
    overran `timeout`, is cancelled. Handlers share their worker's context variables: set ones are
    to be reset.

    When the block ends no more is fetched, running handlers get `drain` seconds, what was not
    handled is released for others, and the last acknowledgements are sent.
    """

    def __init__(  # noqa: PLR0913 - its surroundings, each by name
        self,
        transport: Transport,
        subscription: Subscription,
        handler: Handler,
        *,
        config: ConsumerConfig | None = None,
        retry: RetryPolicy | None = None,
        turn: Turn | None = None,
        observer: Observer = ignore,
        clock: Clock = SYSTEM,
        rng: Random | None = None,
    ) -> None:
        self.subscription = subscription
        self._transport = transport
        self._config = config = config or ConsumerConfig()
        self._policy = policy = retry or RetryPolicy()
        self._observer = observer
        self._clock = clock
        rng = rng or Random()
        self._reach = Reach(subscription, observer, clock, rng)
        self._settling = Settling(transport, subscription, self._reach, observer, self._acked)
        self._holding = holding = Holding(
            config.most, config.ordered, lambda: self._settling.under_way
        )
        self._ahead: Lookahead | None = None
        if not config.prefetch and config.batch == 1:
            rate = config.rate or float("inf")
            self._ahead = Lookahead(config.concurrency, config.most, rate)
        self._pausing: Pausing | None = None
        if config.breaker is not None:
            self._pausing = Pausing(config.breaker, subscription, observer, clock, rng)
        self._handling = Handling(
            *(handler, config, policy, holding, self._settling, self._pausing),
            clock=clock,
            rng=rng,
        )
        self._standby: Standby | None = None
        if turn is not None and config.ordered is not None and not config.ordered.alone:
            self._standby = Standby(turn, clock)
        self._leaving = False
        self._watchdog = Watchdog(config.stalled_after)
        self._asking = False
        self._let = asyncio.Event()  # cleared while somebody has paused us
        self._let.set()
        self._tasks = Tasks()
        self._fetching: asyncio.Task[None] | None = None

    # Starting and stopping

    async def start(self) -> None:
        """Make sure the group exists, as soon as the broker answers, and begin to consume."""
        self._check_order()
        self._holding.room.set()
        self._handling.start(self._tasks)
        self._tasks.start(self._settling.run(), name="consumer-settling")
        self._tasks.start(self._renew_all(), name="consumer-renewing")
        if self._transport.caps.shared:
            self._tasks.start(self._watch(), name="consumer-watching")
        if self._standby is not None and not self._transport.caps.ordered:
            self._tasks.start(self._in_turn(self._standby), name="consumer-in-turn")
        else:
            self._fetch_on()

    def _fetch_on(self) -> None:
        self._fetching = self._tasks.start(self._fetch_all(), name="consumer-fetching")

    def _check_order(self) -> None:
        ordered, caps, topic = self._config.ordered, self._transport.caps, self.subscription.topic
        if ordered is None or caps.ordered:
            return
        if not caps.fifo:
            raise Misconfigured(
                f"{topic} cannot be handled in order: this broker does not keep any",
                fix="a broker that does, or handlers that do not depend on it",
            )
        if not ordered.alone and self._standby is None:
            raise Misconfigured(
                f"{topic} cannot be handled in order by several members of a group: this broker"
                " gives the messages of one key to any of them",
                fix="a turn (services have one), Kafka, or Ordered(alone=True) and one replica",
            )

    async def pause(self) -> None:
        """Take no further messages until `resume`; what no handler has begun is released."""
        self._let.clear()
        if self._fetching is not None and not self._fetching.done():
            await self._fetch_no_more()
            await self._reach.briefly(self._quiesce())
            if not self._leaving:
                self._fetch_on()  # it waits until we may, once it has made sure that the group is
        await self._reach.briefly(self._settling.release(self._holding.unstarted()))

    def resume(self) -> None:
        """Take messages again."""
        self._let.set()

    async def drain(self, within: float | None = None) -> None:
        """Stop: fetch no more, let handlers finish for `within` seconds, release the rest."""
        self._leaving = True
        await self._fetch_no_more()
        limit = self._config.drain if within is None else within
        await self._reach.briefly(self._settling.release(self._holding.unstarted()))
        with suppress(TimeoutError):  # what still runs then is cancelled below, and released
            async with asyncio.timeout(limit):
                await self._holding.at_rest()
        running = self._handling.held()
        await self._tasks.cancel()
        await self._reach.briefly(self._settling.release(running))
        await self._reach.briefly(self._settling.flush())
        if self._standby is not None:
            await self._reach.briefly(self._standby.give())

    async def _fetch_no_more(self) -> None:
        if self._fetching is not None and not self._fetching.done():
            self._fetching.cancel()
            await asyncio.wait([self._fetching])

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.drain()
        async with self._tasks:  # raises what a task died of, if one did
            pass

    def snapshot(self) -> ConsumerSnapshot:
        return ConsumerSnapshot(
            buffered=self._holding.waiting,
            running=self._holding.running,
            settling=self._settling.under_way,
            away=self._reach.away,
            fetching=self._fetching is not None and not self._fetching.done(),
            paused=self._pausing is not None and self._pausing.paused,
            stalled=self._watchdog.stalled,
        )

    def __repr__(self) -> str:
        topic, group = self.subscription.topic, self.subscription.group
        return f"<Consumer {topic}/{group} {self.snapshot()}>"

    # Fetching

    async def _in_turn(self, standby: Standby) -> None:
        """Fetch while it is our turn."""
        await self._reach.persistently(lambda: self._transport.provision([self.subscription]))
        while True:
            await standby.wait()
            await self._until_none_is_held()
            if self._leaving:
                return
            self._fetch_on()
            await standby.keep()
            await self._fetch_no_more()
            self._handling.stop_lost(self._handling.held())
            await self._reach.persistently(self._quiesce)
            await self._settling.give_back(self._holding.unstarted())

    async def _until_none_is_held(self) -> None:
        """Another member had its turn before us: what it still holds comes first.

        If it died, that comes back when its leases have run out, and no later than one from now.
        """
        until = self._clock.now() + self._config.lease
        while self._clock.now() < until:
            with suppress(SeawallError):
                if not (await self._transport.lag(self.subscription)).in_flight:
                    return
            await self._clock.sleep(LOOK)

    async def _fetch_all(self) -> None:
        await self._reach.persistently(lambda: self._transport.provision([self.subscription]))
        while True:
            await self._let.wait()
            await self._holding.room.wait()
            limit = self._holding.free
            if limit <= 0:  # what was handled since there was room is not acknowledged yet
                self._holding.check_room()
                continue
            on_trial = False
            if self._pausing is not None:
                if self._pausing.paused:
                    await self._reach.persistently(self._quiesce)
                limit = await self._pausing.allowed(limit)
                on_trial = self._pausing.paused
            deliveries = await self._reach.persistently(lambda limit=limit: self._fetch(limit))  # type: ignore[misc]
            if deliveries:
                self._observer(Fetched(self.subscription, len(deliveries)))
                await self._take(deliveries)
                if self._holding.suspects:
                    await self._handle_alone()
                elif on_trial:
                    await self._holding.at_rest()

    async def _fetch(self, limit: int) -> Sequence[Delivery]:
        self._asking = True
        try:
            return await self._transport.fetch(
                self.subscription, limit, wait=self._config.wait, lease=self._config.lease
            )
        finally:
            self._asking = False

    async def _quiesce(self) -> None:
        await self._transport.quiesce(self.subscription)

    async def _take(self, deliveries: Sequence[Delivery]) -> None:
        if self._watchdog.stalled:
            self._observer(ConsumerRecovered(self.subscription))
        self._watchdog.delivered()
        holding, lanes, last = self._holding, self._holding.lanes, self._policy.attempts
        if lanes is None and not any(delivery.dropped for delivery in deliveries):
            holding.buffer.extend(deliveries)  # nearly always
        else:
            for delivery in deliveries:
                message = delivery.message
                if lanes is not None and lanes.is_parked(message.key, message.id):
                    await self._handling.bury(delivery)
                else:
                    holding.put(delivery, alone=delivery.dropped and delivery.attempt == last)
        holding.arrived()

    async def _handle_alone(self) -> None:
        """Handle one of the suspects with nothing beside it; the others are another's turn."""
        holding = self._holding
        await self._reach.persistently(self._quiesce)
        await holding.at_rest()
        if others := holding.suspects[1:]:
            await self._settling.give_back(others)
        holding.buffer.extend(holding.suspects[:1])
        holding.suspects.clear()
        holding.spread()
        await holding.at_rest()
        holding.check_room()

    def _acked(self, seconds: Sequence[float]) -> None:
        if self._ahead is not None:
            self._ahead.note(seconds)
            self._holding.limit = self._ahead.held
        self._holding.check_room()

    # Leases

    async def _renew_all(self) -> None:
        while True:
            await self._clock.sleep(self._config.lease / 3)
            self._handling.stop_overdue()
            held = [*self._handling.held(), *self._holding]
            if held:
                lost = await self._reach.persistently(
                    lambda held=held: self._transport.extend(held, lease=self._config.lease)  # type: ignore[misc]
                )
                self._holding.drop(lost)
                self._handling.stop_lost(lost)

    # Watching

    async def _watch(self) -> None:
        while True:
            await self._clock.sleep(self._config.stalled_after / LOOKS)
            if not self._asking or self._reach.away:
                self._watchdog.unknown()
                continue
            try:
                lag = await self._transport.lag(self.subscription)
            except SeawallError:
                self._watchdog.unknown()
                continue
            before = self._watchdog.stalled
            seconds = self._watchdog.look(lag.ready, self._clock.now())
            if seconds:
                self._observer(ConsumerStalled(self.subscription, lag.ready, seconds))
                await self._connect_anew()
            elif before and not self._watchdog.stalled:
                self._observer(ConsumerRecovered(self.subscription))

    async def _connect_anew(self) -> None:
        transport = self._transport
        await self._fetch_no_more()
        if isinstance(transport, Reconnecting):
            await self._reach.briefly(transport.reconnect(self.subscription))
        self._fetch_on()
