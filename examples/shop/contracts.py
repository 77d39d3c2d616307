"""What the services of the shop tell each other: commands, answers and events.

The one thing they share. A field may be added; none is renamed, removed or given another
meaning, since services are released one by one.

Money is in cents, as whole numbers. Every command names its order, which is how a participant
recognises one that it has seen before.
"""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Sku = Annotated[str, Field(pattern=r"^[a-z0-9-]{1,40}$")]
OrderId = Annotated[str, Field(pattern=r"^[a-z0-9-]{1,60}$")]


class Contract(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class Line(Contract):
    sku: Sku
    quantity: int = Field(ge=1, le=100)


# answers


class Suggestions(Contract):
    skus: list[str]


# commands of the order saga, and what they are answered with


class Reserve(Contract):
    order_id: OrderId
    lines: list[Line]


class Release(Contract):
    order_id: OrderId


class Confirm(Contract):
    order_id: OrderId


class ReservationState(Contract):
    order_id: OrderId
    state: str


class Charge(Contract):
    order_id: OrderId
    cents: int
    card: str


class Refund(Contract):
    order_id: OrderId


class ChargeState(Contract):
    order_id: OrderId
    state: str


# events


class UserRegistered(Contract):
    """Topic `user.registered`."""

    user_id: str
    email: str


class ProductPriced(Contract):
    """Topic `product.priced`. Of two for one product the greater `revision` is the newer."""

    sku: Sku
    cents: int
    revision: int


class OrderMoved(Contract):
    """Topic `order.moved`: each change of an order's status. `sequence` grows with each."""

    order_id: OrderId
    customer: str
    status: str
    sequence: int
    at: float  # seconds since 1970


class OrderEnded(Contract):
    """Topics `order.completed` and `order.cancelled`."""

    order_id: OrderId
    customer: str
    cents: int
    reason: str | None = None
