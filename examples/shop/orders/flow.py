"""The pipeline of an order: reserve stock, charge the card, confirm.

Once the card is charged there is no way back: the confirmation is asked for until it succeeds.
Before that a rejection, or silence, undoes what was done, in reverse. Mail is sent when all is
over, and is never taken back.
"""

from pydantic import BaseModel

from seawall import Saga, Step
from shop.contracts import Charge, Confirm, Line, Refund, Release, Reserve


class OrderData(BaseModel):
    order_id: str
    customer: str
    lines: list[Line]
    cents: int
    card: str  # a real shop holds a token of its card processor here


def reserve(order: OrderData) -> Reserve:
    return Reserve(order_id=order.order_id, lines=order.lines)


def release(order: OrderData) -> Release:
    return Release(order_id=order.order_id)


def charge(order: OrderData) -> Charge:
    return Charge(order_id=order.order_id, cents=order.cents, card=order.card)


def refund(order: OrderData) -> Refund:
    return Refund(order_id=order.order_id)


def confirm(order: OrderData) -> Confirm:
    return Confirm(order_id=order.order_id)


ORDER = Saga(
    "order",
    OrderData,
    [
        Step(
            name="reserve",
            command="inventory.reserve",
            ask=reserve,
            compensation="inventory.release",
            undo=release,
        ),
        Step(
            name="charge",
            command="payments.charge",
            ask=charge,
            compensation="payments.refund",
            undo=refund,
            pivot=True,
        ),
        Step(name="confirm", command="inventory.confirm", ask=confirm),
    ],
)
