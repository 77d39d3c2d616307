from typing import Any

import pytest
from pydantic import BaseModel

from seawall.errors import Misconfigured
from seawall.sagas.saga import Patience, Saga, Step, commands


class Order(BaseModel):
    order_id: str


def step(name: str, **more: Any) -> Step[Order]:
    return Step(name=name, command=f"queue.{name}", ask=lambda order: order, **more)


def test_a_group_of_neighbours_is_one_stage() -> None:
    saga = Saga("trip", Order, [step("a"), step("b", group="x"), step("c", group="x"), step("d")])
    assert saga.stages() == [[0], [1, 2], [3]]


@pytest.mark.parametrize(
    "steps",
    [
        [],
        [step("a"), step("a")],
        [step("a", pivot=True), step("b", pivot=True)],
        [step("a", group="x"), step("b"), step("c", group="x")],
        [step("a", group="x", pivot=True), step("b", group="x")],
    ],
)
def test_a_saga_that_means_nothing_is_refused(steps: list[Step[Order]]) -> None:
    with pytest.raises(Misconfigured):
        Saga("trip", Order, steps)


@pytest.mark.parametrize("name", ["", "A", "a:b", "a.b", "x" * 41])
def test_names_hold_nothing_that_separates_message_ids(name: str) -> None:
    with pytest.raises(Misconfigured):
        step(name)
    with pytest.raises(Misconfigured):
        Saga(name, Order, [step("a")])


def test_a_timeout_is_positive() -> None:
    with pytest.raises(Misconfigured):
        step("a", timeout=0)


def test_the_pause_doubles_up_to_its_cap() -> None:
    patience = Patience(base=1, cap=60)
    assert [patience.pause(n) for n in (1, 2, 3, 7, 8, 5000)] == [1, 2, 4, 60, 60, 60]


def test_the_commands_of_a_saga_say_what_they_are() -> None:
    def ask(order: Order) -> Order:
        return order

    saga = Saga(
        "order",
        Order,
        [
            Step(name="a", command="do.a", ask=ask, compensation="undo.a"),
            Step(name="b", command="do.b", ask=lambda order: order),
        ],
    )
    assert commands(saga) == {"do.a": Order, "undo.a": Order, "do.b": None}
