"""After an upgrade: bytes both ways, as they come, until both sides have ended or nothing comes."""

from typing import TYPE_CHECKING

from seawall.gateway import forwarding
from seawall.gateway.upstream import Upstream
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
    exchange.down.write(forwarding.switch_bytes(exchange, head, rest))
    tunnel = exchange.tunnel = Tunnel(exchange, proxy, upstream, idle)
    exchange.down.begin_tunnel(tunnel)
    return tunnel


class Tunnel:
    """The two directions of one exchange that changed its protocol.

    Backpressure is the exchange's, as for any other body. When one side ends the other may go on
    for `half_close` seconds.
    """

    __slots__ = ("_exchange", "_half_ended", "_idle", "_proxy", "_upstream")

    def __init__(
        self, exchange: "Exchange", proxy: "Proxy", upstream: Upstream, idle: float
    ) -> None:
        self._exchange: Exchange = exchange
        self._proxy: Proxy = proxy
        self._upstream: Upstream = upstream
        self._idle: float = idle  # seconds without a byte, after which it ends
        self._half_ended: bool = False
        exchange.due = proxy.now() + idle
        exchange.down.arm(exchange.due)

    def from_service(self, data: bytes) -> None:
        exchange = self._exchange
        exchange.bytes_out += len(data)
        exchange.down.write(data)
        self._touch()

    def from_client(self, data: bytes) -> None:
        exchange = self._exchange
        exchange.bytes_in += len(data)
        self._upstream.transport.write(data)
        self._touch()

    def service_ended(self) -> None:
        self._exchange.down.end_writing()
        self._ended()

    def client_ended(self) -> None:
        self._upstream.transport.write_eof()
        self._ended()

    def _ended(self) -> None:
        exchange = self._exchange
        if self._half_ended:
            exchange.tunnel_ended()
        else:
            self._half_ended = True
            exchange.client_ended()

    def _touch(self) -> None:
        if not self._half_ended:
            self._exchange.due = self._proxy.now() + self._idle
