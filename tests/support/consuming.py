"""A consumer's world on memory, with time that a test moves by hand."""

from random import Random

from seawall.messaging.base import Delivery, Message, Subscription
from seawall.messaging.consumer import Consumer, ConsumerConfig
from seawall.messaging.policy import RetryPolicy
from seawall.messaging.transports.memory import Broker, MemoryTransport
from seawall.messaging.turn import Turn
from seawall.testing.clock import ManualClock
from tests.support.waiting import settle

SUB = Subscription("t", "g")


class Bench:
    """A broker, a consumer's world, and what happened in it."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.broker = Broker()
        self.facts: list[object] = []
        self.transport = self.client()
        self.seen: list[tuple[str, int]] = []

    def client(self) -> MemoryTransport:
        return MemoryTransport(self.broker, clock=self.clock, observer=self.facts.append)

    def consumer(
        self,
        handler: object,
        *,
        transport: MemoryTransport | None = None,
        policy: RetryPolicy | None = None,
        turn: Turn | None = None,
        **config: object,
    ) -> Consumer:
        return Consumer(
            transport or self.transport,
            SUB,
            handler,  # type: ignore[arg-type]
            config=ConsumerConfig(**config),  # type: ignore[arg-type]
            retry=policy or RetryPolicy(immediate=0, base=1.0),
            turn=turn,
            observer=self.facts.append,
            clock=self.clock,
            rng=Random(1),
        )

    async def pass_time(self, seconds: float, step: float = 1.0) -> None:
        """Let time pass in steps, with all that follows from each."""
        passed = 0.0
        while passed < seconds:
            await settle()
            self.clock.advance(step)
            passed += step
        await settle()

    async def publish(self, *names: str, **headers: str) -> None:
        await self.transport.publish("t", [Message(name, name.encode(), headers) for name in names])

    def of(self, kind: type) -> list[object]:
        return [fact for fact in self.facts if isinstance(fact, kind)]

    async def note(self, delivery: Delivery) -> None:
        self.seen.append((delivery.message.id, delivery.attempt))
