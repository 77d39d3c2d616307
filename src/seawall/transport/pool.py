"""Keep-alive connections to one address: bounded, last in first out, with a bounded queue.

The most recently used connection goes first, so that those not needed any more grow old and
close. A connection that idled longer than `idle_for` is not used again: servers close idle
connections (uvicorn after 5 s), and a request written into a connection that is just being
closed has an unknown outcome. Staying below that makes the case rare instead of usual.
"""

import asyncio
import ssl
from collections import deque
from dataclasses import dataclass

from seawall.clock import SYSTEM, Clock
from seawall.errors import Full, NotSent, Refused
from seawall.topology import Address
from seawall.transport.dialing import Late, dial
from seawall.transport.http1 import Answer, Connection
from seawall.transport.tls import Secured, explained


class ConnectFailed(NotSent):
    """Nobody answers at that address, or somebody else; the request was not sent."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PoolConfig:
    # More than this to one Python process only lengthens its queue; HTTP/1.1 needs one for each
    # request under way.
    limit: int = 128  # connections
    waiting: int = 1024  # callers in the queue; further ones get `Full` at once
    connect_timeout: float = 1.0  # seconds
    idle_for: float = 4.0  # seconds; below uvicorn's 5
    max_body: int = 10 * 1024 * 1024  # bytes of one answer


@dataclass(frozen=True, slots=True)
class PoolSnapshot:
    active: int
    idle: int
    waiting: int


class Pool:
    """Connections to one address."""

    def __init__(
        self,
        address: Address,
        config: PoolConfig | None = None,
        *,
        tls: Secured | None = None,
        clock: Clock = SYSTEM,
    ) -> None:
        self.address = address
        self._config = config or PoolConfig()
        self._tls = tls
        self._clock = clock
        self._idle: deque[Connection] = deque()
        self._active = 0
        self._waiters: deque[asyncio.Future[None]] = deque()
        self._closed = False

    @property
    def active(self) -> int:
        """Requests under way: the load that balancing compares."""
        return self._active

    async def exchange(self, head: bytes, body: bytes, *, within: float, method: str) -> Answer:
        """Send a request on a pooled connection; waiting and connecting count in `within`.

        Raises `Full`, `ConnectFailed` and what `Connection.exchange` raises.
        """
        until = self._clock.now() + within
        await self._take_place(within)
        connection = None
        try:
            connection = self._reuse() or await self._connect(until - self._clock.now())
            remaining = until - self._clock.now()
            if remaining <= 0:
                raise NotSent("the time was used up waiting for a connection")
            return await connection.exchange(head, body, within=remaining, method=method)
        finally:
            if connection is not None:
                self._give_back(connection)
            self._leave_place()

    async def _take_place(self, within: float) -> None:
        """Take one of `limit` places, waiting in line for it if need be."""
        if self._active < self._config.limit:
            self._active += 1
            return
        if len(self._waiters) >= self._config.waiting:
            raise Full(f"{self.address}: {len(self._waiters)} callers wait for a connection")
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiters.append(waiter)
        try:
            async with asyncio.timeout(within):
                await waiter
        except (TimeoutError, asyncio.CancelledError) as exc:
            if waiter.done() and not waiter.cancelled():
                self._leave_place()  # it was handed over at the very moment we gave up
            elif waiter in self._waiters:
                self._waiters.remove(waiter)
            if isinstance(exc, TimeoutError):
                raise Full(f"{self.address}: no free connection within {within:.3f} s") from None
            raise

    def _leave_place(self) -> None:
        """Hand the place to the first in line; nobody who comes later gets in between."""
        while self._waiters:
            waiter = self._waiters.popleft()
            if not waiter.done():
                waiter.set_result(None)
                return
        self._active -= 1

    def _reuse(self) -> Connection | None:
        oldest = self._clock.now() - self._config.idle_for
        while self._idle:
            connection = self._idle.pop()
            if connection.reusable and connection.idle_since > oldest:
                return connection
            connection.abort()
        return None

    async def _connect(self, within: float) -> Connection:
        if self._closed:
            raise NotSent(f"{self.address}: the pool is closed")
        try:
            _, connection = await dial(
                lambda: Connection(max_body=self._config.max_body),
                self.address,
                self._tls,
                connect_within=min(within, self._config.connect_timeout),
                shake_within=within,
            )
        except (Late, Refused) as exc:
            raise ConnectFailed(f"{self.address}: {exc}") from exc
        except ssl.SSLError as exc:
            raise ConnectFailed(f"{self.address}: {explained(exc)}") from exc
        except OSError as exc:
            raise ConnectFailed(f"{self.address}: {exc.strerror or exc}") from exc
        return connection

    def _give_back(self, connection: Connection) -> None:
        if connection.reusable and not self._closed:
            connection.idle_since = now = self._clock.now()
            self._idle.append(connection)
            while self._idle[0].idle_since < now - self._config.idle_for:
                self._idle.popleft().abort()
        else:
            connection.abort()

    def drop_idle(self) -> None:
        """Close the connections that nobody uses now."""
        while self._idle:
            self._idle.pop().abort()

    def close(self) -> None:
        """Close idle connections now and the others when their exchange ends."""
        self._closed = True
        self.drop_idle()

    def snapshot(self) -> PoolSnapshot:
        return PoolSnapshot(self._active, len(self._idle), len(self._waiters))

    def __repr__(self) -> str:
        now = self.snapshot()
        return f"<Pool {self.address} {now.active} active, {now.idle} idle, {now.waiting} waiting>"
