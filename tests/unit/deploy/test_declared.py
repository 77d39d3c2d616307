"""What the code says of itself is read from it, and nothing of it runs."""

from seawall import Service
from seawall.deploy.declared import declared
from seawall.messaging.base import Subscription
from seawall.messaging.ordering import Ordered


def test_a_service_that_declares_nothing_needs_nothing() -> None:
    said = declared(Service("orders", version="1.2.3", needs=["stock"]))
    assert (said.version, said.needs) == ("1.2.3", ("stock",))
    assert (said.calls, said.handlings, said.takes_turns, said.pool) == ((), (), False, None)


def test_calls_handlers_and_pools_are_what_they_were_declared() -> None:
    service = Service("orders")
    service.client("stock", timeout=0.5)
    service.database(min_size=1, max_size=7)

    @service.on("payment.made", timeout=9.0)
    async def paid(event: dict[str, int]) -> None: ...

    said = declared(service)
    assert [(call.callee, call.timeout) for call in said.calls] == [("stock", 0.5)]
    (handling,) = said.handlings
    assert (handling.subscription, handling.timeout) == (
        Subscription("payment.made", "orders"),
        9.0,
    )
    assert (said.pool, said.takes_turns) == (7, False)


def test_who_keeps_an_order_or_a_schedule_takes_turns() -> None:
    ordered, scheduled = Service("orders"), Service("nightly")

    @ordered.on("payment.made", ordered=Ordered())
    async def paid(event: dict[str, int]) -> None: ...

    @scheduled.schedule("0 3 * * *")
    async def tidy() -> None: ...

    assert declared(ordered).takes_turns
    assert declared(scheduled).takes_turns
