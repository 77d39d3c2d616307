"""A limit that several processes keep together without asking each other for each call.

    cold    a key that asks for little is counted here alone, at this process' part of a reserve:
            RESERVE of the rate, divided by the number of processes
    hot     a key that has used half of its burst, or was refused; what it asks for is reported,
            and it is lent a share of the rest of the rate for as long as a lease, in proportion
            to demand
    away    nobody could be asked for as long as a lease: `WhenAway` says what then

The burst is divided by the number of processes and never lent, so that it is spent once. The
reserves and the shares of all processes never add up to more than the rate. Who divides it, and
who asks, is not this module's business: see `shares` and `seawall.gateway.leases`.
"""

import math
from enum import StrEnum
from typing import Final

from seawall.errors import Misconfigured
from seawall.resilience.limiter import MAX_KEYS, KeyedLimiter, Verdict

# A tenth is enough for who comes now and then, and is all that is lost where every call of a busy
# key comes to one process of many.
RESERVE: Final = 0.1

# Each costs about 15 us here and 25 us in Valkey in every round of claims: with as many, two
# rounds a second are 3 % of this process and 5 % of a server. Beyond it keys stay cold: they get
# their part of the reserve and no more.
MAX_HOT: Final = 1024  # of one limit

_ROUNDING: Final = 1e-6  # seconds; see `limiter`


class WhenAway(StrEnum):
    """What holds while those who keep a limit together cannot reach each other."""

    LOCAL = "local"  # each process admits its part: the rate by the number of processes last known
    OPEN = "open"  # everything is admitted
    CLOSED = "closed"  # nothing is


class _Hot:
    __slots__ = ("asked", "asked_at", "at", "demand", "share", "since", "tokens", "until")

    def __init__(self, tokens: float, now: float) -> None:
        self.tokens: float = tokens
        self.at: float = now
        self.share: float = 0.0  # calls a second, until
        self.until: float = now
        self.asked: int = 1  # since `since`
        self.since: float = now
        self.asked_at: float = now
        self.demand: float = -1.0  # calls a second, smoothed; not known yet


class SharedLimiter:
    """This process' part of a limit for each key. Asked like `KeyedLimiter`."""

    __slots__ = (
        "_alone",
        "_base",
        "_burst",
        "_cold",
        "_enough",
        "_hot",
        "_max_hot",
        "_part",
        "_processes",
        "_trusted_until",
        "_warm_below",
        "burst",
        "leasable",
        "quota",
        "rate",
        "unlent",
        "when_away",
        "window",
    )

    def __init__(
        self,
        rate: float,
        burst: float,
        *,
        when_away: WhenAway = WhenAway.LOCAL,
        processes: int = 1,
        max_keys: int = MAX_KEYS,
        max_hot: int = MAX_HOT,
    ) -> None:
        if processes < 1 or max_hot < 1:
            raise Misconfigured(f"processes {processes} and max_hot {max_hot} are 1 or more")
        self._set(rate, burst)
        self.when_away: WhenAway = when_away
        self.unlent: int = 0  # times that a key stayed cold because MAX_HOT were hot
        self._cold: KeyedLimiter = KeyedLimiter(rate, burst, max_keys)
        self._alone: KeyedLimiter = KeyedLimiter(rate, burst, max_keys)
        self._hot: dict[str, _Hot] = {}
        self._max_hot: int = max_hot
        self._trusted_until: float = -math.inf
        self._processes: int = 0
        self._divide(processes)

    def _set(self, rate: float, burst: float) -> None:
        self.rate: float = rate
        self.burst: float = burst
        self.quota: int = int(burst)
        self.window: float = burst / rate
        self.leasable: float = rate * (1.0 - RESERVE)
        self._enough: float = 1.0 - min(_ROUNDING * rate, 0.01)

    def _divide(self, processes: int) -> None:
        if processes == self._processes:
            return
        self._processes = processes
        self._part: float = self.rate / processes
        self._base: float = RESERVE * self._part
        self._burst: float = max(1.0, self.burst / processes)
        # With a burst of one every caller has used half of it: only who is refused is busy.
        self._warm_below: int = int(self._burst / 2)
        self._cold.retune(self._base, self._burst)
        self._alone.retune(self._part, self._burst)

    # calls

    def acquire(self, key: str, now: float) -> Verdict:
        """Take one of `key`'s calls, if this process has one left for it."""
        if now >= self._trusted_until:
            return self._acquire_away(key, now)
        hot = self._hot.get(key)
        if hot is None:
            verdict = self._cold.acquire(key, now)
            if not verdict.allowed or verdict.remaining < self._warm_below:
                self._warm(key, verdict, now)
            return verdict
        hot.asked += 1
        hot.asked_at = now
        self._refill(hot, now)
        rate = self._base + hot.share if now < hot.until else self._base
        if hot.tokens < self._enough:
            return Verdict(False, 0, (1.0 - hot.tokens) / rate, (self._burst - hot.tokens) / rate)
        hot.tokens -= 1.0
        left = hot.tokens + 1.0 - self._enough
        return Verdict(True, int(left) if left > 0.0 else 0, 0.0, (self._burst - hot.tokens) / rate)

    def give_back(self, key: str, now: float) -> None:
        """Undo an `acquire` of this moment that was allowed: the call is not made after all."""
        if now >= self._trusted_until:
            if self.when_away is WhenAway.LOCAL:
                self._alone.give_back(key, now)
            return
        hot = self._hot.get(key)
        if hot is None:
            self._cold.give_back(key, now)
        else:
            hot.tokens += 1.0

    def is_away(self, now: float) -> bool:
        """Whether the others could not be reached for as long as a lease."""
        return now >= self._trusted_until

    def _acquire_away(self, key: str, now: float) -> Verdict:
        if self.when_away is WhenAway.LOCAL:
            return self._alone.acquire(key, now)
        if self.when_away is WhenAway.OPEN:
            return Verdict(True, self.quota, 0.0, 0.0)
        return Verdict(False, 0, 1.0, 1.0)

    def _refill(self, hot: _Hot, now: float) -> None:
        if now <= hot.at:
            return
        came = (now - hot.at) * self._base
        lent = min(now, hot.until) - hot.at
        if lent > 0.0:
            came += lent * hot.share
        hot.tokens = min(self._burst, hot.tokens + came)
        hot.at = now

    def _warm(self, key: str, verdict: Verdict, now: float) -> None:
        if len(self._hot) >= self._max_hot:
            self.unlent += 1
            return
        self._hot[key] = _Hot(self._burst - verdict.reset * self._base, now)
        self._cold.forget(key)

    def replace(self, rate: float, burst: float, now: float) -> None:
        """Become another limit, as `KeyedLimiter.replace` does. What was lent of the rate stays
        lent until its lease ends."""
        before, processes = self._burst, self._processes
        self._set(rate, burst)
        self._part = rate / processes
        self._base = RESERVE * self._part
        self._burst = max(1.0, burst / processes)
        self._warm_below = int(self._burst / 2)
        self._cold.replace(self._base, self._burst, now)
        self._alone.replace(self._part, self._burst, now)
        for hot in self._hot.values():
            hot.tokens = max(0.0, self._burst - (before - hot.tokens))

    # the others

    def claims(self, now: float, lease: float) -> list[tuple[str, float]]:
        """The keys to claim a share for, and what they ask for; those idle for long get cold."""
        found: list[tuple[str, float]] = []
        for key, hot in list(self._hot.items()):
            if now - hot.asked_at > lease:
                self._refill(hot, now)
                del self._hot[key]
                self._cold.owe(key, self._burst - hot.tokens, now)
                continue
            passed = now - hot.since
            if passed > 0.0:
                asked = hot.asked / passed
                # Half of what was: a few calls in half a second say little about a rate.
                hot.demand = asked if hot.demand < 0.0 else (hot.demand + asked) / 2
                hot.asked = 0
                hot.since = now
            found.append((key, max(0.0, hot.demand)))
        return found

    def lend(self, key: str, share: float, until: float, now: float) -> None:
        """The share of a key from now on: calls a second, until its lease ends."""
        hot = self._hot.get(key)
        if hot is not None:
            self._refill(hot, now)
            hot.share = share
            hot.until = until

    def trust(self, processes: int, until: float) -> None:
        """The others were reached; there are so many, this one included."""
        self._divide(processes)
        self._trusted_until = until

    def share(self, key: str, now: float) -> float:
        """Calls a second that this process may admit of `key`."""
        if now >= self._trusted_until:
            return self._part
        hot = self._hot.get(key)
        return self._base + (hot.share if hot is not None and now < hot.until else 0.0)

    @property
    def hot(self) -> int:
        return len(self._hot)

    @property
    def processes(self) -> int:
        return self._processes

    def __len__(self) -> int:
        return len(self._hot) + len(self._cold)

    def __repr__(self) -> str:
        return (
            f"<SharedLimiter {self.rate:g}/s by {self._processes}, {len(self._hot)} hot,"
            f" {len(self._cold)} cold>"
        )
