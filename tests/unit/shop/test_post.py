"""Mails go to the server over connections that are kept, and opened anew when they ended."""

from collections.abc import Iterator
from email.message import EmailMessage
from pathlib import Path
from typing import Any, cast

import pytest

from seawall import Client
from shop.mailbox.__main__ import LOOPBACK, Inbound, Smtp
from shop.mailbox.store import Mails
from shop.notifications.smtp import Place, Post


class Counting(Inbound):
    """A server that notes which connection each mail came by."""

    def __init__(self, mails: Mails) -> None:
        super().__init__(mails)
        self.peers: list[Any] = []

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:  # noqa: N802
        self.peers.append(session.peer)
        return await super().handle_DATA(server, session, envelope)


class Mailbox:
    """Says where SMTP is."""

    place: Place

    async def get(self, path: str, *, returns: type[Place]) -> Place:
        return self.place


@pytest.fixture
def inbound(tmp_path: Path) -> Counting:
    return Counting(Mails(tmp_path))


@pytest.fixture
def server(inbound: Counting) -> Iterator[Smtp]:
    server = Smtp(inbound, hostname=LOOPBACK, port=0)
    server.start()
    yield server
    server.stop()


def mail(number: int) -> EmailMessage:
    written = EmailMessage()
    written["Message-ID"] = f"<{number}@shop>"
    written["From"], written["To"] = "shop@example.org", "ann@example.org"
    written["Subject"] = f"Order {number}"
    written.set_content("Thanks\n")
    return written


async def test_one_connection_carries_many_mails(server: Smtp, inbound: Counting) -> None:
    mailbox = Mailbox()
    mailbox.place = Place(host=LOOPBACK, port=server.bound_port)
    post = Post(cast(Client, mailbox))
    for number in range(3):
        await post.send(mail(number))
    await post.aclose()
    assert len(inbound.peers) == 3
    assert len(set(inbound.peers)) == 1


async def test_after_the_server_went_the_next_try_finds_it_where_it_is_now(
    inbound: Counting,
) -> None:
    mailbox = Mailbox()
    first = Smtp(inbound, hostname=LOOPBACK, port=0)
    first.start()
    mailbox.place = Place(host=LOOPBACK, port=first.bound_port)
    post = Post(cast(Client, mailbox))
    await post.send(mail(1))
    first.stop()
    second = Smtp(inbound, hostname=LOOPBACK, port=0)
    second.start()
    mailbox.place = Place(host=LOOPBACK, port=second.bound_port)
    with pytest.raises(OSError):  # noqa: PT011 - whichever of smtplib's it is
        await post.send(mail(2))
    await post.send(mail(2))
    await post.aclose()
    second.stop()
    assert len(inbound.peers) == 2
