from dataclasses import replace

import pytest

from seawall.clock import SYSTEM
from seawall.errors import Unavailable
from seawall.messaging.base import Lag, Message, Subscription
from seawall.messaging.transports.memory import MemoryTransport
from seawall.service.gauges import CACHED_FOR, WITHIN, Queues
from seawall.testing.clock import ManualClock

MAIL = Subscription("mail", "workers")
ORDERS = Subscription("order.placed", "stock")


class Flaky(MemoryTransport):
    """Counts questions; fails, or never answers, those about `away` groups."""

    asked = 0
    failing: frozenset[Subscription] = frozenset()
    hanging: frozenset[Subscription] = frozenset()

    async def lag(self, subscription: Subscription) -> Lag:
        self.asked += 1
        if subscription in self.failing:
            raise Unavailable("the broker is away")
        if subscription in self.hanging:
            await self.never()
        return replace(await super().lag(subscription), dead=7)

    async def never(self) -> None:
        await ManualClock().sleep(1)


@pytest.fixture
async def transport() -> Flaky:
    transport = Flaky()
    await transport.open()
    await transport.provision([MAIL, ORDERS])
    await transport.publish("mail", [Message("1", b"{}"), Message("2", b"{}")])
    return transport


async def test_queues_are_asked_once_in_a_while(transport: Flaky) -> None:
    clock = ManualClock()
    queues = Queues(clock)
    for _ in range(5):
        await queues.refresh(transport, [MAIL, ORDERS])
    assert transport.asked == 2
    assert (queues.lags[MAIL].ready, queues.lags[ORDERS].ready) == (2, 0)
    clock.advance(CACHED_FOR)
    await transport.publish("mail", [Message("3", b"{}")])
    await queues.refresh(transport, [MAIL, ORDERS])
    assert queues.lags[MAIL].ready == 3


async def test_a_queue_that_cannot_be_asked_has_no_numbers(transport: Flaky) -> None:
    clock = ManualClock()
    queues = Queues(clock)
    await queues.refresh(transport, [MAIL, ORDERS])
    transport.failing = frozenset({MAIL})
    clock.advance(CACHED_FOR)
    await queues.refresh(transport, [MAIL, ORDERS])
    assert set(queues.lags) == {ORDERS}
    await queues.refresh(transport, [MAIL])  # it is not asked again at once
    assert transport.asked == 4


async def test_a_broker_that_never_answers_is_not_waited_for(transport: Flaky) -> None:
    queues = Queues()
    transport.hanging = frozenset({MAIL})
    began = SYSTEM.now()
    await queues.refresh(transport, [MAIL, ORDERS])
    assert SYSTEM.now() - began < WITHIN + 5.0
    assert set(queues.lags) == {ORDERS}
