"""How the rate of one limit is divided among the processes that keep it.

Each process claims again and again and is lent a share for a while. A share is in proportion to
demand, but never more than others have left: what they were lent is theirs until they claim again
or their lease runs out. So at no moment do the shares of all add up to more than the rate, and a
process that asks for little leaves the rest to others with its next claim.
"""

from collections import OrderedDict

# What a holder that asks for nothing weighs, as a part of the rate: enough to get going again,
# and little enough that ten such holders leave nine tenths to one that is busy.
IDLE = 0.01


def weight(rate: float, demand: float) -> float:
    """What a demand counts for: above the rate it is all the same, and never nothing."""
    return min(max(demand, IDLE * rate), rate)


def portion(rate: float, own: float, others: float, taken: float) -> float:
    """The share of who weighs `own` beside `others`, who hold `taken` of the rate now."""
    return max(0.0, min(rate * own / (own + others), rate - taken))


class _Held:
    __slots__ = ("share", "until", "weight")

    def __init__(self, share: float, weight: float, until: float) -> None:
        self.share: float = share
        self.weight: float = weight
        self.until: float = until


class Shares:
    """Who holds which share of which limit. Leases run out by themselves.

    The same rules stand as a script in `seawall.gateway.ledger_valkey`; one contract holds for
    both. What is kept is bounded by the claims that come within one lease.
    """

    __slots__ = ("_limits", "_processes")

    def __init__(self) -> None:
        self._limits: OrderedDict[str, dict[str, _Held]] = OrderedDict()
        self._processes: dict[str, float] = {}

    def join(self, process: str, until: float, now: float) -> int:
        """Be one of those who keep the limits; how many they are."""
        self._processes[process] = until
        over = [name for name, end in self._processes.items() if end <= now]
        for name in over:
            del self._processes[name]
        return len(self._processes)

    def leave(self, process: str) -> None:
        self._processes.pop(process, None)

    def claim(
        self, limit: str, process: str, *, rate: float, demand: float, until: float, now: float
    ) -> float:
        """The share of `rate` that `process` has until `until`."""
        self._sweep(now)
        holders = self._limits.setdefault(limit, {})
        self._limits.move_to_end(limit)
        own, others, taken = weight(rate, demand), 0.0, 0.0
        for name, held in list(holders.items()):
            if held.until <= now:
                del holders[name]
            elif name != process:
                others += held.weight
                taken += held.share
        share = portion(rate, own, others, taken)
        holders[process] = _Held(share, own, until)
        return share

    def _sweep(self, now: float) -> None:
        """Forget limits whose last lease ran out; the first was claimed longest ago."""
        while self._limits:
            limit, holders = next(iter(self._limits.items()))
            if any(held.until > now for held in holders.values()):
                return
            del self._limits[limit]

    def __len__(self) -> int:
        return len(self._limits)

    def __repr__(self) -> str:
        return f"<Shares of {len(self._limits)} limits, {len(self._processes)} processes>"
