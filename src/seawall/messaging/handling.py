"""Workers: take what is held, run the handler, and say how it ended.

The plain path (one message each, no breaker, no rate, no order) is a loop with nothing in it that
it does not need; the others are chosen when the consumer is made.
"""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from random import Random

from seawall.clock import Clock
from seawall.concurrency.tasks import Tasks
from seawall.messaging.base import Delivery
from seawall.messaging.batches import gravest, outcomes_of
from seawall.messaging.consumer_config import ConsumerConfig
from seawall.messaging.failures import account
from seawall.messaging.holding import Holding
from seawall.messaging.ordering import Lanes
from seawall.messaging.pausing import Pausing
from seawall.messaging.policy import EXHAUSTED, PARKED, Again, GiveUp, RetryPolicy, hopeless
from seawall.messaging.settling import Settling
from seawall.messaging.slots import NOT_OURS, Handler, Slot, Stopped
from seawall.resilience.breaker import Permit
from seawall.resilience.limiter import TokenBucket

# How long one worker may keep the event loop with handlers that never wait, before it lets
# others (fetching, acking, the rest of the service) have their turn.
TURN = 0.001  # seconds

# The error of a dead letter whose key is parked.
BEFORE_IT = "a message of its key was given up before it"


class Handling:
    """The workers of one consumer."""

    def __init__(
        self,
        handler: Handler,
        config: ConsumerConfig,
        policy: RetryPolicy,
        holding: Holding,
        settling: Settling,
        pausing: Pausing | None,
        *,
        clock: Clock,
        rng: Random,
    ) -> None:
        self._handler = handler
        self._config = config
        self._policy = policy
        self._holding = holding
        self._settling = settling
        self._pausing = pausing
        self._clock = clock
        self._rng = rng
        # A second's worth at once would be a burst that the limit is there to prevent.
        self._bucket = None if config.rate is None else TokenBucket(config.rate, 1)
        self._queue_for_tokens = asyncio.Lock()
        self._guarded = bool(pausing or config.rate or config.ordered)
        self._slots = [Slot() for _ in range(config.concurrency)]
        self._tasks = Tasks()

    def start(self, tasks: Tasks) -> None:
        """Begin, with workers (and what they start) among `tasks`."""
        self._tasks = tasks
        work = self._work if self._config.batch == 1 else self._work_in_batches
        for slot in self._slots:
            slot.task = tasks.start(work(slot), name="consumer-worker")

    def held(self) -> list[Delivery]:
        """Those that workers have."""
        return [delivery for slot in self._slots for delivery in slot.held()]

    def stop_overdue(self) -> None:
        latest = self._clock.now() - self._config.timeout
        for slot in self._slots:
            if slot.handling and slot.since < latest:
                slot.stop(Stopped.TIMED_OUT)

    def stop_lost(self, lost: Sequence[Delivery]) -> None:
        """Others have these now: stop their handlers."""
        gone = {id(delivery) for delivery in lost}
        for slot in self._slots:
            if any(id(delivery) in gone for delivery in slot.held()):
                slot.stop(Stopped.LEASE_LOST)

    # One message each

    async def _work(self, slot: Slot) -> None:
        loop = asyncio.get_running_loop()
        clock = self._clock
        holding = self._holding
        buffer = holding.buffer
        handle = self._handle_guarded if self._guarded else self._handle
        while True:
            if not buffer:
                await holding.wait_idle()
                continue
            now = clock.now()
            turn_ends = now + TURN
            while buffer:
                if now >= turn_ends:
                    holding.rest()
                    await clock.sleep(0)
                    now = clock.now()
                    turn_ends = now + TURN
                    continue
                delivery = buffer.popleft()
                slot.delivery = delivery
                slot.since = now
                holding.running += 1
                if buffer and holding.idle and not holding.spreading:
                    # Runs when this worker waits for the first time: handlers that never wait
                    # need no second worker.
                    holding.spreading = True
                    loop.call_soon(holding.spread)
                await handle(slot, delivery)
                slot.delivery = None
                holding.running -= 1
                now = clock.now()
            holding.rest()

    async def _handle(self, slot: Slot, delivery: Delivery) -> Exception | None:
        """Handle and settle; returns how it failed."""
        why = hopeless(delivery, self._policy.attempts, self._clock.wall)
        if why is not None:
            await self._settling.die(delivery, *why)
            return NOT_OURS
        failure = await slot.run(self._handler, delivery, self._config.timeout)
        if failure is None:
            self._settling.done(delivery, self._clock.now() - slot.since)
        elif failure is not NOT_OURS:
            await self._fail(delivery, failure)
        return failure

    async def _handle_guarded(self, slot: Slot, delivery: Delivery) -> None:
        """As `_handle`, under the breaker and the rate, and in the order of keys."""
        slot.lost = False
        permit: Permit | None = None
        if self._pausing is not None:
            permit = await self._pausing.permit(wait=self._holding.lanes is not None)
            if permit is None:
                await self._settling.give_back([delivery])
                return
        await self._tokens(1)
        slot.since = self._clock.now()
        failure = NOT_OURS if slot.lost else await self._handle(slot, delivery)
        if permit is not None:
            self._report(permit, failure)
        if failure is None or failure is NOT_OURS:
            self._holding.go_on_after(delivery)

    async def _tokens(self, count: int) -> None:
        """Wait until the rate allows `count` messages more; whoever came first goes first."""
        if self._bucket is None:
            return
        async with self._queue_for_tokens:
            for _ in range(count):
                while (wait := self._bucket.acquire(self._clock.now())) > 0:
                    await self._clock.sleep(wait)

    def _report(self, permit: Permit, failure: Exception | None) -> None:
        assert self._pausing is not None
        if failure is NOT_OURS:
            self._pausing.withdraw(permit)
        elif self._pausing.report(permit, failure) and self._holding.lanes is None:
            # What has an order keeps its place here instead, and its lease.
            unstarted = self._holding.unstarted()
            self._tasks.start(self._settling.give_back(unstarted), name="consumer-releasing")

    # Failing

    async def _fail(self, delivery: Delivery, failure: Exception) -> None:
        error = account(failure)
        decision = self._policy.decide(delivery.attempt, failure, self._rng)
        lanes, key = self._holding.lanes, delivery.message.key
        if lanes is not None and key is not None:
            await self._fail_in_order(lanes, key, delivery, decision, error)
        elif isinstance(decision, Again):
            await self._settling.retry(delivery, decision.delay, error)
        else:
            await self._settling.die(delivery, decision.reason, error)

    async def _fail_in_order(
        self,
        lanes: Lanes[Delivery],
        key: str,
        delivery: Delivery,
        decision: Again | GiveUp,
        error: str,
    ) -> None:
        if isinstance(decision, Again):
            if lanes.may_block(key, decision.delay, self._clock.now()):
                self._settling.retried(delivery, decision.delay, error)
                again = replace(delivery, attempt=delivery.attempt + 1)
                self._holding.block(again)
                self._tasks.start(self._later(again, decision.delay), name="consumer-blocked-key")
                return
            decision = GiveUp(EXHAUSTED)
        await self._settling.die(delivery, decision.reason, error)
        if decision.reason == EXHAUSTED and lanes.parks:
            await self._park(lanes, key, delivery)
        self._holding.go_on_after(delivery)

    async def _later(self, delivery: Delivery, delay: float) -> None:
        await self._clock.sleep(delay)
        self._holding.unblock(delivery)

    async def _park(self, lanes: Lanes[Delivery], key: str, delivery: Delivery) -> None:
        followers = lanes.park(key, delivery.message.id)
        self._settling.parked(delivery, key, len(followers))
        for follower in followers:
            await self.bury(follower)

    async def bury(self, delivery: Delivery) -> None:
        """Its key is parked."""
        await self._settling.die(delivery, PARKED, BEFORE_IT)

    # In batches

    async def _work_in_batches(self, slot: Slot) -> None:
        holding = self._holding
        buffer = holding.buffer
        while True:
            if not buffer:
                await holding.wait_idle()
                continue
            await self._linger()
            taken = [buffer.popleft() for _ in range(min(self._config.batch, len(buffer)))]
            if not taken:  # another worker was quicker
                continue
            slot.delivery, slot.others, slot.lost = taken[0], taken[1:], False
            holding.running += len(taken)
            holding.check_room()
            holding.spread()
            await self._handle_batch(slot, taken)
            slot.delivery, slot.others = None, ()
            holding.running -= len(taken)
            holding.rest()
            await self._clock.sleep(0)  # handlers that never wait would keep the loop

    async def _linger(self) -> None:
        """Give a batch that is not full the time to become so."""
        holding, size = self._holding, self._config.batch
        if self._config.linger:
            with suppress(TimeoutError):
                async with self._clock.timeout(self._config.linger):
                    while 0 < len(holding.buffer) < size:
                        holding.came.clear()
                        await holding.came.wait()

    async def _handle_batch(self, slot: Slot, taken: Sequence[Delivery]) -> None:
        permit: Permit | None = None
        if self._pausing is not None:
            permit = await self._pausing.permit(wait=False)
            if permit is None:
                await self._settling.give_back(taken)
                return
        good: list[Delivery] = []
        for delivery in taken:
            why = hopeless(delivery, self._policy.attempts, self._clock.wall)
            if why is None:
                good.append(delivery)
            else:
                await self._settling.die(delivery, *why)
        await self._tokens(len(good))
        slot.since = self._clock.now()
        failure = await self._handle_together(slot, good) if good else NOT_OURS
        if permit is not None:
            self._report(permit, failure)

    async def _handle_together(self, slot: Slot, batch: list[Delivery]) -> Exception | None:
        """Handle and settle a batch; returns its gravest failure."""
        failure: Exception | None = NOT_OURS
        if not slot.lost:
            failure = await slot.run(self._handler, batch, self._config.timeout)
        if failure is NOT_OURS:  # some are others' now: the rest is given back, too
            await self._settling.give_back(batch)
            return failure
        outcomes: Sequence[Exception | None] = [failure] * len(batch)
        if failure is None:
            outcomes = outcomes_of(slot.result, batch)
        seconds = (self._clock.now() - slot.since) / len(batch)
        for delivery, outcome in zip(batch, outcomes, strict=True):
            if outcome is None:
                self._settling.done(delivery, seconds)
            else:
                await self._fail(delivery, outcome)
        return gravest(outcomes)
