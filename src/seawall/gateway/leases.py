"""Claims shares of the shared limits, again and again, so that no request has to ask for one.

Rounds are INTERVAL apart and take the busy keys of all limits in batches. A share is counted from
the moment it was asked for, so it ends here before the ledger lends it to somebody else. When no
round succeeds for as long as a lease, each limit does what its `when_away` says.
"""

import math
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from hashlib import blake2b

from seawall.clock import Clock
from seawall.concurrency.tasks import running
from seawall.errors import Misconfigured, Unavailable
from seawall.facts import Observer
from seawall.gateway.ledger import Claim, Ledger
from seawall.gateway.quota import Counters, Rule
from seawall.resilience.sharing import SharedLimiter

# How soon a share follows demand: two rounds, since one process must let go before the other
# gets it.
INTERVAL = 0.5  # seconds

# Three rounds may fail before shares end. A process that dies keeps its share for so long.
LEASE = 2.0  # seconds

# Of one call: the script takes about 25 us for each, so it holds the server up for 3 ms.
BATCH = 128  # claims


@dataclass(frozen=True, slots=True)
class LimitsAway:
    """The ledger of shared limits was not reached for as long as a lease."""

    reason: str
    at: float


@dataclass(frozen=True, slots=True)
class LimitsBack:
    """The ledger answers again; shared limits are shared."""

    after: float  # seconds
    at: float


class Leases:
    """The shares of one gateway process."""

    def __init__(
        self,
        counters: Counters,
        ledger: Ledger | None,
        process: str,
        clock: Clock,
        observer: Observer,
    ) -> None:
        self._counters = counters
        self._ledger = ledger
        self._process = process
        self._clock = clock
        self._observer = observer
        self._trusted_until = -math.inf
        self._away_since: float | None = None
        self.processes = counters.processes

    @property
    def is_away(self) -> bool:
        return self._away_since is not None

    def check(self) -> None:
        """Raise `Misconfigured` where a limit is shared and there is nobody to ask."""
        if self._ledger is None:
            for name, _ in _shared(self._counters.drafted()):
                raise Misconfigured(
                    f"the limit {name} is shared, and there is no ledger to share it by",
                    fix="Gateway(..., ledger=ValkeyLedger(url))",
                )

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Claim while the block is open. The first round is over when it is entered."""
        if self._ledger is None:
            yield
            return
        await self.claim()
        try:
            async with running(self._keep_claiming(), name="gateway leases"):
                yield
        finally:
            with suppress(Unavailable):  # it finds out when the lease ends
                await self._ledger.leave(self._process)

    async def _keep_claiming(self) -> None:
        while True:
            await self._clock.sleep(INTERVAL)
            await self.claim()

    async def claim(self) -> None:
        """One round: say what was asked for, and take the shares that are given."""
        shared = list(_shared(self._counters.rules()))
        if self._ledger is None or not shared:
            return
        try:
            await self._round(self._ledger, shared)
        except Unavailable as reason:
            now = self._clock.now()
            if self._away_since is None and now >= self._trusted_until:
                self._away_since = now
                self._observer(LimitsAway(str(reason), now))
            return
        if self._away_since is not None:
            now = self._clock.now()
            self._observer(LimitsBack(now - self._away_since, now))
            self._away_since = None

    def welcome(self, now: float) -> None:
        """Limits are new. The others were reached, so their processes are known: until the next
        round the new ones count on that, and not on being away."""
        if now < self._trusted_until:
            for _, limiter in _shared(self._counters.rules()):
                if limiter.is_away(now):
                    limiter.trust(self.processes, self._trusted_until)

    async def _round(self, ledger: Ledger, shared: list[tuple[str, SharedLimiter]]) -> None:
        asked_at = self._clock.now()
        wanted = [
            (limiter, key, Claim(_name(name, key), limiter.leasable, demand))
            for name, limiter in shared
            for key, demand in limiter.claims(asked_at, LEASE)
        ]
        # One call at least: that we are here is what others divide by.
        for start in range(0, max(1, len(wanted)), BATCH):
            batch = wanted[start : start + BATCH]
            asked_at = self._clock.now()
            grant = await ledger.claim(self._process, [claim for _, _, claim in batch], LEASE)
            now, until = self._clock.now(), asked_at + LEASE
            for (limiter, key, _), share in zip(batch, grant.shares, strict=True):
                limiter.lend(key, share, until, now)
            self._trust(grant.processes, until, shared)

    def _trust(self, processes: int, until: float, shared: list[tuple[str, SharedLimiter]]) -> None:
        # A server that lost its data hears of us one by one; those that we know of are there.
        self.processes = max(processes, self._counters.processes)
        self._trusted_until = until
        for _, limiter in shared:
            limiter.trust(self.processes, until)

    def __repr__(self) -> str:
        state = "away" if self.is_away else f"{self.processes} processes"
        return f"<Leases of {self._process}, {state}>"


def _shared(rules: Iterable[Rule]) -> Iterable[tuple[str, SharedLimiter]]:
    for rule in rules:
        if isinstance(rule.limiter, SharedLimiter):
            yield f"{rule.where} {rule.name}", rule.limiter


def _name(limit: str, key: str) -> str:
    """Short whatever a client is called, and no subject is written on the server."""
    return blake2b(f"{limit}\0{key}".encode(), digest_size=16).hexdigest()
