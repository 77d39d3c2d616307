"""Notifications: a mail when an order has ended, and news of it for `live` (`feed.py`).

At least once. A mail is sent first and noted second, so a crash in between sends it again: SMTP
has no way to take part in a transaction. Both copies have the same Message-ID, which is made of
the order and what happened to it, so that they can be recognised; mail programs usually show one.
"""

from contextlib import suppress
from email.message import EmailMessage
from email.utils import formatdate

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from seawall import Retry, Service, Transaction
from seawall.clock import SYSTEM
from seawall.messaging.consumer import ConsumerConfig
from seawall.service.settings import Settings
from shop.contracts import OrderEnded, UserRegistered
from shop.notifications import feed
from shop.notifications.smtp import Post


class Base(DeclarativeBase):
    pass


class Address(Base):
    __tablename__ = "address"

    user_id: Mapped[str] = mapped_column(sa.String(60), primary_key=True)
    email: Mapped[str] = mapped_column(sa.String(254))


class Sent(Base):
    __tablename__ = "sent"

    message_id: Mapped[str] = mapped_column(sa.String(200), primary_key=True)
    at: Mapped[float]


# Made once: every mail needs them, and making a statement costs more than running it.
_KNOWN = sa.select(
    sa.select(Sent.at).where(Sent.message_id == sa.bindparam("mail")).scalar_subquery(),
    sa.select(Address.email).where(Address.user_id == sa.bindparam("customer")).scalar_subquery(),
)
_SENT = sa.insert(Sent)


service = Service("notifications", version="1.0.0", needs=["mailbox"])
database = service.database(min_size=1, max_size=5, metadata=Base.metadata)
under_way: set[str] = set()  # mails being sent; as many as are handled at once, 16 at most
post = Post(service.client("mailbox", timeout=2.0))
service.on_stop(post.aclose)
feed.attach(service, Settings.from_environment())

# A mail takes less than a second; after a crash it is sent again this soon.
SENDING = ConsumerConfig(concurrency=8, lease=10.0)


@service.on("user.registered")
async def registered(event: UserRegistered, tx: Transaction) -> None:
    await tx.merge(Address(user_id=event.user_id, email=event.email))


@service.on("order.completed", config=SENDING)
async def completed(event: OrderEnded) -> None:
    await _send(
        event,
        kind="completed",
        subject=f"Your order {event.order_id} is on its way",
        text=f"Thank you! We charged {_money(event.cents)} to your card.\n",
    )


@service.on("order.cancelled", config=SENDING)
async def cancelled(event: OrderEnded) -> None:
    await _send(
        event,
        kind="cancelled",
        subject=f"Your order {event.order_id} was cancelled",
        text=f"We are sorry: {event.reason or 'it could not be carried out'}.\n"
        "Your card was not charged, or the money is on its way back.\n",
    )


async def _send(event: OrderEnded, *, kind: str, subject: str, text: str) -> None:
    message_id = f"<{kind}.{event.order_id}@shop.example>"
    if message_id in under_way:
        raise Retry(after=1.0, reason="a copy of this event is being handled")
    under_way.add(message_id)
    try:
        await _send_once(event, message_id, subject, text)
    finally:
        under_way.discard(message_id)


async def _send_once(event: OrderEnded, message_id: str, subject: str, text: str) -> None:
    wanted = {"mail": message_id, "customer": event.customer}
    async with database.read() as session:
        sent, address = (await (await session.connection()).execute(_KNOWN, wanted)).one()
    if sent is not None:
        return
    if address is None:  # the event that tells it may come later than this one
        raise Retry(after=1.0, reason="no address of this customer is known yet")
    mail = EmailMessage()
    mail["Message-ID"] = message_id
    mail["From"] = "Shop <orders@shop.example>"
    mail["To"] = address
    mail["Subject"] = subject
    mail["Date"] = formatdate(SYSTEM.wall())
    mail.set_content(text)
    await post.send(mail)
    with suppress(IntegrityError):  # another replica sent a copy at the same time
        async with database.transaction() as tx:
            now = {"message_id": message_id, "at": SYSTEM.wall()}
            await (await tx.connection()).execute(_SENT, now)


def _money(cents: int) -> str:
    return f"{cents // 100}.{cents % 100:02d} €"
