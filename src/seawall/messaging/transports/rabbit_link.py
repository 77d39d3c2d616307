"""One connection to RabbitMQ; made when it is needed, and again after a loss.

aiormq makes the connection and declares; messages travel on channels of our own beside its
(`rabbit_channel`). Its sibling aio-pika promises to reconnect by itself and is known to come back
without its consumers. Here a connection that was lost is never used again: whatever was declared,
and whoever consumed through it, begins anew on the next one.

    not connected, refused                        Unavailable    nothing happened
    lost or silent after the request was written  OutcomeUnknown
    a queue is at its bound                       Full
    wrong password, no such virtual host          Misconfigured
"""

import asyncio
import logging
import ssl
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Any, TypeVar

import aiormq
import aiormq.exceptions as rabbit
from aiormq.abc import AbstractChannel, AbstractConnection
from pamqp import commands as spec
from pamqp.base import Frame

from seawall.concurrency.tasks import Tasks
from seawall.errors import Misconfigured, OutcomeUnknown, SeawallError, Unavailable
from seawall.messaging.transports.rabbit_channel import (
    Channel,
    Gone,
    Post,
    redeclared,
)
from seawall.messaging.transports.rabbit_socket import Sharing, Socket

CONNECT_TIMEOUT = 2.0  # seconds
CLOSE_TIMEOUT = 1.0  # seconds that a connection gets to say goodbye

# Where the broker sets no bound to them.
MOST_CHANNELS, MOST_FRAME = 65_535, 128 * 1024  # bytes

T = TypeVar("T")

# What aiormq says about lost connections is told to the callers it concerns.
for _part in ("connection", "channel", "base"):
    logging.getLogger(f"aiormq.{_part}").setLevel(logging.CRITICAL)


class Wire:
    """A connection; unusable for good once it was lost."""

    def __init__(self, connection: AbstractConnection, socket: Socket, timeout: float) -> None:
        self.connection = connection
        self._socket = socket
        self.timeout = timeout
        self.declared: set[object] = set()
        self.lost: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._publishing: Channel | None = None
        self._opening = asyncio.Lock()
        connection.closing.add_done_callback(lambda _: self.lose())

    @property
    def usable(self) -> bool:
        return not self.lost.done()

    def lose(self) -> None:
        if not self.lost.done():
            self.lost.set_result(None)
            channels, self._socket.channels = self._socket.channels, {}
            for channel in channels.values():
                channel.fail(OutcomeUnknown, "the connection was lost")

    async def call(self, work: Awaitable[T]) -> T:
        """The result of one of aiormq's calls, or one of our errors; bounded."""
        try:
            async with asyncio.timeout(self.timeout):
                return await work
        except TimeoutError:
            self.lose()
            raise OutcomeUnknown(f"no answer within {self.timeout} s") from None
        except asyncio.CancelledError:
            # aiormq cancels its callers when it closes; whoever cancelled us is told apart.
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            self.lose()
            raise OutcomeUnknown("the connection was closed") from None
        except (rabbit.AMQPError, OSError, RuntimeError) as error:
            raise translated(error) from error

    async def channel(self) -> AbstractChannel:
        """A channel of aiormq's, for what is done seldom."""
        if not self.usable:
            raise Unavailable("the connection was lost")
        # A buffer without a bound: what comes is bounded by prefetch and by what we await.
        return await self.call(
            self.connection.channel(publisher_confirms=False, frame_buffer_size=0)
        )

    async def open(self, *methods: Frame) -> Channel:
        """A channel of ours, on which `methods` were answered."""
        if not self.usable:
            raise Unavailable("the connection was lost")
        channels, tune = self._socket.channels, self.connection.connection_tune
        most = tune.channel_max or MOST_CHANNELS
        number = next(each for each in range(most, 0, -1) if each not in channels)
        channel = channels[number] = Channel(
            number, self._socket.write, tune.frame_max or MOST_FRAME
        )
        channel.ended.add_done_callback(lambda _: self._ended(channel))
        for method in (spec.Channel.Open(), *methods):
            await self.call(channel.ask(method))
        return channel

    def _ended(self, channel: Channel) -> None:
        if self._socket.channels.get(channel.number) is channel:
            del self._socket.channels[channel.number]

    async def publish(self, posts: Sequence[Post]) -> list[SeawallError | None]:
        """Store all, and return what became of each, once the broker has told."""
        return await (await self.send(posts))

    async def send(self, posts: Sequence[Post]) -> Awaitable[list[SeawallError | None]]:
        """Send all; what is returned is to be awaited, and gives what became of each."""
        channel = self._publishing
        if channel is None or channel.closed:
            async with self._opening:
                channel = self._publishing
                if channel is None or channel.closed:
                    channel = self._publishing = await self.open(spec.Confirm.Select())
        return self.call(channel.publish(posts))


def translated(error: BaseException) -> SeawallError:
    text = f"RabbitMQ: {error}" if str(error) else f"RabbitMQ: {type(error).__name__}"
    if isinstance(error, SeawallError):
        return error
    for kind, made in _TRANSLATIONS.items():
        if isinstance(error, kind):
            return made(text)
    return OutcomeUnknown(text)


_TRANSLATIONS: dict[type[BaseException], Callable[[str], SeawallError]] = {
    rabbit.ChannelNotFoundEntity: Gone,
    rabbit.ChannelPreconditionFailed: redeclared,
    rabbit.ChannelAccessRefused: Misconfigured,
}


class RabbitLink:
    """The connection of one transport."""

    def __init__(self, url: str, *, timeout: float, tls: ssl.SSLContext | None = None) -> None:
        self._url = url
        self._timeout = timeout
        self._tls = tls
        self._wire: Wire | None = None
        self._connecting = asyncio.Lock()
        self._closed = False
        self._tasks = Tasks()
        self.connects = 0

    async def ready(self) -> Wire:
        """The open connection. Raises `Unavailable` if there is none to be had."""
        if self._wire is not None and self._wire.usable:
            return self._wire
        async with self._connecting:
            if self._closed:
                raise Unavailable("closed")
            if self._wire is None or not self._wire.usable:
                if self._wire is not None:
                    self._tasks.start(_close(self._wire.connection), name="rabbitmq-close")
                self._wire = await self._connect()
            return self._wire

    async def _connect(self) -> Wire:
        sharing = Sharing()
        connection = aiormq.Connection(self._url, context=self._tls, transport_factory=sharing)
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT):
                await connection.connect()
        except (rabbit.AuthenticationError, rabbit.ProbableAuthenticationError) as error:
            raise Misconfigured(f"RabbitMQ: {error}", fix="user and password of the URL") from error
        except rabbit.ConnectionNotAllowed as error:
            raise Misconfigured(f"RabbitMQ: {error}", fix="the path of the URL") from error
        except (OSError, TimeoutError, rabbit.AMQPError, AttributeError) as error:
            reason = str(error) or f"no answer within {CONNECT_TIMEOUT} s"
            raise Unavailable(f"RabbitMQ: {reason}") from error
        assert sharing.socket is not None
        self.connects += 1
        return Wire(connection, sharing.socket, self._timeout)

    async def once(self, key: object, declare: Callable[[AbstractChannel], Awaitable[Any]]) -> None:
        """Declare something, if it was not yet on this connection."""
        wire = await self.ready()
        if key not in wire.declared:
            await self.on_channel(declare)
            wire.declared.add(key)

    async def on_channel(self, work: Callable[[AbstractChannel], Awaitable[T]]) -> T:
        """Do something on a channel of its own: an error closes a channel."""
        wire = await self.ready()
        channel = await wire.channel()
        try:
            return await wire.call(work(channel))
        finally:
            if wire.usable and not channel.is_closed:
                with suppress(SeawallError):
                    await wire.call(channel.close())

    async def count(self, queue: str, *, missing: int = 0) -> int:
        """Messages that are ready in a queue; `missing` if there is no such queue."""
        try:
            answer = await self.on_channel(lambda c: c.queue_declare(queue, passive=True))
        except Gone:
            return missing
        return answer.message_count or 0

    async def aclose(self) -> None:
        self._closed = True
        if self._wire is not None:
            self._wire.lose()
            self._tasks.start(_close(self._wire.connection), name="rabbitmq-close")
            self._wire = None
        await self._tasks.join()


async def _close(connection: AbstractConnection) -> None:
    goodbye = rabbit.ConnectionClosed(0, "given up")
    with suppress(rabbit.AMQPError, OSError, TimeoutError, RuntimeError):
        async with asyncio.timeout(CLOSE_TIMEOUT):
            await connection.close(goodbye)
