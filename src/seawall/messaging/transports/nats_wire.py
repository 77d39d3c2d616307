"""One connection to a NATS server: the socket, the answers that somebody waits for, and pings.

What arrives is handed on in the call that brought it, and what is sent together is one write: a
task and a queue for each subscription, as nats-py has, cost more than the messages themselves.
"""

import asyncio
import itertools
import secrets
import ssl
from collections.abc import Callable, Sequence
from typing import NamedTuple, cast

from seawall.errors import Misconfigured, OutcomeUnknown, Unavailable
from seawall.messaging.transports.nats_protocol import (
    PING,
    PONG,
    BadProtocol,
    Failed,
    Info,
    Msg,
    Op,
    Parser,
    Server,
    connect,
    publish,
    subscribe,
)

PING_EVERY = 10.0  # seconds
UNANSWERED = 2  # pings without an answer that end the connection

# Of a large batch, so much is written before it is looked whether the server keeps up.
AT_ONCE = 256 * 1024  # bytes

# What the server says and then goes on. Anything else ends the connection.
_HARMLESS = ("permissions violation", "invalid subject")


class Post(NamedTuple):
    """Something to send that is answered. `headers` is a block, as `nats_protocol.block` makes."""

    subject: str
    body: bytes
    headers: bytes = b""


class _Batch:
    """The answers to what was sent together."""

    def __init__(self, expected: int) -> None:
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.replies: list[Msg | None] = [None] * expected
        self._missing = expected

    def take(self, place: int, reply: Msg) -> None:
        if self.replies[place] is None:
            self.replies[place] = reply
            self._missing -= 1
            if self._missing == 0 and not self.done.done():
                self.done.set_result(None)


class Wire(asyncio.Protocol):
    """A connection and its inbox; unusable for good once it was lost."""

    def __init__(self, timeout: float) -> None:
        loop = asyncio.get_running_loop()
        self._timeout = timeout
        self._parser = Parser()
        self._transport: asyncio.Transport | None = None
        self._calls: list[Callable[[Msg], None]] = []  # by number of subscription, from 1
        self._batches: dict[str, _Batch] = {}
        self._serial = itertools.count()
        self._inboxes = f"_INBOX.{secrets.token_hex(11)}"
        self._pinged = 0  # without an answer
        self._pinging: asyncio.TimerHandle | None = None
        self._info: asyncio.Future[Info] = loop.create_future()
        self._greeted: asyncio.Future[None] = loop.create_future()
        self._writable = asyncio.Event()
        self._writable.set()
        self.info = Info()
        self.lost: asyncio.Future[str] = loop.create_future()
        self._inbox = self.new_inbox()

    @property
    def usable(self) -> bool:
        return not self.lost.done() and self._greeted.done()

    # Beginning and end

    async def greet(
        self, server: Server, name: str, *, tls: ssl.SSLContext | None, credentials: str
    ) -> None:
        """Introduce ourselves on a new socket; raises `Misconfigured` or `OutcomeUnknown`."""
        self.info = info = await self._info
        if info.tls or server.tls:
            await self._encrypt(server, tls)
        elif tls is not None:
            raise Misconfigured(f"NATS: {server} does not speak TLS", fix="its settings, or no tls")
        self._send(connect(server, name, info.nonce, credentials) + PING)
        await self._greeted
        if not info.headers:
            raise Misconfigured(f"NATS: {server} is too old", fix="nats-server 2.9 or later")
        self.subscribe(f"{self._inbox}.*.*", self._answered)
        self._pinging = asyncio.get_running_loop().call_later(PING_EVERY, self._ping)

    async def _encrypt(self, server: Server, tls: ssl.SSLContext | None) -> None:
        if not self.info.tls:
            raise Misconfigured(
                f"NATS: {server} does not speak TLS", fix="its settings, or nats:// for tls://"
            )
        assert self._transport is not None
        self._transport = await asyncio.get_running_loop().start_tls(
            self._transport,
            self,
            tls or ssl.create_default_context(),
            server_hostname=server.host,
        )

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is no subclass

    def connection_lost(self, exc: Exception | None) -> None:
        self.lose(f"connection lost: {exc or 'closed by the server'}")

    def lose(self, why: str) -> None:
        """End the connection; whoever waits for an answer learns why."""
        if self.lost.done():
            return
        self.lost.set_result(why)
        self._writable.set()
        if self._pinging is not None:
            self._pinging.cancel()
        waiting: list[asyncio.Future[None] | asyncio.Future[Info]] = [self._info, self._greeted]
        for future in (*waiting, *(batch.done for batch in self._batches.values())):
            if not future.done():
                future.set_exception(OutcomeUnknown(why))
                future.exception()  # may be nobody's any more: a cancelled caller's
        if self._transport is not None:
            self._transport.abort()

    def close(self) -> None:
        """End it once what was sent is written."""
        transport, self._transport = self._transport, None
        self.lose("closed")
        if transport is not None:
            transport.close()

    def _ping(self) -> None:
        if self._pinged >= UNANSWERED:
            self.lose(f"no answer to {UNANSWERED} pings within {UNANSWERED * PING_EVERY} s")
            return
        self._pinged += 1
        self._send(PING)
        self._pinging = asyncio.get_running_loop().call_later(PING_EVERY, self._ping)

    # Receiving

    def data_received(self, data: bytes) -> None:
        try:
            ops = self._parser.feed(data)
        except BadProtocol as error:
            self.lose(str(error))
            return
        calls = self._calls
        for op in ops:
            if type(op) is Msg:
                calls[op.sid - 1](op)
            else:
                self._control(op)

    def _control(self, op: Op) -> None:
        match op:
            case bytes():
                if op == PING:
                    self._send(PONG)
                    return
                self._pinged = 0
                if not self._greeted.done():
                    self._greeted.set_result(None)
            case Info():
                self.info = op
                if not self._info.done():
                    self._info.set_result(op)
            case Failed(text) if not text.lower().startswith(_HARMLESS):
                if not self._greeted.done() and "authoriz" in text.lower():
                    self._greeted.set_exception(
                        Misconfigured(
                            f"NATS: {text}",
                            fix="the user, password or credentials file of the URL",
                        )
                    )
                    self._greeted.exception()  # may be nobody's: we may have given up meanwhile
                self.lose(f"NATS: {text}")

    def new_inbox(self) -> str:
        """A subject that nobody else has."""
        return f"{self._inboxes}.{next(self._serial)}"

    def subscribe(self, subject: str, call: Callable[[Msg], None]) -> None:
        """Have messages to `subject` given to `call`, which is not to raise."""
        self._calls.append(call)
        self._send(subscribe(subject, len(self._calls)))

    # Sending

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    def _send(self, packed: bytes) -> None:
        if self._transport is not None and not self.lost.done():
            self._transport.write(packed)

    def send(self, packed: bytes) -> None:
        """Send what nobody waits for, as `nats_protocol.publish` makes it."""
        if not self.usable:
            raise OutcomeUnknown("the connection was lost")
        self._send(packed)

    async def ask(self, posts: Sequence[Post], before: Sequence[bytes] = ()) -> list[Msg]:
        """Send all, and return their answers in order. `before` is sent first, and not answered."""
        if not self.usable:
            raise Unavailable("the connection was lost")
        batch = _Batch(len(posts))
        name = str(next(self._serial))
        self._batches[name] = batch
        prefix = f"{self._inbox}.{name}."
        try:
            async with asyncio.timeout(self._timeout):
                parts, size = list(before), 0
                for place, (subject, body, headers) in enumerate(posts):
                    packed = publish(subject, body, f"{prefix}{place}", headers)
                    parts.append(packed)
                    size += len(packed)
                    if size >= AT_ONCE:
                        self._send(b"".join(parts))
                        parts, size = [], 0
                        await self._writable.wait()
                self._send(b"".join(parts))
                await batch.done
        except TimeoutError:
            self.lose(f"no answer within {self._timeout} s")
            raise OutcomeUnknown(f"no answer within {self._timeout} s") from None
        finally:
            del self._batches[name]
        return [reply for reply in batch.replies if reply is not None]

    def _answered(self, reply: Msg) -> None:
        _, batch, place = reply.subject.rsplit(".", 2)
        if (waiting := self._batches.get(batch)) is not None:
            waiting.take(int(place), reply)
