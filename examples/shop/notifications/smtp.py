"""Sends mail by SMTP: to the server that `SHOP_SMTP` names, else to the shop's own mailbox."""

import asyncio
import os
import smtplib
from email.message import EmailMessage

from pydantic import BaseModel

from seawall import Client
from seawall.clock import SYSTEM

TIMEOUT = 5.0  # seconds for each step of the conversation
AT_ONCE = 4  # conversations; each has a thread
KEEP = 10.0  # seconds we believe where the mailbox is; it may be restarted elsewhere


class Place(BaseModel):
    host: str
    port: int


class Post:
    """The way to the mail server."""

    def __init__(self, mailbox: Client) -> None:
        self._mailbox = mailbox
        self._place: Place | None = None
        self._until = 0.0
        self._desks = asyncio.Semaphore(AT_ONCE)

    async def send(self, mail: EmailMessage) -> None:
        """Return once the server has taken responsibility for the mail.

        Whatever it raises, the mail may have been taken: trying again may make a second copy,
        with the same Message-ID.
        """
        place = await self._find()
        async with self._desks:
            try:
                await asyncio.to_thread(_converse, place, mail)
            except OSError:  # smtplib's errors are OSErrors
                self._place = None
                raise

    async def _find(self) -> Place:
        if named := os.environ.get("SHOP_SMTP"):
            host, _, port = named.rpartition(":")
            return Place(host=host, port=int(port))
        now = SYSTEM.now()
        if self._place is None or now > self._until:
            self._place = await self._mailbox.get("/smtp", returns=Place)
            self._until = now + KEEP
        return self._place


def _converse(place: Place, mail: EmailMessage) -> None:
    with smtplib.SMTP(place.host, place.port, timeout=TIMEOUT) as server:
        server.send_message(mail)
