"""Asks for one path at a steady rate while something else is done, and counts what fails.

Open loop: a request is sent at its time, however many are still under way.
"""

from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Protocol, Self

from seawall.clock import SYSTEM, Clock
from seawall.concurrency.tasks import Tasks
from seawall.errors import SeawallError
from seawall.load.generator import MAX_IN_FLIGHT
from seawall.load.report import quantile
from seawall.topology import Address
from seawall.transport.http1 import request_head
from seawall.transport.pool import Pool, PoolConfig

# What began before the last process was replaced may end after it, and so may its failure.
_TAIL = 1.0  # seconds that it goes on when the other work is over

# A request that a reload holds up for longer than this has failed for whoever waits for it.
WITHIN = 10.0  # seconds

# Latencies that are kept for the quantiles: the last quarter of an hour at 100 a second.
_KEPT = 100_000


@dataclass(frozen=True, slots=True)
class Verified:
    """What came of it. Times in seconds; latency counts from when a request was due."""

    asked: int
    failures: tuple[tuple[str, int], ...]  # what went wrong, and how often
    statuses: tuple[tuple[int, int], ...]
    p99: float
    lag_p99: float  # how late requests were sent: above 0.01 the times say little

    @property
    def failed(self) -> int:
        return sum(count for _, count in self.failures)

    @property
    def served(self) -> int:
        """How many were answered with a status below 400."""
        return sum(count for status, count in self.statuses if status < 400)

    def __str__(self) -> str:
        answers = ", ".join(f"{count} x {status}" for status, count in self.statuses) or "none"
        return (
            f"{self.asked} requests meanwhile, {self.failed} failed "
            f"(answers: {answers}; p99 {self.p99 * 1000:.0f} ms)"
        )


class Asking(Protocol):
    """Whom to ask, and for what; a context that holds the connections."""

    async def __aenter__(self) -> Self: ...

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...

    async def __call__(self, number: int) -> int:
        """The status of the answer to the request of that number. Raises `SeawallError` if there
        was none."""
        ...


class AtAddress:
    """`GET path` at an address. Every other request comes on a connection of its own; the rest
    share kept-alive connections, as a browser's do."""

    def __init__(
        self,
        address: Address,
        path: str,
        headers: Sequence[tuple[str, str]],
        *,
        clock: Clock = SYSTEM,
    ) -> None:
        """Raises `ValueError` where a header or the path holds a line break."""
        authority = str(address)
        self._heads = [
            request_head("GET", path, authority, [*headers, ("connection", kind)], None)
            for kind in ("keep-alive", "close")
        ]
        self._address = address
        self._clock = clock
        self._pool = self._own(MAX_IN_FLIGHT)

    def _own(self, limit: int) -> Pool:
        # To connect may take all of that: who is slow on a busy machine has lost nothing.
        config = PoolConfig(limit=limit, connect_timeout=WITHIN)
        return Pool(self._address, config, clock=self._clock)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._pool.close()

    async def __call__(self, number: int) -> int:
        alone = number % 2
        pool = self._own(1) if alone else self._pool
        try:
            answer = await pool.exchange(self._heads[alone], b"", within=WITHIN, method="GET")
        finally:
            if alone:
                pool.close()
        return answer.status


class Probing:
    """`asking` at `rate` a second. An answer of 500 or more, or none, has failed."""

    def __init__(self, asking: Asking, rate: float, *, clock: Clock = SYSTEM) -> None:
        self._asking = asking
        self._rate = rate
        self._clock = clock
        self._asked = 0
        self._failures: Counter[str] = Counter()
        self._statuses: Counter[int] = Counter()
        self._latencies: deque[float] = deque(maxlen=_KEPT)
        self._lags: deque[float] = deque(maxlen=_KEPT)

    async def run(self, over: Callable[[], bool]) -> Verified:
        """Ask until `over()`, and a moment longer."""
        began, until = self._clock.now(), float("inf")
        async with self._asking as asking, Tasks() as tasks:
            while (now := self._clock.now()) < until:
                if until == float("inf") and over():
                    until = now + _TAIL
                due = began + self._asked / self._rate
                if due > now:
                    await self._clock.sleep(due - now)
                self._asked += 1
                if len(tasks) >= MAX_IN_FLIGHT:
                    self._failures["not sent: too many under way"] += 1
                else:
                    tasks.start(self._ask(asking, self._asked, due))
            await tasks.join()
        return self._verified()

    async def _ask(self, asking: Asking, number: int, due: float) -> None:
        self._lags.append(self._clock.now() - due)
        try:
            status = await asking(number)
        except SeawallError as failure:
            self._failures[str(failure) or type(failure).__name__] += 1
            return
        self._latencies.append(self._clock.now() - due)
        self._statuses[status] += 1
        if status >= 500:
            self._failures[f"status {status}"] += 1

    def _verified(self) -> Verified:
        return Verified(
            self._asked,
            tuple(self._failures.most_common()),
            tuple(sorted(self._statuses.items())),
            quantile(sorted(self._latencies), 0.99),
            quantile(sorted(self._lags), 0.99),
        )
