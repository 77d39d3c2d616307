"""Sends mail by SMTP: to the server that `SHOP_SMTP` names, else to the shop's own mailbox."""

import asyncio
import os
import smtplib
from collections import deque
from contextlib import suppress
from email.message import EmailMessage

from pydantic import BaseModel

from seawall import Client
from seawall.clock import SYSTEM

TIMEOUT = 5.0  # seconds for each step of the conversation
AT_ONCE = 4  # conversations; each has a thread
KEEP = 10.0  # seconds we believe where the mailbox is; it may be restarted elsewhere

# A connection carries many mails: to open one costs more than to send a mail. One that stood
# still for longer than this is asked whether it still is one.
SURE = 1.0  # seconds


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
        # Taken from, and given back, in threads: those of a deque do not get in each other's way.
        self._kept: deque[tuple[Place, smtplib.SMTP, float]] = deque()

    async def send(self, mail: EmailMessage) -> None:
        """Return once the server has taken responsibility for the mail.

        Whatever it raises, the mail may have been taken: trying again may make a second copy,
        with the same Message-ID.
        """
        place = await self._find()
        async with self._desks:
            try:
                await asyncio.to_thread(self._converse, place, mail)
            except OSError:  # smtplib's errors are OSErrors
                self._place = None
                raise

    async def aclose(self) -> None:
        """Hang up; conversations that go on meanwhile end by themselves."""
        while self._kept:
            _, server, _ = self._kept.pop()
            server.close()

    async def _find(self) -> Place:
        if named := os.environ.get("SHOP_SMTP"):
            host, _, port = named.rpartition(":")
            return Place(host=host, port=int(port))
        now = SYSTEM.now()
        if self._place is None or now > self._until:
            self._place = await self._mailbox.get("/smtp", returns=Place)
            self._until = now + KEEP
        return self._place

    def _converse(self, place: Place, mail: EmailMessage) -> None:
        server = self._connected(place)
        try:
            server.send_message(mail)
        except BaseException:
            server.close()
            raise
        self._kept.append((place, server, SYSTEM.now()))

    def _connected(self, place: Place) -> smtplib.SMTP:
        with suppress(IndexError):
            while True:
                where, server, since = self._kept.pop()
                if where == place and (SYSTEM.now() - since < SURE or _answers(server)):
                    return server
                server.close()
        return smtplib.SMTP(place.host, place.port, timeout=TIMEOUT)


def _answers(server: smtplib.SMTP) -> bool:
    try:
        return server.noop()[0] == 250
    except OSError:
        return False
