"""The audit: whether what the customers were told, the services' ledgers and the mailbox agree.

Pure. Everything is read after the shop has come to rest.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

COMPLETED = "completed"
CANCELLED = "cancelled"


@dataclass(frozen=True, slots=True)
class Accepted:
    """What a customer was told: this order is ours now."""

    order_id: str
    key: str  # the Idempotency-Key it was asked under


@dataclass(frozen=True, slots=True)
class Order:
    order_id: str
    status: str
    cents: int


@dataclass(frozen=True, slots=True)
class Charge:
    """One order's money at the card processor: how often it was taken and given back."""

    order_id: str
    cents: int
    taken: int
    returned: int


@dataclass(frozen=True, slots=True)
class Reservation:
    order_id: str
    state: str  # held, sold, released
    lines: Mapping[str, int]  # quantity by SKU


@dataclass(frozen=True, slots=True)
class Stock:
    sku: str
    initial: int
    available: int


@dataclass(frozen=True, slots=True)
class Ledgers:
    orders: Sequence[Order]
    charges: Sequence[Charge]
    reservations: Sequence[Reservation]
    stock: Sequence[Stock]
    mails: Sequence[str]  # the order each mail is about


@dataclass(frozen=True, slots=True)
class Books:
    accepted: int
    completed: int
    declined: int  # cancelled, since the card or the stock said no
    compensated: int  # cancelled after something had to be undone, and was
    lost: int  # accepted, and never brought to an end
    charged_twice: int
    mails: int
    problems: list[str] = field(default_factory=list)  # what does not add up, in words

    @property
    def clean(self) -> bool:
        return not self.lost and not self.charged_twice and not self.problems


def audit(accepted: Iterable[Accepted], ledgers: Ledgers) -> Books:
    """Compare what was promised with what is written."""
    promised = {promise.order_id for promise in accepted}
    orders = {order.order_id: order for order in ledgers.orders}
    completed = {o for o, order in orders.items() if order.status == COMPLETED}
    cancelled = {o for o, order in orders.items() if order.status == CANCELLED}
    lost = (promised | set(orders)) - completed - cancelled
    reserved = {r.order_id for r in ledgers.reservations if r.lines}
    return Books(
        accepted=len(promised),
        completed=len(completed),
        declined=len(cancelled),
        compensated=len(cancelled & reserved),
        lost=len(lost),
        charged_twice=sum(charge.taken > 1 for charge in ledgers.charges),
        mails=len(ledgers.mails),
        problems=[
            *_repeated_keys(accepted),
            *_money(ledgers.charges, orders, completed),
            *_goods(ledgers, completed),
            *_mail(Counter(ledgers.mails), completed | cancelled),
        ],
    )


def _repeated_keys(accepted: Iterable[Accepted]) -> Iterable[str]:
    """One key is one order, however often it was sent."""
    first: dict[str, str] = {}
    for promise in accepted:
        if first.setdefault(promise.key, promise.order_id) != promise.order_id:
            yield f"key {promise.key} made two orders"


def _money(
    charges: Sequence[Charge], orders: Mapping[str, Order], completed: set[str]
) -> Iterable[str]:
    """A completed order was paid once, in full; any other has all its money back."""
    paid = {charge.order_id: charge for charge in charges}
    for order_id in completed:
        charge = paid.get(order_id)
        if charge is None or (charge.taken, charge.returned) != (1, 0):
            yield f"order {order_id} is completed and not paid once: {charge}"
        elif charge.cents != orders[order_id].cents:
            yield f"order {order_id} costs {orders[order_id].cents} and was paid {charge.cents}"
    for charge in charges:
        if charge.order_id not in completed and charge.taken != charge.returned:
            yield f"order {charge.order_id} is not completed and its money was kept: {charge}"


def _goods(ledgers: Ledgers, completed: set[str]) -> Iterable[str]:
    """What is missing from the shelves is what completed orders got."""
    gone: Counter[str] = Counter()
    sold = set()
    for reservation in ledgers.reservations:
        if reservation.state == "held":
            yield f"order {reservation.order_id} still holds stock"
        elif reservation.state == "sold":
            sold.add(reservation.order_id)
            gone.update(reservation.lines)
    for order_id in sold ^ completed:
        yield f"order {order_id} is {'sold, not completed' if order_id in sold else 'not sold'}"
    for shelf in ledgers.stock:
        if shelf.initial - shelf.available != gone[shelf.sku]:
            missing = shelf.initial - shelf.available
            yield f"{shelf.sku}: {missing} missing from the shelf, {gone[shelf.sku]} sold"


def _mail(mails: Counter[str], ended: set[str]) -> Iterable[str]:
    """Each customer hears how the order ended. A second copy is a nuisance that SMTP cannot
    exclude (a crash between its 250 and our commit); a missing one is an error."""
    for order_id in ended - set(mails):
        yield f"order {order_id} ended without a mail"
    for order_id in set(mails) - ended:
        yield f"a mail about order {order_id}, which has not ended"
