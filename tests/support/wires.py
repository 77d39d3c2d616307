"""A client's connection and one to the only instance, on transports that only remember."""

import re
from collections.abc import Mapping
from random import Random
from typing import Any, cast

from seawall.gateway.auth import Provider
from seawall.gateway.config import Edge, GatewayConfig, Route, Upstreams
from seawall.gateway.connection import CLOSED, Downstream
from seawall.gateway.gateway import Gateway, Known, Static
from seawall.gateway.upstream import AWAITING, Upstream
from seawall.testing.clock import ManualClock
from seawall.topology import Address, Instance, InstanceState

STATUS = re.compile(rb"HTTP/1\.1 ([0-9]{3}) ")
OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"
SHOP = Instance(
    service="shop",
    version="1.0.0",
    instance_id="shop-1",
    incarnation="1",
    address=Address("192.0.2.2", 80),
    state=InstanceState.READY,
)


class Wire:
    """A transport that remembers what was written."""

    def __init__(self) -> None:
        self.data = b""
        self.closed = False
        self.aborted = False
        self.reading = True
        self.unsent = 0

    def write(self, data: bytes) -> None:
        self.data += data

    def write_eof(self) -> None:
        self.closed = True

    def can_write_eof(self) -> bool:
        return True

    def close(self) -> None:
        self.closed = True

    def abort(self) -> None:
        self.closed = self.aborted = True

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True

    def get_write_buffer_size(self) -> int:
        return self.unsent

    def get_extra_info(self, name: str) -> tuple[str, int]:
        return "192.0.2.1", 1

    def taken(self) -> bytes:
        data, self.data = self.data, b""
        return data


class Pair:
    """A client's connection, and one to the only instance."""

    def __init__(
        self,
        *,
        routes: tuple[Route, ...] = (Route(service="shop"),),
        edge: Edge | None = None,
        providers: Mapping[str, Provider] | None = None,
        trusted_proxies: tuple[str, ...] = (),
    ) -> None:
        self.clock = ManualClock()
        config = GatewayConfig(
            routes=routes,
            edge=edge or Edge(),
            upstreams=Upstreams(attempts=1),  # a second one would open a connection
            trusted_proxies=trusted_proxies,
        )
        self.gateway = Gateway(
            config, Static(SHOP), clock=self.clock, rng=Random(1), providers=providers
        )
        self.gateway._view_changed(Known((SHOP,)))
        self.client = Wire()
        self.down = Downstream(self.gateway.proxy)
        self.down.connection_made(cast(Any, self.client))
        self.endpoint = self.gateway.cluster_list()[0].endpoints[0]
        self.up: Upstream
        self.service: Wire
        self.connect()

    def connect(self) -> None:
        """Open another connection to the instance."""
        self.service = Wire()
        self.endpoint.connections += 1
        self.up = Upstream(self.endpoint, self.endpoint._dialer)
        self.up.connection_made(cast(Any, self.service))
        self.endpoint.idle.append(self.up)

    def feed(self, data: bytes, answer: bytes = OK) -> list[bytes]:
        """Let the client send `data`; answer every request that becomes whole, and return them."""
        self.down.data_received(data)
        whole = []
        while self.up.state == AWAITING and self._is_whole():
            whole.append(self.service.taken())
            self.up.data_received(answer)
        return whole

    def pass_time(self, seconds: float) -> None:
        self.clock.advance(seconds)
        now = self.clock.now()
        for timed in self.gateway.proxy.wheel.turn(now):
            timed.expire(now)

    def _is_whole(self) -> bool:
        exchange = self.down.exchange
        return exchange is not None and exchange.body_done

    @property
    def is_over(self) -> bool:
        """Whether the gateway has told the client to go."""
        return self.client.closed or self.down.state == CLOSED

    @property
    def statuses(self) -> list[int]:
        """Of the answers that the client got so far."""
        return [int(digits) for digits in STATUS.findall(self.client.data)]

    def is_at_rest(self) -> bool:
        return self.endpoint.in_flight == 0 and self.gateway.proxy.metrics.active_requests == 0
