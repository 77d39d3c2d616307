"""Our connections to one instance: kept alive, used last in first out, one exchange at a time.

An `Upstream` finds where an answer ends and hands it on piece by piece to the attempt that it
serves; what an answer means is the exchange's business. A connection goes back to its endpoint
only if both sides agree on where the answer ended: after a byte too many, a body cut short or a
paused reading it is closed.
"""

import asyncio
import ssl
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, cast

from seawall.clock import Clock
from seawall.concurrency.tasks import Tasks
from seawall.errors import Refused
from seawall.gateway.config import Upstreams
from seawall.gateway.timers import NEVER, Timed, Wheel
from seawall.resilience.breaker import Breaker
from seawall.resilience.rise_fall import RiseFall
from seawall.topology import Instance
from seawall.transport.dialing import Late, dial
from seawall.transport.tls import Secured, explained, is_refusal
from seawall.wire.chunked import Chunked
from seawall.wire.http1 import (
    CHUNKED,
    MAX_RESPONSE_HEAD,
    UNTIL_CLOSE,
    BadMessage,
    ResponseHead,
    scan_response,
)

if TYPE_CHECKING:
    from seawall.gateway.attempt import Attempt
    from seawall.gateway.tunnel import Tunnel

# Interim answers (1xx) before the one that counts; more is a server that does not stop.
MAX_INTERIM: Final = 8

# A process that is being woken, or is busy, shakes hands late; one that hangs, never.
SHAKE_WITHIN: Final = 5.0  # seconds

# Of what was there before this gateway began.
ALWAYS: Final = float("-inf")

# What an Upstream is doing.
IDLE: Final = 0
AWAITING: Final = 1  # a request was sent, its answer's head is not here
RELAYING: Final = 2  # the body comes
TUNNEL: Final = 3  # both sides speak another protocol
CLOSED: Final = 4
NEW: Final = 5  # not connected yet

Towards = Callable[[str], Secured | None]
"""How to call the service of that name: by TLS, or, where it gives None, in plain text."""


class Endpoint:
    """One instance as this gateway sees it, and its connections."""

    __slots__ = (
        "_dialer", "breaker", "check_at", "config", "connections", "health", "idle",
        "idle_timeout", "in_flight", "instance", "key", "limit", "log_name", "log_text", "requests",
        "retired", "since", "suspect", "tls", "token", "weight",
    )  # fmt: skip

    def __init__(self, instance: Instance, config: Upstreams, dialer: "Dialer") -> None:
        self._dialer: Dialer = dialer
        self.config: Upstreams = config
        self.limit: int = config.max_connections
        self.instance: Instance = instance
        self.tls: Secured | None = dialer.towards(instance.service)
        self.key: str = f"{instance.service}/{instance.instance_id}/{instance.incarnation}"
        self.log_name: str = instance.instance_id
        self.log_text: bytes = self.log_name.encode("utf-8", "replace")
        self.breaker: Breaker = Breaker(config.instance_breaker, self.key)
        self.idle_timeout: float = config.idle_timeout
        self.weight: float = float(instance.weight)  # now: less at a slow start
        self.since: float = ALWAYS  # when it began to take requests
        self.health: RiseFall | None = None  # the verdict of active checks, if there are any
        self.check_at: float = ALWAYS  # when the next check is due
        self.token: str = ""  # what a sticky cookie calls it
        self.idle: list[Upstream] = []
        self.connections: int = 0  # open or being opened
        self.in_flight: int = 0  # exchanges under way
        self.requests: int = 0  # ever sent
        self.suspect: bool = False  # failed since it last succeeded
        self.retired: bool = False  # not in the view any more

    def take(self) -> "Upstream | None":
        """An open connection, or None: then `dial` one."""
        while self.idle:
            upstream = self.idle.pop()
            if upstream.state == IDLE:
                return upstream
        return None

    def dial(self, attempt: "Attempt", within: float) -> None:
        """Open a connection for `attempt`; it hears `connected` or `not_connected`."""
        self._dialer.dial(self, attempt, within)

    def retire(self) -> None:
        """The instance is gone, or draining: no new request; what is under way goes on."""
        self.retired = True
        for upstream in self.idle:
            upstream.close()
        self.idle.clear()

    def __repr__(self) -> str:
        return f"<Endpoint {self.key} {self.in_flight} in flight, {len(self.idle)} idle>"


class Dialer:
    """Opens connections in tasks of its own: the one thing on the way that waits."""

    def __init__(
        self, tasks: Tasks, wheel: Wheel, clock: Clock, towards: Towards | None = None
    ) -> None:
        self._tasks = tasks
        self._towards: Towards | None = towards
        self.wheel = wheel
        self.now: Callable[[], float] = clock.now

    def towards(self, service: str) -> Secured | None:
        """How instances of that service are called; None: in plain text."""
        return None if self._towards is None else self._towards(service)

    def dial(self, endpoint: Endpoint, attempt: "Attempt", within: float) -> None:
        endpoint.connections += 1
        self._tasks.start(self._dial(endpoint, attempt, within))

    async def _dial(self, endpoint: Endpoint, attempt: "Attempt", within: float) -> None:
        address = endpoint.instance.address
        upstream = Upstream(endpoint, self)
        protocol = cast(asyncio.Protocol, upstream)
        reason = "the connection was closed at once"
        try:
            await dial(
                lambda: protocol,
                address,
                endpoint.tls,
                connect_within=within or None,
                shake_within=SHAKE_WITHIN,
            )
        except (Late, Refused) as exc:
            if upstream.state == IDLE:  # somebody else answered; or it came just as its time ended
                upstream.close()
            reason = f"{address}: {exc}"
        except ssl.SSLError as exc:
            reason = f"no connection to {address}: {explained(exc)}"
        except OSError as exc:
            reason = f"no connection to {address}: {exc.strerror or exc}"
        if upstream.state == NEW:
            endpoint.connections -= 1
        if upstream.state != IDLE:
            attempt.not_connected(reason)
        elif not attempt.connected(upstream):
            upstream.release(self.now())  # it is not waited for any more: the next one takes it


class Upstream(Timed):
    """A connection to an instance. Driven by the event loop through duck typing."""

    __slots__ = (
        "_chunks",
        "_dialer",
        "_held",
        "_interim",
        "_left",
        "_method",
        "_reading_paused",
        "_rechunk",
        "_tunnel",
        "attempt",
        "endpoint",
        "fit",
        "served",
        "state",
        "transport",
    )

    def __init__(self, endpoint: Endpoint, dialer: Dialer) -> None:
        super().__init__()
        self.endpoint: Endpoint = endpoint
        self._dialer: Dialer = dialer
        self.transport: asyncio.Transport
        self.attempt: Attempt | None = None
        self.state: int = NEW
        self.served: int = 0  # requests sent before this one
        self.fit: bool = True  # may carry another exchange
        self._method: bytes = b""
        self._held: bytes = b""
        self._interim: int = 0
        self._left: int = 0
        self._chunks: Chunked | None = None
        self._rechunk: bool = False
        self._tunnel: Tunnel | None = None
        self._reading_paused: bool = False

    # the attempt's side

    def send(self, attempt: "Attempt", method: bytes, data: bytes) -> None:
        """Begin an exchange with `data`: the request's head, and what there is of its body."""
        self.attempt = attempt
        self.state = AWAITING
        self.deadline = NEVER
        self._method = method
        self._interim = 0
        self.transport.write(data)

    def release(self, now: float) -> None:
        """The exchange is over on both sides: keep the connection, or close it."""
        self.attempt = None
        if self.state == CLOSED:
            return
        endpoint = self.endpoint
        if not self.fit or endpoint.retired or self.state == TUNNEL:
            self.close()
            return
        if self._reading_paused:
            self.resume_reading()
        self.state = IDLE
        self.served += 1
        endpoint.idle.append(self)
        deadline = now + endpoint.idle_timeout
        if deadline < self.soon:
            self._dialer.wheel.watch(self, deadline)
        else:
            self.deadline = deadline

    def close(self) -> None:
        """Close at once; nobody hears of it. Calling it twice is fine."""
        self.attempt = None
        self.deadline = NEVER
        if self.state != CLOSED:
            self.state = CLOSED
            self.transport.abort()

    def pause_reading(self) -> None:
        if not self._reading_paused and self.state != CLOSED:
            self._reading_paused = True
            self.transport.pause_reading()

    def resume_reading(self) -> None:
        if self._reading_paused and self.state != CLOSED:
            self._reading_paused = False
            self.transport.resume_reading()

    # the event loop's side

    def connection_made(self, transport: asyncio.Transport) -> None:
        self.transport = transport
        self.state = IDLE

    def data_received(self, data: bytes) -> None:
        attempt = self.attempt
        try:
            if attempt is None:
                self.close()  # an answer that nobody asked for
            elif self.state == AWAITING:
                self._head(attempt, data)
            elif self.state == RELAYING:
                piece, ended = self._framed(data)
                attempt.relayed(piece, ended)
            elif self._tunnel is not None:
                self._tunnel.from_service(data)
        except BadMessage as bad:
            self.close()
            if attempt is not None:
                attempt.misbehaved(bad.reason)

    def eof_received(self) -> bool:
        tunnel = self._tunnel
        if tunnel is None or self.attempt is None:
            return False
        tunnel.service_ended()
        # TLS as event loops have it ends both directions at once.
        return self.state == TUNNEL and self.endpoint.tls is None

    def connection_lost(self, error: Exception | None) -> None:
        self.endpoint.connections -= 1
        attempt, was = self.attempt, self.state
        self.attempt = None
        self.deadline = NEVER
        self.state = CLOSED
        if was == IDLE:
            if self in self.endpoint.idle:
                self.endpoint.idle.remove(self)
        elif attempt is not None:
            if was == RELAYING and self._left == UNTIL_CLOSE and error is None:
                self.fit = False
                attempt.relayed(b"0\r\n\r\n" if self._rechunk else b"", True)
            elif was == AWAITING and is_refusal(error):
                attempt.turned_away(f"{self.endpoint.instance.address}: {explained(error)}")
            else:
                attempt.lost(self.served > 0)

    def pause_writing(self) -> None:
        if self.attempt is not None:
            self.attempt.full()

    def resume_writing(self) -> None:
        if self.attempt is not None:
            self.attempt.drained()

    def expire(self, now: float) -> None:
        if self.state == IDLE:
            self.endpoint.idle.remove(self)
            self.close()

    # framing

    def _head(self, attempt: "Attempt", data: bytes) -> None:  # noqa: C901 - of every answer
        if self._held:
            data = self._held + data
            self._held = b""
        end = data.find(b"\r\n\r\n") + 4
        if (end if end >= 4 else len(data)) > MAX_RESPONSE_HEAD:
            raise BadMessage(502, f"a head of more than {MAX_RESPONSE_HEAD} bytes")
        if end < 4:
            self._held = data
            return
        head = scan_response(data, end, self._method)
        rest = data[end:]
        if head.status < 200:
            self._interim_head(attempt, head, rest)
            return
        self.state = RELAYING
        if not head.keep_alive:
            self.fit = False
        body = head.body
        ended = False
        if body >= 0:
            self._left = body - len(rest)
            if self._left <= 0:
                ended = True
                if self._left < 0:
                    self.fit = False
                    rest = rest[:body]
        else:
            self._begin_unknown_length(attempt, body)
            if rest or body == CHUNKED:
                rest, ended = self._framed(rest)
        if attempt.is_plain:  # what `Attempt.answered` does, and there is no copy of it
            attempt.exchange.answered(attempt, head, rest, ended)
        else:
            attempt.answered(head, rest, ended)

    def _begin_unknown_length(self, attempt: "Attempt", body: int) -> None:
        self._left = body
        client = attempt.exchange.head
        client_1_1 = client.version_1_1
        if body == CHUNKED:
            self._chunks = Chunked(unwrap=not client_1_1, trailers=client.trailers)
        else:
            self.fit = False
            self._rechunk = client_1_1

    def _framed(self, data: bytes) -> tuple[bytes, bool]:
        """What of `data` belongs to the body, as it is passed on, and whether the body ended."""
        left = self._left
        if left >= 0:
            left -= len(data)
            if left > 0:
                self._left = left
                return data, False
            if left < 0:
                self.fit = False
                data = data[:left]
            self._left = 0
            return data, True
        if left == UNTIL_CLOSE:
            return (b"%x\r\n%b\r\n" % (len(data), data) if self._rechunk else data), False
        chunks = self._chunks
        assert chunks is not None
        data = chunks.feed(data)
        if chunks.done:
            self._chunks = None
            if chunks.surplus:
                self.fit = False
        return data, chunks.done

    def _interim_head(self, attempt: "Attempt", head: ResponseHead, rest: bytes) -> None:
        if head.status == 101:
            if not attempt.may_switch(head):
                raise BadMessage(502, "101 without being asked")
            self.state = TUNNEL
            self.fit = False
            self._tunnel = attempt.switched(head, rest)
            return
        self._interim += 1
        if self._interim > MAX_INTERIM:
            raise BadMessage(502, f"more than {MAX_INTERIM} interim answers")
        if head.status == 103:
            attempt.hinted(head)
        if rest:
            self._head(attempt, rest)
