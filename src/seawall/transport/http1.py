"""One HTTP/1.1 client connection, as an asyncio protocol on httptools' response parser.

A connection carries one exchange at a time and answers a single question well: what may the
caller do next? `NotSent` is raised only where the request cannot have been read by anybody;
once its bytes were handed to the kernel, every failure is `OutcomeUnknown`. The parser never
sees a byte that nobody asked for: bytes that arrive while the connection is idle close it.
"""

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass
from typing import cast

import httptools

from seawall.errors import DeadlineExceeded, NotSent, OutcomeUnknown, Refused
from seawall.transport.tls import explained, is_refusal

# An answer's head. Real ones have 1 to 4 KiB; cookies and problem headers may double that.
MAX_HEAD = 64 * 1024

# Methods that may be repeated without changing more than once (RFC 9110, 9.2.2).
IDEMPOTENT = frozenset({"GET", "HEAD", "OPTIONS", "PUT", "DELETE", "TRACE"})


class AnswerTooLarge(Refused):
    """The answer is larger than the caller allows; asking again gives the same."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole HTTP answer. Header names are in lower case."""

    status: int
    headers: tuple[tuple[bytes, bytes], ...]
    body: bytes

    def header(self, name: bytes) -> bytes | None:
        """The first header of that (lower case) name."""
        return next((value for key, value in self.headers if key == name), None)


def request_head(
    method: str, target: str, authority: str, headers: Iterable[tuple[str, str]], length: int | None
) -> bytes:
    """The bytes of a request up to its body.

    Raises `ValueError` where a part would break out of its line: nothing a caller passes may
    become a second header or a second request.
    """
    lines = [f"{method} {target} HTTP/1.1", f"host: {authority}"]
    lines += [f"{name}: {value}" for name, value in headers]
    if length is not None:
        lines.append(f"content-length: {length}")
    text = "\r\n".join(lines)
    if text.count("\r") != len(lines) - 1 or text.count("\n") != len(lines) - 1 or "\0" in text:
        raise ValueError("a line break or NUL in a request's head")
    return text.encode("latin-1") + b"\r\n\r\n"


class Connection(asyncio.Protocol):
    """One connection; `exchange` sends a request and returns its answer.

    `reusable` says whether another exchange may follow. Not for concurrent use.
    """

    def __init__(self, *, max_body: int = 10 * 1024 * 1024) -> None:
        self._max_body = max_body
        self._transport: asyncio.Transport | None = None
        self._waiter: asyncio.Future[Answer] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._parser: httptools.HttpResponseParser | None = None
        self._status = 0
        self._headers: list[tuple[bytes, bytes]] = []
        self._body: list[bytes] = []
        self._size = 0
        self._framed = False
        self._head_only = False
        self._closed = False
        self.idle_since = 0.0

    # what the pool and the client use

    @property
    def reusable(self) -> bool:
        return not self._closed and self._waiter is None

    async def exchange(self, head: bytes, body: bytes, *, within: float, method: str) -> Answer:
        """Send a request and return the answer, within `within` seconds.

        Raises `NotSent` if the connection was closed before anything was written,
        `DeadlineExceeded` or another `OutcomeUnknown` afterwards, and `AnswerTooLarge`. Cancelled,
        it closes the connection: an answer nobody waits for must not meet the next request.
        """
        if self._transport is None or not self.reusable or self._transport.is_closing():
            raise NotSent("the connection is closed")
        loop = asyncio.get_running_loop()
        waiter: asyncio.Future[Answer] = loop.create_future()
        self._waiter = waiter
        self._parser = httptools.HttpResponseParser(self)
        self._head_only = method == "HEAD"
        self._timer = loop.call_later(within, self._timed_out, within)
        self._transport.write(head + body if body else head)
        try:
            return await waiter
        finally:
            self._timer.cancel()
            self._waiter = None
            if not waiter.done() or waiter.cancelled():
                self.abort()

    def abort(self) -> None:
        """Close at once. Calling it twice is fine."""
        self._closed = True
        if self._transport is not None:
            self._transport.abort()

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's has no common base

    def data_received(self, data: bytes) -> None:
        if self._waiter is None or self._waiter.done() or self._parser is None:
            self.abort()  # bytes that answer nothing: the peer is out of step
            return
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as exc:
            self._fail(OutcomeUnknown(f"the answer is not HTTP: {exc}"))

    def eof_received(self) -> None:
        self._closed = True

    def connection_lost(self, exc: Exception | None) -> None:
        self._closed = True
        if self._waiter is None or self._waiter.done():
            return
        if exc is None and self._status and not self._framed:
            self._finish()  # a body that ends with the connection
            return
        if is_refusal(exc):
            self._fail(NotSent(explained(exc)))
            return
        self._fail(OutcomeUnknown(f"the connection was lost before the answer: {exc or 'closed'}"))

    # httptools callbacks

    def on_message_begin(self) -> None:
        if self._waiter is None or self._waiter.done():
            self.abort()  # a second answer to one request
        self._status = 0
        self._headers = []
        self._body = []
        self._size = 0
        self._framed = False

    def on_header(self, name: bytes, value: bytes) -> None:
        name = name.lower()
        self._size += len(name) + len(value)
        if self._size > MAX_HEAD:
            self._fail(AnswerTooLarge(f"the answer's head is larger than {MAX_HEAD} bytes"))
            return
        if name in (b"content-length", b"transfer-encoding"):
            self._framed = True
        self._headers.append((name, value))

    def on_headers_complete(self) -> None:
        assert self._parser is not None
        self._status = self._parser.get_status_code()
        self._size = 0
        if self._status in (204, 304):
            self._framed = True
        if self._head_only and self._status >= 200:
            # The parser cannot be told that an answer to HEAD has no body, so it would wait.
            self._closed = True
            self._finish()

    def on_body(self, body: bytes) -> None:
        self._size += len(body)
        if self._size > self._max_body:
            self._fail(AnswerTooLarge(f"the answer is larger than {self._max_body} bytes"))
            return
        self._body.append(body)

    def on_message_complete(self) -> None:
        if self._status < 200 or self._waiter is None or self._waiter.done():
            return  # 1xx: the answer itself follows
        assert self._parser is not None
        if not self._parser.should_keep_alive():
            self._closed = True
        self._finish()

    # ends

    def _finish(self) -> None:
        body = self._body[0] if len(self._body) == 1 else b"".join(self._body)
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(Answer(self._status, tuple(self._headers), body))
        if self._closed and self._transport is not None:
            self._transport.close()

    def _fail(self, error: Exception) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_exception(error)
        self.abort()

    def _timed_out(self, within: float) -> None:
        self._fail(DeadlineExceeded(f"no answer within {within:.3f} s"))

    def __repr__(self) -> str:
        state = "closed" if self._closed else "busy" if self._waiter else "idle"
        return f"<Connection {state}>"
