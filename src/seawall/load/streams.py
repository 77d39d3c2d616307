"""Keeps streams open while something else is done, and counts those that are cut.

An event stream, or any long answer, may end: whole, by its last chunk. A WebSocket may end by a
Close frame. Either is opened again at once, as its client would, and that has to succeed. A
connection that just breaks, or an answer other than a stream, has failed.
"""

import asyncio
import base64
import contextlib
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import httptools

from seawall.clock import SYSTEM, Clock
from seawall.concurrency.tasks import Tasks
from seawall.load.frames import Closed, Frames
from seawall.topology import Address
from seawall.transport.http1 import request_head

# What began before the last process was replaced may end after it, and so may its failure.
_TAIL = 1.0  # seconds that they stay open when the other work is over

# A stream that does not begin within this has failed for whoever waits for it.
_WITHIN = 10.0  # seconds

# Between two tries of a stream that could not be opened: one broken service is no flood.
_AGAIN = 0.2  # seconds

# RFC 6455 wants sixteen bytes, of which nothing depends here.
_KEY = base64.b64encode(b"a key of a probe").decode()


@dataclass(frozen=True, slots=True)
class StreamsVerified:
    """What came of them."""

    opened: int  # those at first, and each that was opened again
    ended: int  # cleanly, by the other side
    failures: tuple[tuple[str, int], ...]  # what went wrong, and how often

    @property
    def failed(self) -> int:
        return sum(count for _, count in self.failures)

    def __str__(self) -> str:
        return (
            f"{self.opened} streams opened meanwhile, {self.ended} ended cleanly, "
            f"{self.failed} failed"
        )


class _Cut(Exception):
    """It ended as no stream should; the text says how."""


class _Answer:
    """The head and the end of one answer, as httptools sees them."""

    def __init__(self) -> None:
        self.begun = self.whole = False

    def on_headers_complete(self) -> None:
        self.begun = True

    def on_message_complete(self) -> None:
        self.whole = True


class Streams:
    """`count` streams of `GET path`, or WebSockets there, from `run` on."""

    def __init__(
        self,
        address: Address,
        path: str,
        headers: Sequence[tuple[str, str]],
        count: int,
        *,
        websocket: bool = False,
        clock: Clock = SYSTEM,
    ) -> None:
        """Raises `ValueError` where a header or the path holds a line break."""
        kind = [("accept", "text/event-stream"), ("connection", "close")]
        if websocket:
            kind = [
                *(("connection", "upgrade"), ("upgrade", "websocket")),
                *(("sec-websocket-version", "13"), ("sec-websocket-key", _KEY)),
            ]
        self._head = request_head("GET", path, str(address), [*headers, *kind], None)
        self._address = address
        self._count = count
        self._websocket = websocket
        self._clock = clock
        self._opened = self._ended = self._tried = 0
        self._failures: Counter[str] = Counter()
        self._all_tried = asyncio.Event()

    async def tried(self) -> None:
        """Return when each has been opened, or could not be."""
        await self._all_tried.wait()

    async def run(self, over: Callable[[], bool]) -> StreamsVerified:
        """Keep them open until `over()`, and a moment longer."""
        async with Tasks() as tasks:
            for _ in range(self._count):
                tasks.start(self._keep())
            while not over():
                await self._clock.sleep(_AGAIN)
            await self._clock.sleep(_TAIL)
        return StreamsVerified(self._opened, self._ended, tuple(self._failures.most_common()))

    async def _keep(self) -> None:
        first = True
        while True:
            try:
                await self._one(first)
                self._ended += 1
            except (OSError, TimeoutError, _Cut) as cut:
                self._failures[str(cut) or type(cut).__name__] += 1
                self._note(first)
                await self._clock.sleep(_AGAIN)
            first = False

    def _note(self, first: bool) -> None:
        self._tried += first
        if self._tried == self._count:
            self._all_tried.set()

    async def _one(self, first: bool) -> None:
        """One stream, from its request to its clean end. Raises `_Cut` for another."""
        async with asyncio.timeout(_WITHIN) as limit:
            reader, writer = await asyncio.open_connection(self._address.host, self._address.port)
            try:
                writer.write(self._head)
                parsed = await self._begun(reader)
                self._opened += 1
                self._note(first)
                limit.reschedule(None)
                if self._websocket:
                    await _closed(reader, writer, parsed.rest)
                else:
                    await _whole(reader, parsed)
            finally:
                writer.close()
                with contextlib.suppress(OSError):
                    await writer.wait_closed()

    async def _begun(self, reader: asyncio.StreamReader) -> "_Parsed":
        parsed = _Parsed()
        while not parsed.answer.begun:
            if not (data := await reader.read(65536)):
                raise _Cut("closed before it answered")
            parsed.feed(data)
        status = parsed.parser.get_status_code()
        if status != (101 if self._websocket else 200):
            raise _Cut(f"status {status}")
        return parsed


class _Parsed:
    """An answer that is being read; `rest` is what follows a change of protocol."""

    def __init__(self) -> None:
        self.answer = _Answer()
        self.parser = httptools.HttpResponseParser(self.answer)
        self.rest = b""

    def feed(self, data: bytes) -> None:
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            self.rest = data[upgrade.args[0] :]
        except httptools.HttpParserError as broken:
            raise _Cut(f"not HTTP: {broken}") from broken


async def _whole(reader: asyncio.StreamReader, parsed: _Parsed) -> None:
    while not parsed.answer.whole:
        if not (data := await reader.read(65536)):
            raise _Cut("the stream was cut")
        parsed.feed(data)


async def _closed(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, rest: bytes) -> None:
    frames = Frames()
    data = rest
    while True:
        try:
            writer.write(frames.receive(data))
        except Closed:
            return
        if not (data := await reader.read(65536)):
            raise _Cut("the WebSocket was cut without a Close frame")
