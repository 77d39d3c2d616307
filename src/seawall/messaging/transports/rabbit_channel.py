"""One channel of RabbitMQ: publishes in batches, and what is delivered handed on at once.

aiormq gives each message that arrives three turns of the loop and a task, and each that is
published a future and a lock. Here a batch is one write, its confirmations are counted, and a
delivery is handed on in the call that brought it.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import pamqp.frame
from pamqp import commands as spec
from pamqp.base import Frame

from seawall.errors import Full, Misconfigured, OutcomeUnknown, SeawallError, Unavailable
from seawall.messaging.transports.rabbit_frames import (
    BEFORE,
    CONFIRM,
    DELIVER,
    GET_OK,
    HEADER,
    METHOD,
    NOT_STORED,
    RETURN,
    Content,
    acknowledging,
    confirmed,
    content_of,
    got,
    message,
    method_of,
    publishing,
    rejecting,
    size_of,
    tag_of,
)

# Ways that are kept in bytes: each to a topic or a queue.
WAYS = 1_000


class Gone(Unavailable):
    """The exchange or queue does not exist (any more): declare it, and ask again."""


def redeclared(text: str) -> Misconfigured:
    return Misconfigured(text, fix="delete what was declared with other options")


# Why a broker closes a channel: what that means to a caller.
_REASONS: dict[int, Callable[[str], SeawallError]] = {
    403: Misconfigured,
    404: Gone,
    406: redeclared,
}


class Post(NamedTuple):
    """A message to store."""

    exchange: str
    routing_key: str
    body: bytes
    properties: spec.Basic.Properties


class Arrived(NamedTuple):
    """A message that was delivered."""

    tag: int
    content: Content
    body: bytes


# What became of messages, in their order: None for stored.
Fates = asyncio.Future[list[SeawallError | None]]


class _Batch:
    """What became of messages that were sent together."""

    def __init__(self, posts: Sequence[Post]) -> None:
        self.posts = posts
        self.fates: list[SeawallError | None] = [None] * len(posts)
        self.missing = len(posts)
        self.done: Fates = asyncio.get_running_loop().create_future()

    def tell(self, place: int, fate: SeawallError | None) -> None:
        if fate is not None:
            self.fates[place] = fate
        self.missing -= 1
        if self.missing == 0 and not self.done.done():
            self.done.set_result(self.fates)


class Channel:
    """A channel; unusable for good once it was closed.

    `deliver` is called with each message that comes, and `cancelled` when the broker ends a
    consumer. Neither is to raise.
    """

    deliver: Callable[[Arrived], None] | None = None
    cancelled: Callable[[], None] | None = None

    def __init__(self, number: int, send: Callable[[bytes], None], most: int) -> None:
        self.number = number
        self.closed = ""  # why, once it is
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._send = send
        self._most = most  # bytes of a frame
        self._answers: deque[asyncio.Future[Any]] = deque()
        self._published = 0
        self._unconfirmed: dict[int, tuple[_Batch, int]] = {}  # by tag, which rise
        self._ways: dict[tuple[str, str], bytes] = {}
        self._begun = b""  # the method whose message is coming
        self._header = b""
        self._parts: list[bytes] = []
        self._lacking = 0  # bytes

    # Asking

    async def ask(self, method: Frame) -> Any:
        """The broker's answer; answers come in the order of the questions."""
        self._check()
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._answers.append(answer)
        self._send(pamqp.frame.marshal(method, self.number))
        return await answer

    def _check(self) -> None:
        if self.closed:
            raise OutcomeUnknown(self.closed)

    def ack(self, tags: Sequence[int], *, up_to: int = 0) -> None:
        """They are done, and everything up to a tag."""
        self._check()
        frames = [acknowledging(self.number, up_to, multiple=True)] if up_to else []
        frames += [acknowledging(self.number, tag, multiple=False) for tag in tags]
        self._send(b"".join(frames))

    def reject(self, tags: Sequence[int]) -> None:
        """Others are to have them, and to know that it is not the first time."""
        self._check()
        self._send(b"".join([rejecting(self.number, tag) for tag in tags]))

    # Publishing

    def publish(self, posts: Sequence[Post]) -> Fates:
        """Send some, to be stored: done once the broker has told what became of each."""
        self._check()
        number, most, ways = self.number, self._most, self._ways
        pieces: list[bytes] = []
        for exchange, key, body, properties in posts:
            pieces.append(ways.get((exchange, key)) or self._way(exchange, key))
            pieces += message(number, properties.marshal(), body, most)
        batch = _Batch(posts)
        for place in range(len(posts)):
            self._published += 1
            self._unconfirmed[self._published] = batch, place
        self._send(b"".join(pieces))
        return batch.done

    def _way(self, exchange: str, key: str) -> bytes:
        if len(self._ways) >= WAYS:
            self._ways.clear()
        way = self._ways[exchange, key] = publishing(self.number, exchange, key)
        return way

    def _confirm(self, frame: bytes, *, stored: bool) -> None:
        tag, multiple = confirmed(frame)
        unconfirmed = self._unconfirmed
        if not multiple:
            told = [tag]
        else:
            told = []
            for each in unconfirmed:
                if each > tag:
                    break
                told.append(each)
        for each in told:
            found = unconfirmed.pop(each, None)
            if found is not None:
                batch, place = found
                batch.tell(place, None if stored else Full("RabbitMQ: a queue is at its bound"))

    def _returned(self) -> None:
        """No queue takes a message. Its confirmation comes after this."""
        method = pamqp.frame.unmarshal(self._begun)[2]
        assert isinstance(method, spec.Basic.Return)
        where = method.exchange, method.routing_key, content_of(self._header).message_id
        for batch, place in self._unconfirmed.values():
            post = batch.posts[place]
            wanted = post.exchange, post.routing_key, post.properties.message_id
            if wanted == where and batch.fates[place] is None:
                batch.fates[place] = Gone("RabbitMQ: no queue takes it")
                return

    # Receiving

    def take(self, kind: int, frame: bytes) -> None:
        """A frame came. Raises what a frame raises that cannot be read."""
        if kind == METHOD:
            self._method(frame)
        elif kind == HEADER:
            self._header = frame
            self._lacking = size_of(frame)
            if not self._lacking:
                self._whole(b"")
        else:
            self._lacking -= len(frame) - BEFORE - 1
            if self._lacking or self._parts:
                self._parts.append(frame[BEFORE:-1])
                if self._lacking <= 0:
                    body, self._parts = b"".join(self._parts), []
                    self._whole(body)
            else:
                self._whole(frame[BEFORE:-1])

    def _whole(self, body: bytes) -> None:
        begun = self._begun
        method = method_of(begun)
        if method == RETURN:
            self._returned()
            return
        tag = tag_of(begun) if method == DELIVER else got(begun)
        if self.deliver is not None:
            self.deliver(Arrived(tag, content_of(self._header), body))
        if method == GET_OK:
            self._answered(begun)

    def _method(self, frame: bytes) -> None:
        method = method_of(frame)
        if method in (DELIVER, GET_OK, RETURN):
            self._begun = frame
        elif method == CONFIRM:
            self._confirm(frame, stored=True)
        elif method == NOT_STORED:
            self._confirm(frame, stored=False)
        else:
            self._other(frame)

    def _other(self, frame: bytes) -> None:
        _, _, method = pamqp.frame.unmarshal(frame)
        if isinstance(method, spec.Basic.Cancel):
            if self.cancelled is not None:
                self.cancelled()
        elif isinstance(method, spec.Channel.Close):
            self._send(pamqp.frame.marshal(spec.Channel.CloseOk(), self.number))
            made = _REASONS.get(method.reply_code or 0, OutcomeUnknown)
            self.fail(made, f"RabbitMQ: {method.reply_text}")
        else:
            self._answered(frame)

    def _answered(self, frame: bytes) -> None:
        if self._answers:
            answer = self._answers.popleft()
            if not answer.done():
                answer.set_result(pamqp.frame.unmarshal(frame)[2])

    def fail(self, made: Callable[[str], SeawallError], why: str) -> None:
        """It is closed, or its connection is: whoever waits is told so, each by an error `made`."""
        if self.closed:
            return
        self.closed = why
        answers, self._answers = self._answers, deque()
        for answer in answers:
            if not answer.done():
                answer.set_exception(made(why))
                answer.exception()  # may be nobody's any more: a cancelled caller's
        unconfirmed, self._unconfirmed = self._unconfirmed, {}
        for batch, place in unconfirmed.values():
            batch.tell(place, batch.fates[place] or made(why))
        self.ended.set_result(None)

    def __repr__(self) -> str:
        waiting = len(self._answers), len(self._unconfirmed)
        return f"<Channel {self.number}, {waiting[0]} answers and {waiting[1]} confirmations due>"
