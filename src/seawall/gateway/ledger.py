"""Who holds which share of the shared limits: what a ledger promises, and the one in memory."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from seawall.clock import SYSTEM, Clock
from seawall.resilience.shares import Shares


@dataclass(frozen=True, slots=True)
class Claim:
    """What a process wants of one key of one limit."""

    name: str  # of limit and key; opaque, and the same in all processes
    rate: float  # calls a second that are divided
    demand: float  # calls a second that this process was asked for


@dataclass(frozen=True, slots=True)
class Grant:
    """What it gets: calls a second for each claim, and how many processes there are."""

    processes: int
    shares: tuple[float, ...]


class Ledger(Protocol):
    """The shares of all gateways of a project.

    At no moment do the shares of one name that are on lease add up to more than the rate that
    was claimed last. A lease begins when the ledger hears of the claim, so who counts it from
    the moment of asking is never late. What a process does not claim again is others' when its
    lease ends.
    """

    async def claim(self, process: str, claims: Sequence[Claim], lease: float) -> Grant:
        """Take part for `lease` seconds, with a share of each claim in proportion to demand.

        Raises `Unavailable` if the ledger cannot be reached; shares may have changed then.
        """

    async def leave(self, process: str) -> None:
        """Be counted no longer. Shares run out with their leases. Raises `Unavailable`."""

    async def aclose(self) -> None:
        """Give back connections. Calling it twice is fine."""


class MemoryLedger:
    """The ledger of gateways in one process. See `Ledger`."""

    def __init__(self, *, clock: Clock = SYSTEM) -> None:
        self._clock = clock
        self._shares = Shares()

    async def claim(self, process: str, claims: Sequence[Claim], lease: float) -> Grant:
        now = self._clock.now()
        until = now + lease
        processes = self._shares.join(process, until, now)
        shares = tuple(
            self._shares.claim(
                claim.name, process, rate=claim.rate, demand=claim.demand, until=until, now=now
            )
            for claim in claims
        )
        return Grant(processes, shares)

    async def leave(self, process: str) -> None:
        self._shares.leave(process)

    async def aclose(self) -> None:
        """Nothing to give back."""

    def __repr__(self) -> str:
        return f"<MemoryLedger {self._shares!r}>"
