"""A client's connection: bytes into requests, in their order; one exchange at a time.

Requests that come while one is under way (pipelining) wait as bytes, of which only so many are
read ahead. A client that is too slow, too long or not HTTP gets its answer and is closed; what
it still sends is read for a moment, for a reset would take the answer away again (RFC 9112, 9.6).
"""

import asyncio
from typing import Final

from seawall.gateway.answers import Answer, Flag, bad_request, render
from seawall.gateway.exchange import Exchange
from seawall.gateway.expiry import expired
from seawall.gateway.forwarding import forwarded, refused_line
from seawall.gateway.proxy import Proxy
from seawall.gateway.stages import BODY, CLOSED, FLUSH, HEAD, LINGER, SKIP, TUNNEL, WAIT
from seawall.gateway.timers import NEVER, Timed
from seawall.gateway.tunnel import Tunnel
from seawall.wire.chunked import Chunked
from seawall.wire.fields import BadMessage
from seawall.wire.http1 import CHUNKED, MAX_HEAD, RequestHead, head_end, scan_request

CR: Final = 0x0D

# What is read ahead of the request under way.
MAX_AHEAD: Final = 64 * 1024
# Of a body that nobody wants: shorter ones are read to keep the connection.
MAX_SKIPPED: Final = 64 * 1024
# What is read of a client that was told to go.
MAX_LINGERING: Final = 256 * 1024


class Downstream(Timed):
    """A connection from a client. Driven by the event loop through duck typing."""

    __slots__ = (
        "_body_by",
        "_body_seen",
        "_buffer",
        "_chunks",
        "_head_begun",
        "_is_guessed",
        "_left",
        "_lingered",
        "_proxy",
        "_reading_paused",
        "_running",
        "_tunnel",
        "_unsent",
        "_write_by",
        "exchange",
        "forwarded",
        "half_closed",
        "peer",
        "state",
        "transport",
        "trusted",
        "write_paused",
    )

    def __init__(self, proxy: Proxy) -> None:
        super().__init__()
        self._proxy: Proxy = proxy
        self.transport: asyncio.Transport
        self.state: int = HEAD
        self.exchange: Exchange | None = None
        self.peer: str = ""
        self.forwarded: bytes = b""
        self.trusted: bool = False
        self.write_paused: bool = False
        self._buffer: bytes = b""
        self._running: bool = False
        self._head_begun: bool = False
        self._is_guessed: bool = True
        self.half_closed: bool = False
        self._reading_paused: bool = False
        self._left: int = 0
        self._chunks: Chunked | None = None
        self._body_by: float = NEVER
        self._body_seen: int = 0
        self._write_by: float = NEVER
        self._unsent: int = 0
        self._lingered: int = 0
        self._tunnel: Tunnel | None = None

    # the event loop's side

    def connection_made(self, transport: asyncio.Transport) -> None:
        self.transport = transport
        proxy = self._proxy
        connections = proxy.connections
        if len(connections) >= proxy.edge.max_connections:
            proxy.metrics.connections_refused += 1
            self.state = CLOSED
            transport.abort()
            return
        connections.add(self)
        address = transport.get_extra_info("peername")
        self.comes_from(address[0] if isinstance(address, tuple) else "unix")
        self.arm(proxy.now() + proxy.edge.head_timeout)

    def comes_from(self, peer: str) -> None:
        """This is whom we speak with."""
        self.peer = peer
        self.forwarded = forwarded(peer)
        self.trusted = self._proxy.trust.trusts(peer)

    def data_received(self, data: bytes) -> None:
        state = self.state
        if state == HEAD:
            self._buffer = self._buffer + data if self._buffer else data
            self._run()
        elif state == WAIT:
            self._buffer += data
            if len(self._buffer) > MAX_AHEAD:
                self.pause_reading()
        elif state in (BODY, SKIP):
            self._body(data)
        elif state == TUNNEL and self._tunnel is not None:
            self._tunnel.from_client(data)
        elif state == LINGER:
            self._lingered += len(data)
            if self._lingered > MAX_LINGERING:
                self.abort()

    def eof_received(self) -> bool:
        exchange = self.exchange
        if exchange is None:
            return False
        if self.state == BODY:
            exchange.give_up(
                Answer(
                    status=400,
                    flag=Flag.CLIENT_CLOSED,
                    detail="the connection ended within the request's body",
                    close=True,
                )
            )
            return False
        if self._tunnel is not None:
            self._tunnel.client_ended()
            return self.state == TUNNEL
        if exchange.stream:
            return False  # nobody reads a stream whose reader has gone
        self.half_closed = True
        exchange.client_ended()
        return True

    def connection_lost(self, error: Exception | None) -> None:
        self.state = CLOSED
        self.deadline = NEVER
        self._proxy.connections.discard(self)
        exchange, self.exchange = self.exchange, None
        if exchange is not None:
            exchange.client_gone(Flag.CLIENT_CLOSED)

    def pause_writing(self) -> None:
        self.write_paused = True
        self._write_by = self._proxy.now() + self._proxy.edge.write_timeout
        self._unsent = self.transport.get_write_buffer_size()
        self.arm(min(self.deadline, self._write_by))
        if self.exchange is not None:
            self.exchange.client_full()

    def resume_writing(self) -> None:
        self.write_paused = False
        self._write_by = NEVER
        if self.exchange is not None:
            self.exchange.client_drained()
        elif self.state == HEAD:
            self._run()

    # the exchange's side

    def arm(self, deadline: float) -> None:
        """Be called again at `deadline`, or where the connection itself has one, before."""
        if self._write_by < deadline:
            deadline = self._write_by
        if self._body_by < deadline:
            deadline = self._body_by
        if deadline < self.soon:
            self._proxy.wheel.watch(self, deadline)
        else:
            self.deadline = deadline

    def write(self, data: bytes) -> None:
        if self.state != CLOSED:
            self.transport.write(data)

    def end_writing(self) -> None:
        if self.state != CLOSED and self.transport.can_write_eof():
            self.transport.write_eof()

    def pause_reading(self) -> None:
        if not self._reading_paused and self.state != CLOSED:
            self._reading_paused = True
            self.transport.pause_reading()

    def resume_reading(self) -> None:
        if self._reading_paused and self.state != CLOSED:
            self._reading_paused = False
            self._body_by = NEVER if self.state != BODY else self._next_body_check()
            self.transport.resume_reading()

    def can_continue(self) -> bool:
        """Whether another request can follow an answer that is given now."""
        if self.state != BODY:
            return not self.half_closed or bool(self._buffer)
        exchange = self.exchange
        expected = exchange is not None and exchange.head.expects_continue
        return not expected and self._chunks is None and self._left <= MAX_SKIPPED

    def finished(self, keep: bool, now: float) -> None:
        """The exchange is over and its answer is written."""
        self.exchange = None
        if keep and self.state == WAIT and not self.half_closed:  # as almost always
            self._await_request(now)
            return
        if self.state == CLOSED:
            return
        if not keep or (self.half_closed and not self._buffer):
            self._hang_up(now)
            return
        if self.state == BODY:
            self.state = SKIP
            self.resume_reading()
            self.arm(now + self._proxy.edge.body_window)
            return
        self._await_request(now)

    def begin_tunnel(self, tunnel: Tunnel) -> None:
        """From here on, bytes are passed on as they come; those that came early, now."""
        self.state = TUNNEL
        self._tunnel = tunnel
        early, self._buffer = self._buffer, b""
        if early:
            tunnel.from_client(early)
        self.resume_reading()

    def abort(self) -> None:
        """Close at once, so that the client sees that something is missing."""
        self.exchange = None
        if self.state != CLOSED:
            self.state = CLOSED
            self.deadline = NEVER
            self.transport.abort()

    def client_aborted(self) -> None:
        """End what is under way, as if the client had left: the gateway's time is up."""
        exchange = self.exchange
        if self._tunnel is not None and exchange is not None and not self.write_paused:
            self._tunnel.go_away(self._proxy.now())
            return
        self.abort()
        if exchange is not None:
            exchange.client_gone(Flag.CLIENT_CLOSED)

    def close_if_idle(self) -> None:
        """For a gateway that drains: nothing is under way here, and nothing has begun."""
        if self.state == HEAD and not self._buffer and not self.write_paused:
            self.state = CLOSED
            self.transport.close()

    # requests

    def _await_request(self, now: float) -> None:
        self.state = HEAD
        self._body_by = NEVER
        deadline = now + self._proxy.edge.idle_timeout
        if self.write_paused or deadline < self.soon:
            self.arm(deadline)
        else:
            self.deadline = deadline
        if self._reading_paused:
            self.resume_reading()
        if self._buffer:
            self._run()

    def _run(self) -> None:
        """Begin what requests there are in the buffer, one after another."""
        if self._running:
            return  # an exchange ended while it was begun; the loop below goes on
        self._running = True
        while self.state == HEAD and self._buffer and not self.write_paused:
            try:
                if not self._next_request(self._buffer):
                    break
            except BadMessage as bad:
                self._refuse(bad)
        self._running = False

    def _next_request(self, data: bytes) -> bool:
        if data[0] == CR and data.startswith(b"\r\n"):
            data = data[2:]  # RFC 9112, 2.2: one empty line before a request is forgiven
        proxy = self._proxy
        now = proxy.now()
        head: RequestHead | None = None
        end = len(data)
        if self._is_guessed and end <= MAX_HEAD and data.endswith(b"\r\n\r\n"):
            # What came is almost always one head, and trying it costs less than looking for its
            # end. An empty line within is found to be no field.
            try:
                head = scan_request(data, end)
            except BadMessage:
                self._is_guessed = False  # this client sends ahead, or what is no head at all
        if head is None:
            end = data.find(b"\r\n\r\n") + 4
            if not 4 <= end <= MAX_HEAD:
                end = head_end(data)
            if end < 0:
                if not self._head_begun:
                    self._head_begun = True
                    self.arm(now + proxy.edge.head_timeout)
                return False
            head = scan_request(data, end)
        self._head_begun = False
        exchange = Exchange(proxy, self, head, now)
        if head.body:
            self._begin_body(exchange, head, data[end:])
        else:
            self.state = WAIT
            self._buffer = data[end:]
        self.exchange = exchange
        exchange.start()
        return True

    def _begin_body(self, exchange: Exchange, head: RequestHead, rest: bytes) -> None:
        self.state = BODY
        self._buffer = b""
        self._left = head.body
        self._chunks = Chunked(trailers=head.trailers) if head.body == CHUNKED else None
        self._body_by = self._next_body_check()
        self._body_seen = 0
        ended = False
        if rest:
            piece, ended = self._framed(rest)
            if piece:
                exchange.hold(piece)
        exchange.body_done = ended
        if ended:
            self._body_is_whole()

    def _next_body_check(self) -> float:
        return self._proxy.now() + self._proxy.edge.body_window

    def _body_is_whole(self) -> None:
        self._body_by = NEVER
        self.state = WAIT

    def body_length(self) -> int:
        """Of the request under way: what its head says, or what has come of a chunked body."""
        exchange, chunks = self.exchange, self._chunks
        if exchange is None or chunks is None or exchange.head.body != CHUNKED:
            return 0 if exchange is None else exchange.head.body
        return chunks.length

    def _body(self, data: bytes) -> None:
        exchange = self.exchange
        try:
            piece, ended = self._framed(data)
        except BadMessage as bad:
            if exchange is None:
                self.abort()
            else:
                exchange.give_up(bad_request(bad.status, bad.reason))
            return
        self._body_seen += len(data)
        if exchange is None:
            if ended:
                self._body_is_whole()
                self._await_request(self._proxy.now())
            return
        if ended:
            self._body_is_whole()
        if exchange.plan is not None and self.body_length() > exchange.plan.max_body:
            exchange.too_large()
            return
        exchange.take_body(piece, ended)

    def _framed(self, data: bytes) -> tuple[bytes, bool]:
        """What of `data` belongs to the body, and whether it ends there; the rest is kept."""
        chunks = self._chunks
        if chunks is not None:
            piece = chunks.feed(data)
            if chunks.done:
                self._buffer = chunks.surplus
            return piece, chunks.done
        left = self._left - len(data)
        if left < 0:
            self._buffer = data[left:]
            data = data[:left]
            left = 0
        self._left = left
        return data, not left

    # ends

    def _refuse(self, bad: BadMessage) -> None:
        """A head that cannot be read: there is no exchange, and no next request."""
        proxy = self._proxy
        request_id = proxy.ids.take(32)
        answer = bad_request(bad.status, bad.reason)
        proxy.metrics.flagged(answer.flag)
        proxy.metrics.unrouted.observe(b"", answer.status, 0.0)
        if proxy.log.is_on:
            proxy.log.add(refused_line(proxy, self.peer, answer, request_id, proxy.now()))
        self.transport.write(render(answer, service="", request_id=request_id.decode("ascii")))
        self._buffer = b""
        self._linger(proxy.now())

    def _hang_up(self, now: float) -> None:
        if self.state == BODY or self._buffer:
            self._linger(now)
        elif unsent := self.transport.get_write_buffer_size():
            # Nothing else would end a connection whose client has stopped to read.
            self.state = FLUSH
            self._unsent = unsent
            self.transport.close()
            self.arm(now + self._proxy.edge.write_timeout)
        else:
            self.state = CLOSED
            self.deadline = NEVER
            self._proxy.connections.discard(self)
            self.transport.close()

    def _linger(self, now: float) -> None:
        self.state = LINGER
        self._body_by = NEVER
        self._buffer = b""
        self.end_writing()
        self.resume_reading()
        self._unsent = self.transport.get_write_buffer_size()
        edge = self._proxy.edge
        self.arm(now + (edge.write_timeout if self._unsent else edge.linger))

    def expire(self, now: float) -> None:
        exchange = self.exchange
        if exchange is None:
            if self._is_taking(now):
                self.arm(now + self._proxy.edge.write_timeout)
            elif self.state == HEAD and self._buffer and not self.write_paused:
                self._refuse(BadMessage(408, "the request's head did not come in time"))
            else:
                self.abort()
        elif now >= exchange.due:
            expired(exchange, now)
        elif now >= self._write_by and self._is_stuck():
            exchange.client_gone(Flag.CLIENT_TIMEOUT)
            self.abort()
        elif now >= self._body_by and self._is_trickling():
            exchange.give_up(bad_request(408, "the request's body comes too slowly"))
        if self.exchange is not None:
            self.arm(self.exchange.due)

    def _is_stuck(self) -> bool:
        """Whether the client took nothing since we looked last."""
        before, self._unsent = self._unsent, self.transport.get_write_buffer_size()
        self._write_by = self._proxy.now() + self._proxy.edge.write_timeout
        return self._unsent >= before

    def _is_taking(self, now: float) -> bool:
        """Whether the client still takes what it was answered, if slowly."""
        before, self._unsent = self._unsent, self.transport.get_write_buffer_size()
        if not 0 < self._unsent < before:
            return False
        if self.write_paused:
            self._write_by = now + self._proxy.edge.write_timeout
        return True

    def _is_trickling(self) -> bool:
        """Whether the body came too slowly since we looked last, and not by our own doing."""
        edge = self._proxy.edge
        seen, self._body_seen = self._body_seen, 0
        self._body_by = self._next_body_check()
        return not self._reading_paused and seen < edge.body_rate * edge.body_window
