"""One try of a request at one instance: what it takes there, and that it is given back once.

An instance's connection (`Upstream`) talks to the attempt it serves, and the attempt to its
exchange, which decides what to do next. Several attempts of one exchange may be under way.
"""

from typing import TYPE_CHECKING

from seawall.gateway import forwarding
from seawall.gateway.timers import NEVER
from seawall.gateway.tunnel import Tunnel, switched
from seawall.gateway.upstream import Endpoint, Upstream
from seawall.gateway.verdicts import BAD, GOOD
from seawall.resilience.breaker import Permit
from seawall.wire import websocket
from seawall.wire.http1 import ResponseHead

if TYPE_CHECKING:
    from seawall.gateway.clusters import Cluster
    from seawall.gateway.exchange import Exchange


class Attempt:
    """A place at an endpoint and its breaker's permit, and the connection once there is one."""

    __slots__ = (
        "_cluster", "began", "due", "endpoint", "exchange", "is_plain", "over", "permit",
        "upstream",
    )  # fmt: skip

    def __init__(
        self,
        exchange: "Exchange",
        cluster: "Cluster",
        endpoint: Endpoint,
        permit: Permit,
        now: float,
    ) -> None:
        self.exchange: Exchange = exchange
        self.endpoint: Endpoint = endpoint
        self.upstream: Upstream | None = None
        self.began: float = now
        self.over: bool = False
        self.is_plain: bool = False  # begun by `plain.send`
        self.due: float = NEVER  # when its own time is up, if the route gives it one
        self._cluster: Cluster = cluster
        self.permit: Permit = permit
        endpoint.in_flight += 1
        endpoint.requests += 1

    # the exchange's side

    def begin(self, now: float) -> None:
        """Send the request on a connection that is open, or open one."""
        exchange, endpoint = self.exchange, self.endpoint
        plan = exchange.plan
        assert plan is not None
        if plan.tries_are_timed:
            self.due = now + plan.per_try_timeout
            exchange.rearm()
        exchange.instance = endpoint.log_text
        # After a failure only a new connection says anything: those kept may all be dead.
        upstream = endpoint.take() if endpoint not in exchange.tried else None
        if upstream is None:
            endpoint.dial(self, plan.connect_timeout)
        else:
            self._send(upstream, now)

    def _send(self, upstream: Upstream, now: float) -> None:
        exchange, head = self.exchange, self.exchange.head
        self.upstream = upstream
        until = self.due if self.due < exchange.deadline else exchange.deadline
        data = forwarding.request_bytes(exchange, until, now)
        if exchange.held is not None:
            data += exchange.held_body()
        upstream.send(self, head.method, data)
        if exchange.body_done:
            plan = exchange.plan
            if exchange.mirror is not None or plan is None or plan.tries_are_timed:
                self.sent(now)
        elif head.expects_continue:
            head.expects_continue = False
            exchange.down.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def sent(self, now: float) -> None:
        """The whole request is on its way."""
        plan, mirror = self.exchange.plan, self.exchange.mirror
        assert plan is not None
        if mirror is not None:
            self.exchange.mirror = None
            mirror.copy(self.exchange, now)
        if plan.tries_are_timed:
            self.due = min(self.due, now + plan.first_byte_timeout)
            self.exchange.rearm()

    # the connection's side

    def connected(self, upstream: Upstream) -> bool:
        """A connection that was dialled is here. False if it is not wanted any more."""
        if self.over:
            return False
        self._send(upstream, self.exchange.proxy.now())
        return True

    def not_connected(self, reason: str) -> None:
        """Dialling failed."""
        if not self.over:
            self.exchange.not_connected(self, reason)

    def answered(self, head: ResponseHead, piece: bytes, ended: bool) -> None:
        """The answer's head is here, and `piece` of its body."""
        self.exchange.answered(self, head, piece, ended)

    def relayed(self, piece: bytes, ended: bool) -> None:
        """The next piece of the answer's body."""
        self.exchange.relayed(piece, ended)

    def hinted(self, head: ResponseHead) -> None:
        """Early hints (103) came before the answer: for clients that know interim answers."""
        exchange = self.exchange
        if exchange.head.version_1_1:
            exchange.down.write(forwarding.hint_bytes(head))

    def may_switch(self, head: ResponseHead) -> bool:
        """Whether the instance may change to the protocol that it names."""
        wanted = forwarding.wanted_upgrade(self.exchange)
        if not wanted or head.upgrade != wanted:
            return False
        asked = self.exchange.head.values(b"sec-websocket-key")
        return wanted != websocket.NAME or websocket.agrees(
            asked, head.values(b"sec-websocket-accept")
        )

    def switched(self, head: ResponseHead, rest: bytes) -> Tunnel:
        """The instance speaks another protocol from here on."""
        upstream = self.upstream
        assert upstream is not None
        return switched(self.exchange, upstream, head, rest)

    def lost(self, served: bool) -> None:
        """The connection broke before the answer was whole; `served`: it was not a new one."""
        self.upstream = None
        self.exchange.upstream_lost(self, served)

    def turned_away(self, reason: str) -> None:
        """The instance does not take our certificate; nobody has read the request."""
        self.upstream = None
        self.exchange.not_connected(self, reason)

    def misbehaved(self, reason: str) -> None:
        """What the instance sent is not HTTP; its connection is closed already."""
        self.upstream = None
        self.exchange.upstream_misbehaved(self, reason)

    def full(self) -> None:
        """The instance takes no more of the request for now."""
        self.exchange.down.pause_reading()

    def drained(self) -> None:
        """The instance takes more of the request again."""
        self.exchange.down.resume_reading()

    # ends

    def leave(self, verdict: int, now: float) -> None:
        """Give the endpoint back, and say how it did. Only the first call counts."""
        if self.over:
            return
        self.over = True
        endpoint, permit = self.endpoint, self.permit
        endpoint.in_flight -= 1
        if verdict == GOOD:
            if endpoint.suspect or permit.probe:
                self._cluster.succeeded(endpoint, permit, now)
            else:
                endpoint.breaker.succeeded(permit, now)
        elif verdict == BAD:
            self._cluster.failed(endpoint, permit, now, now - self.began)
        else:
            endpoint.breaker.cancelled(permit, now)

    def drop(self, verdict: int, now: float) -> None:
        """Close the connection in the midst of it, and leave."""
        upstream, self.upstream = self.upstream, None
        if upstream is not None:
            upstream.close()
        self.leave(verdict, now)
