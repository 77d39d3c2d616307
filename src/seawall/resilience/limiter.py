"""Rate limits: so many calls a second on average, and some at once.

`TokenBucket` and `Gcra` decide the same. GCRA (ITU-T I.371) keeps one number, the time at which
the bucket would be full again, so a table of them is a plain mapping of key to float; that is
`KeyedLimiter`.
"""

from collections import OrderedDict

from seawall.errors import Misconfigured

# About 15 MB with keys of 40 characters: every client address of a busy edge for a minute.
MAX_KEYS = 65_536

# Who waits exactly as long as told must be admitted, although `now + wait` was rounded. A clock
# in seconds is exact to 2 ns after a hundred days; a microsecond is beyond that and below notice.
_ROUNDING = 1e-6  # seconds


def _check(rate: float, burst: float) -> None:
    if not rate > 0 or not burst >= 1:
        raise Misconfigured(f"no limit: rate {rate} must be above 0, burst {burst} 1 or more")


class TokenBucket:
    """Admit `rate` calls a second on average, and `burst` at once."""

    __slots__ = ("_at", "_enough", "_tokens", "burst", "rate")

    def __init__(self, rate: float, burst: float) -> None:
        _check(rate, burst)
        self.rate: float = rate
        self.burst: float = burst
        self._enough: float = 1.0 - _rounding(rate) * rate
        self._tokens: float = burst
        self._at: float = float("-inf")  # never asked, so full at the first call

    def acquire(self, now: float) -> float:
        """Take a token and return 0.0, or return the seconds until there is one."""
        if now > self._at:
            self._tokens = min(self.burst, self._tokens + (now - self._at) * self.rate)
            self._at = now
        if self._tokens < self._enough:
            return (1.0 - self._tokens) / self.rate
        self._tokens -= 1.0  # maybe a hundredth below nothing, so that earliness does not add up
        return 0.0

    def __repr__(self) -> str:
        return f"<TokenBucket {self._tokens:.1f} of {self.burst:g}, {self.rate:g}/s>"


class Gcra:
    """The same promise as `TokenBucket`, in one number."""

    __slots__ = ("_full_at", "_interval", "_rounding", "_tolerance")

    def __init__(self, rate: float, burst: float) -> None:
        _check(rate, burst)
        self._interval: float = 1.0 / rate
        self._tolerance: float = (burst - 1.0) / rate
        self._rounding: float = _rounding(rate)
        self._full_at: float = float("-inf")

    def acquire(self, now: float) -> float:
        """Take a token and return 0.0, or return the seconds until there is one."""
        full_at = self._full_at
        if full_at < now:
            full_at = now
        wait = full_at - self._tolerance - now
        if wait > self._rounding:
            return wait
        self._full_at = full_at + self._interval
        return 0.0

    def __repr__(self) -> str:
        return f"<Gcra one in {self._interval:g} s, full at {self._full_at:.3f}>"


def _rounding(rate: float) -> float:
    """Seconds that a call may come too early: a hundredth of the interval at most."""
    return min(_ROUNDING, 0.01 / rate)


class Verdict:
    """What a limiter says. A plain class: one is made for each request, and a dataclass is not
    compiled."""

    __slots__ = ("allowed", "remaining", "reset", "retry_after")

    def __init__(self, allowed: bool, remaining: int, retry_after: float, reset: float) -> None:
        self.allowed: bool = allowed
        self.remaining: int = remaining  # calls that would be admitted at once now
        self.retry_after: float = retry_after  # seconds; 0.0 if allowed
        self.reset: float = reset  # seconds until all of `burst` is there again

    def __repr__(self) -> str:
        said = "allowed" if self.allowed else "refused"
        return f"<Verdict {said}, {self.remaining} left, full in {self.reset:.3f} s>"


class KeyedLimiter:
    """A limit of its own for each key, for at most `max_keys` keys.

    A key whose bucket is full again is as good as one never seen, and is forgotten at no loss.
    When the table holds nothing but keys in use, the least used of a few is forgotten: it gains
    back what it had used. A key that is over its limit is never forgotten, or sending under
    many names would lift it; where all of the few looked at are over it, a new key shares one
    bucket with all such newcomers until there is room.
    """

    __slots__ = (
        "_crowd",
        "_full_at",
        "_interval",
        "_max_keys",
        "_most",
        "_tolerance",
        "burst",
        "quota",
        "rate",
        "window",
    )

    def __init__(self, rate: float, burst: float, max_keys: int = MAX_KEYS) -> None:
        _check(rate, burst)
        if max_keys < 1:
            raise Misconfigured(f"max_keys is 1 or more, not {max_keys}")
        self._max_keys: int = max_keys
        self._set(rate, burst)
        self._full_at: OrderedDict[str, float] = OrderedDict()
        self._crowd: float = float("-inf")  # the shared bucket of those without room

    def acquire(self, key: str, now: float) -> Verdict:
        """Take one of `key`'s calls, if it has one left."""
        full_at = self._full_at.get(key)
        if full_at is None:
            if not self._make_room(now):
                return self._acquire_in_crowd(now)
            full_at = now
        elif full_at < now:
            full_at = now
        if full_at - now > self._most:
            return Verdict(False, 0, full_at - self._tolerance - now, full_at - now)
        full_at += self._interval
        self._full_at[key] = full_at
        used = full_at - now
        remaining = int((self._most - used) * self.rate + 1.0)
        return Verdict(True, remaining if remaining > 0 else 0, 0.0, used)

    def give_back(self, key: str, now: float) -> None:
        """Undo an `acquire` of this moment that was allowed: the call is not made after all."""
        full_at = self._full_at.get(key)
        if full_at is None:
            self._crowd -= self._interval
        else:
            self._full_at[key] = full_at - self._interval

    def retune(self, rate: float, burst: float) -> None:
        """Change the limit; a key that has used half of its calls has used half of the new ones.

        That holds while `burst / rate` stays what it is.
        """
        _check(rate, burst)
        self._set(rate, burst)

    def replace(self, rate: float, burst: float, now: float) -> None:
        """Become another limit: who has used calls of this one has used as many of that.

        Nobody has then used more than `burst`, so nobody waits longer than a new caller might.
        """
        _check(rate, burst)
        before = self._interval
        self._set(rate, burst)
        table = self._full_at
        for key, full_at in table.items():
            used = min(max(0.0, full_at - now) / before, burst)
            table[key] = now + used * self._interval  # no key comes or goes

    def owe(self, key: str, calls: float, now: float) -> None:
        """Take a key over that was counted elsewhere, with the calls that it has used."""
        if key in self._full_at or self._make_room(now):
            self._full_at[key] = now + calls * self._interval

    def forget(self, key: str) -> None:
        """Give a key up to be counted elsewhere."""
        self._full_at.pop(key, None)

    def __len__(self) -> int:
        return len(self._full_at)

    def __repr__(self) -> str:
        return f"<KeyedLimiter {self.rate:g}/s, {len(self)} of {self._max_keys} keys>"

    def _set(self, rate: float, burst: float) -> None:
        self.rate: float = rate
        self.burst: float = burst
        # As a policy tells it: so many calls at once, and all of them back after so long.
        self.quota: int = int(burst)
        self.window: float = burst / rate
        self._interval: float = 1.0 / rate
        self._tolerance: float = (burst - 1.0) / rate
        # How far ahead a key may have used its calls, and still have one.
        self._most: float = self._tolerance + _rounding(rate)

    def _admitted(self, full_at: float, now: float) -> Verdict:
        used = full_at - now
        remaining = int((self._most - used) * self.rate + 1.0)
        return Verdict(True, remaining if remaining > 0 else 0, 0.0, used)

    def _acquire_in_crowd(self, now: float) -> Verdict:
        full_at = max(self._crowd, now)
        if full_at - now > self._most:
            return Verdict(False, 0, full_at - self._tolerance - now, full_at - now)
        self._crowd = full_at + self._interval
        return self._admitted(self._crowd, now)

    def _make_room(self, now: float) -> bool:
        """Look at the oldest few keys, forget the idle ones; True if a new key has room.

        Two for each new key keeps the table near what is in use; eight when it is full is the
        bound on the work one request can cause.
        """
        table = self._full_at
        least: str | None = None
        least_full_at = now + self._tolerance  # above this a key is over its limit
        for _ in range(min(8 if len(table) >= self._max_keys else 2, len(table))):
            key, full_at = table.popitem(last=False)
            if full_at <= now:
                continue
            table[key] = full_at  # in use: behind the others, so that the next look is at them
            if full_at <= least_full_at:
                least, least_full_at = key, full_at
        if len(table) < self._max_keys:
            return True
        if least is None:
            return False
        del table[least]
        return True
