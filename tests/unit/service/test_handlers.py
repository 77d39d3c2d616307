from typing import Any

import pytest
from pydantic import BaseModel

from seawall import Delivery, Event, Service, Transaction
from seawall.errors import Misconfigured
from seawall.service.events import topic_of
from seawall.service.handlers import wants


class Placed(Event, topic="order.placed"):
    number: int


async def only_event(event: Placed) -> None: ...
async def all_of_it(event: Placed, tx: Transaction, message: Delivery) -> None: ...
async def by_position(message: Delivery, tx: Transaction) -> None: ...
async def untyped(event) -> None: ...  # type: ignore[no-untyped-def]
async def with_default(event: dict[str, Any], factor: int = 3) -> None: ...
async def nothing_fits(event: Placed, count: int) -> None: ...
async def nameless(event: "NoSuchName") -> None: ...  # type: ignore[name-defined]  # noqa: F821
def no_coroutine(event: Placed) -> None: ...


@pytest.mark.parametrize(
    ("function", "event", "tx", "delivery"),
    [
        (only_event, True, None, None),
        (all_of_it, True, "tx", "message"),
        (by_position, False, "tx", "message"),
        (untyped, True, None, None),
        (with_default, True, None, None),
    ],
)
def test_what_a_function_wants(
    function: Any, event: bool, tx: str | None, delivery: str | None
) -> None:
    found = wants(function)
    assert (found.event is not None, found.tx, found.delivery) == (event, tx, delivery)


@pytest.mark.parametrize(
    ("function", "says"),
    [(nothing_fits, "count"), (nameless, "NoSuchName"), (no_coroutine, "async def no_coroutine")],
)
def test_what_cannot_be_given_is_refused(function: Any, says: str) -> None:
    with pytest.raises(Misconfigured, match=says):
        wants(function)


class Untitled(Event):
    pass


class Plain(BaseModel):
    pass


def test_topics() -> None:
    assert topic_of("a.b") == "a.b"
    assert topic_of(Placed) == topic_of(Placed(number=1)) == "order.placed"
    for nothing in (Untitled, Untitled(), Plain()):
        with pytest.raises(Misconfigured, match="has no topic"):
            topic_of(nothing)


def test_two_handlers_of_one_group_are_refused() -> None:
    service = Service("orders")
    service.on(Placed)(only_event)
    service.on(Placed, group="other")(only_event)
    with pytest.raises(Misconfigured, match="has a handler in group orders already"):
        service.on("order.placed")
