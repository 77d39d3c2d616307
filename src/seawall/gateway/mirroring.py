"""Copies of requests for a service that is tried out; nobody waits for what it answers.

A copy is made when the whole request is on its way. It has a connection and a time of its own,
and it ends alone: its exchange never hears of it. It is made once, and judges nobody: whatever
becomes of it, breakers and the choice of instances see no failure. Above its bound a request is
not copied, which is counted.
"""

from collections.abc import Callable
from random import Random
from typing import TYPE_CHECKING, Final

from seawall.gateway import forwarding
from seawall.gateway.attempt import Attempt
from seawall.gateway.clusters import Cluster
from seawall.gateway.traffic import Mirror
from seawall.gateway.upstream import Endpoint, Upstream
from seawall.gateway.verdicts import NEITHER
from seawall.resilience.breaker import Permit
from seawall.wire.http1 import ResponseHead

if TYPE_CHECKING:
    from seawall.gateway.exchange import Exchange

# Of an answer, what is read so that its connection can carry the next copy. Behind it a new
# connection is cheaper.
MAX_READ: Final = 1024 * 1024
MARK: Final = b"x-mirror: 1\r\n"

# What became of a copy, or why there is none.
ANSWERED: Final = "answered"  # below 500
FAILED: Final = "failed"  # 500 and above
BROKEN: Final = "broken"  # no connection, or none until the answer's end
LATE: Final = "late"
TOO_LARGE: Final = "too_large"  # the request is longer than what is kept of it
OVERFLOW: Final = "overflow"  # too many are under way
NOBODY: Final = "nobody"  # no instance can take one
OUTCOMES: Final = (ANSWERED, FAILED, BROKEN, LATE, TOO_LARGE, OVERFLOW, NOBODY)


class Mirroring:
    """Copies the requests of one route, and counts what becomes of them."""

    __slots__ = ("_copies", "_now", "_percent", "_rng", "cluster", "config", "counts", "in_flight")

    def __init__(
        self,
        config: Mirror,
        cluster: Cluster,
        copies: "Copies",
        rng: Random,
        now: Callable[[], float],
    ) -> None:
        self.config: Mirror = config
        self.cluster: Cluster = cluster
        self.in_flight: int = 0
        self.counts: dict[str, int] = dict.fromkeys(OUTCOMES, 0)
        self._copies: Copies = copies
        self._percent: float = config.percent
        self._rng: Random = rng
        self._now: Callable[[], float] = now

    def wants(self, exchange: "Exchange") -> bool:
        """Whether this request is one of those that are copied. Other protocols cannot be."""
        return not exchange.head.upgrade and self._rng.random() * 100 < self._percent

    def copy(self, exchange: "Exchange", now: float) -> None:
        """Send the request, which is whole, once more; or count why not."""
        if not exchange.is_replayable():
            self.counts[TOO_LARGE] += 1
            return
        if self.in_flight >= self.config.max_in_flight:
            self.counts[OVERFLOW] += 1
            return
        cluster = self.cluster
        picked = cluster.pick(now, ())
        if picked is None:
            self.counts[NOBODY] += 1
            return
        endpoint, permit = picked
        if permit.probe:
            endpoint.breaker.cancelled(permit, now)  # whether it is well again, others find out
            self.counts[NOBODY] += 1
            return
        data = forwarding.request_bytes(exchange, exchange.deadline, now)
        body = b"".join(exchange.held or ())
        data = b"%b%b\r\n%b" % (data[:-2], MARK, body)
        copy = Copy(exchange, self, endpoint, permit, data, now)
        self.in_flight += 1
        self._copies.under_way.add(copy)
        copy.begin(now)

    def now(self) -> float:
        return self._now()

    def ended(self, copy: "Copy", outcome: str) -> None:
        self.in_flight -= 1
        self.counts[outcome] += 1
        self._copies.under_way.discard(copy)


class Copy(Attempt):
    """One try of a copied request, whose answer is thrown away."""

    __slots__ = ("_data", "_mirroring", "_read", "_status")

    def __init__(
        self,
        exchange: "Exchange",
        mirroring: Mirroring,
        endpoint: Endpoint,
        permit: Permit,
        data: bytes,
        now: float,
    ) -> None:
        super().__init__(exchange, mirroring.cluster, endpoint, permit, now)
        self.due = now + mirroring.config.timeout
        self._mirroring: Mirroring = mirroring
        self._data: bytes = data
        self._read: int = 0
        self._status: int = 0

    def begin(self, now: float) -> None:
        """Send it on a connection that is open, or open one."""
        upstream = self.endpoint.take()
        if upstream is None:
            self.endpoint.dial(self, self.exchange.planned().connect_timeout)
        else:
            self._send(upstream, now)

    def _send(self, upstream: Upstream, now: float) -> None:
        data, self._data = self._data, b""
        self.upstream = upstream
        upstream.send(self, self.exchange.head.method, data)

    def finish(self, outcome: str, now: float) -> None:
        """Give everything back. Only the first call counts."""
        if not self.over:
            self.drop(NEITHER, now)
            self._mirroring.ended(self, outcome)

    # the connection's side

    def connected(self, upstream: Upstream) -> bool:
        if self.over:
            return False
        self._send(upstream, self._mirroring.now())
        return True

    def not_connected(self, reason: str) -> None:
        self.finish(BROKEN, self._mirroring.now())

    def answered(self, head: ResponseHead, piece: bytes, ended: bool) -> None:
        self._status = head.status
        self.relayed(piece, ended)

    def relayed(self, piece: bytes, ended: bool) -> None:
        self._read += len(piece)
        if not ended and self._read <= MAX_READ:
            return
        now, upstream = self._mirroring.now(), self.upstream
        if ended and upstream is not None and not upstream.transport.get_write_buffer_size():
            self.upstream = None
            upstream.release(now)
        self.finish(ANSWERED if self._status < 500 else FAILED, now)

    def hinted(self, head: ResponseHead) -> None:
        """Nobody gets it."""

    def may_switch(self, head: ResponseHead) -> bool:
        return False

    def lost(self, served: bool) -> None:
        self.upstream = None
        self.finish(BROKEN, self._mirroring.now())

    def turned_away(self, reason: str) -> None:
        self.upstream = None
        self.finish(BROKEN, self._mirroring.now())

    def misbehaved(self, reason: str) -> None:
        self.upstream = None
        self.finish(BROKEN, self._mirroring.now())

    def full(self) -> None:
        """All there is of it was written at once: there is nobody to stop."""

    def drained(self) -> None:
        """See `full`."""


class Copies:
    """Those under way, of all routes and of routes that there were."""

    __slots__ = ("under_way",)

    def __init__(self) -> None:
        self.under_way: set[Copy] = set()

    def turn(self, now: float) -> None:
        """Give up those whose time has passed."""
        for copy in [copy for copy in self.under_way if copy.due <= now]:
            copy.finish(LATE, now)

    def close(self, now: float) -> None:
        """Give up all."""
        for copy in list(self.under_way):
            copy.finish(LATE, now)
