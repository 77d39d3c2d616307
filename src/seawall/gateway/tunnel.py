"""After an upgrade: bytes both ways, as they come, until both sides have ended or nothing comes.

Nobody looks at the bytes, so they are counted: a tunnel ends after so many, and after so long. Of
a WebSocket it is known where the service's frames end, so that a gateway that goes can say so.
"""

from typing import TYPE_CHECKING

from seawall.gateway import forwarding
from seawall.gateway.answers import Flag
from seawall.gateway.timers import NEVER
from seawall.gateway.upstream import Upstream
from seawall.gateway.verdicts import GOOD, NEITHER
from seawall.wire import websocket
from seawall.wire.http1 import ResponseHead

if TYPE_CHECKING:
    from seawall.gateway.exchange import Exchange
    from seawall.gateway.proxy import Proxy


def switched(exchange: "Exchange", upstream: Upstream, head: ResponseHead, rest: bytes) -> "Tunnel":
    """The instance speaks the other protocol from here on; so do we all."""
    proxy, idle = exchange.proxy, exchange.planned().stream_idle
    exchange.waited = proxy.now() - exchange.started
    exchange.status = head.status
    exchange.begin_stream(idle)
    exchange.bytes_out += len(rest)
    cluster = exchange.cluster
    if cluster is not None and cluster.sticky is not None:
        exchange.told += cluster.sticky.told(exchange, upstream.endpoint.token)
    exchange.down.write(forwarding.switch_bytes(exchange, head, rest))
    tunnel = exchange.tunnel = Tunnel(exchange, proxy, upstream, idle)
    tunnel.begin(rest)
    exchange.down.begin_tunnel(tunnel)
    return tunnel


class Tunnel:
    """The two directions of one exchange that changed its protocol.

    Backpressure is the exchange's, as for any other body. When one side ends the other may go on
    for `half_close` seconds.
    """

    __slots__ = (
        "_exchange", "_frames", "_half_ended", "_idle", "_left", "_proxy", "_until", "_upstream",
    )  # fmt: skip

    def __init__(
        self, exchange: "Exchange", proxy: "Proxy", upstream: Upstream, idle: float
    ) -> None:
        self._exchange: Exchange = exchange
        self._proxy: Proxy = proxy
        self._upstream: Upstream = upstream
        self._idle: float = idle  # seconds without a byte, after which it ends
        self._half_ended: bool = False
        edge, route = proxy.edge, exchange.planned().route
        lifetime, size = route.tunnel_lifetime, route.tunnel_bytes
        lifetime = edge.tunnel_lifetime if lifetime is None else lifetime
        self._until: float = proxy.now() + (lifetime or NEVER)
        self._left: float = (edge.tunnel_bytes if size is None else size) or NEVER

        is_websocket = exchange.head.upgrade == websocket.NAME
        self._frames: websocket.Frames | None = websocket.Frames() if is_websocket else None

    def begin(self, said: bytes) -> None:
        """The service has `said` this already."""
        if self._frames is not None:
            self._frames.feed(said)
        self._touch()
        self._exchange.down.arm(self._exchange.due)

    def is_used_up(self, now: float) -> bool:
        """Whether it has lasted as long, or carried as much, as it may."""
        return now >= self._until or self._left < 0

    def use_up(self, now: float) -> None:
        """End it, visibly for both sides."""
        self._exchange.drop(now, NEITHER)
        self._exchange.broken(Flag.TUNNEL_LIMIT, now, GOOD)

    def from_service(self, data: bytes) -> None:
        exchange = self._exchange
        exchange.bytes_out += len(data)
        if self._frames is not None:
            self._frames.feed(data)
        exchange.down.write(data)
        self._carried(len(data))

    def from_client(self, data: bytes) -> None:
        exchange = self._exchange
        exchange.bytes_in += len(data)
        self._upstream.transport.write(data)
        self._carried(len(data))

    def go_away(self, now: float) -> None:
        """The gateway's time is up: end it with what was said so far. Who speaks WebSocket is
        told why, unless that would be within a frame."""
        if self._frames is not None and self._frames.may_close and not self._half_ended:
            self._exchange.down.write(websocket.GOING_AWAY)
        self.end(now)

    def end(self, now: float) -> None:
        """Both sides have ended, or the instance's was lost."""
        self._exchange.drop(now, GOOD)
        self._exchange.end(now, GOOD)
        self._exchange.down.finished(False, now)

    def service_ended(self) -> None:
        self._exchange.down.end_writing()
        self._ended()

    def client_ended(self) -> None:
        if self._upstream.transport.can_write_eof():  # by TLS it cannot be told
            self._upstream.transport.write_eof()
        self._ended()

    def _ended(self) -> None:
        exchange = self._exchange
        if self._half_ended:
            self.end(self._proxy.now())
        else:
            self._half_ended = True
            exchange.client_ended()

    def _carried(self, size: int) -> None:
        self._left -= size
        if self._left < 0:
            self.use_up(self._proxy.now())
        else:
            self._touch()

    def _touch(self) -> None:
        if not self._half_ended:
            self._exchange.due = min(self._proxy.now() + self._idle, self._until)
