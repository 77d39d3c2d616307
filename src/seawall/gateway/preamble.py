"""Connections that begin with the PROXY protocol: a load balancer says whose they are.

What is not exactly that, or comes from a peer that is not trusted, is cut off without an answer.
"""

import asyncio

from seawall.gateway.connection import Downstream
from seawall.gateway.proxy import Proxy
from seawall.gateway.stages import CLOSED
from seawall.wire import proxy_protocol


class Announced(Downstream):
    """A client's connection behind such a load balancer."""

    __slots__ = ("_begun", "_is_announced")

    def __init__(self, proxy: Proxy) -> None:
        super().__init__(proxy)
        self._begun: bytes = b""
        self._is_announced: bool = False

    def connection_made(self, transport: asyncio.Transport) -> None:
        super().connection_made(transport)
        if self.state != CLOSED and not self.trusted:
            self._cut_off()

    def data_received(self, data: bytes) -> None:
        if self._is_announced:
            super().data_received(data)
            return
        self._begun += data
        try:
            said = proxy_protocol.read(self._begun)
        except proxy_protocol.BadPreamble:
            self._cut_off()
            return
        if said is None:
            return
        self._is_announced = True
        if said.client:
            self.comes_from(said.client)
        rest, self._begun = self._begun[said.size :], b""
        if rest:
            super().data_received(rest)

    def _cut_off(self) -> None:
        self._proxy.metrics.connections_refused += 1
        self.abort()
