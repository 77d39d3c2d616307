"""Circuit breaker: stop asking a destination that keeps failing, then ask again with care.

`TRANSITIONS` is the specification: code moves only by `after`, tests take every pair from it,
and docs/states is drawn from it. Three rules for whoever edits this:

- Every move begins an epoch, and a permit belongs to the epoch that gave it. Without that, a
  slow success from before the trip would close the breaker.
- A probe has a lease. Without it, a caller that never reports would keep the breaker half-open
  for ever.
- `admit` and `succeeded` are on the path of every request: no call, no object more than needed.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from random import Random
from typing import Final

from seawall.errors import (
    BreakerOpen,
    Full,
    Misconfigured,
    NoInstance,
    NotSent,
    OutcomeUnknown,
    RateLimited,
    Refused,
)
from seawall.resilience.window import Window


class State(Enum):
    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half-open"


class Event(Enum):
    TRIPPED = "tripped"
    COOLED = "cooled"
    PROBES_PASSED = "probes passed"
    PROBE_FAILED = "probe failed"


TRANSITIONS: Mapping[tuple[State, Event], State] = {
    (State.CLOSED, Event.TRIPPED): State.OPEN,
    (State.OPEN, Event.COOLED): State.HALF_OPEN,
    (State.HALF_OPEN, Event.PROBES_PASSED): State.CLOSED,
    (State.HALF_OPEN, Event.PROBE_FAILED): State.OPEN,
}

# Looking a member up on its Enum class would add a third to `admit`.
_CLOSED: Final = State.CLOSED
_OPEN: Final = State.OPEN
_HALF_OPEN: Final = State.HALF_OPEN

# What a caller is told when every probe is taken: the answer is about one call away.
_PROBING_RETRY_AFTER = 1.0  # seconds


def after(state: State, event: Event) -> State:
    """The state that follows; raises `ValueError` where the table has no arrow."""
    try:
        return TRANSITIONS[state, event]
    except KeyError:
        raise ValueError(f"a breaker that is {state.value} cannot be {event.value}") from None


@dataclass(frozen=True, kw_only=True, slots=True)
class BreakerConfig:
    """When a breaker opens, for how long, and what closes it. Raises `Misconfigured`.

    It opens at `consecutive_failures`, or when at least `failure_rate` of the calls in `window`
    failed and there were at least `min_calls`; `None` switches either off. A success that took
    `slow_after` seconds counts as a failure.
    """

    consecutive_failures: int | None = 5
    failure_rate: float | None = 0.5
    min_calls: int = 20  # with fewer, a rate means nothing
    window: float = 10.0  # seconds
    slow_after: float = math.inf  # seconds
    open_for: float = 60.0  # seconds
    growth: float = 1.0  # each failed probe multiplies `open_for` by this
    open_for_max: float = 600.0  # seconds, where `growth` ends
    jitter: float = 0.0  # adds up to this share of `open_for`, so that callers do not probe as one
    probes: int = 1  # at once, while half-open
    successes: int = 1  # of probes, to close
    probe_lease: float = 30.0  # seconds; a probe that has not reported by then is given up

    def __post_init__(self) -> None:
        if self.consecutive_failures is None and self.failure_rate is None:
            raise Misconfigured("a breaker needs consecutive_failures or failure_rate")
        if self.failure_rate is not None and not 0 < self.failure_rate <= 1:
            raise Misconfigured(f"failure_rate is in (0, 1], not {self.failure_rate}")
        if self.consecutive_failures is not None and self.consecutive_failures < 1:
            raise Misconfigured(
                f"consecutive_failures is 1 or more, not {self.consecutive_failures}"
            )
        for name in ("min_calls", "probes", "successes", "growth"):
            if getattr(self, name) < 1:
                raise Misconfigured(f"{name} is 1 or more, not {getattr(self, name)}")
        for name in ("window", "slow_after", "open_for", "probe_lease"):
            if not getattr(self, name) > 0:
                raise Misconfigured(f"{name} is more than 0 seconds, not {getattr(self, name)}")
        if self.jitter < 0:
            raise Misconfigured(f"jitter is 0 or more, not {self.jitter}")


@dataclass(frozen=True, slots=True)
class BreakerMoved:
    """A breaker changed its state, and why."""

    name: str
    was: State
    now: State
    at: float
    reason: str


class Permit:
    """Leave to make one call. Report it once: succeeded, failed or cancelled.

    Where nobody asks how long a call took, all calls of an epoch share one. `moved` is the fact of
    the move to half-open, on the permit that began it. Treat it as
    frozen; making it so would take three times as long, at every request.
    """

    __slots__ = ("at", "epoch", "moved", "probe")

    def __init__(
        self, epoch: int, probe: bool, at: float, moved: BreakerMoved | None = None
    ) -> None:
        self.epoch: Final[int] = epoch
        self.probe: Final[bool] = probe
        self.at: Final[float] = at
        self.moved: Final[BreakerMoved | None] = moved

    def __repr__(self) -> str:
        return f"<Permit epoch {self.epoch}{', a probe' if self.probe else ''}, at {self.at:.3f}>"


@dataclass(frozen=True, slots=True)
class BreakerSnapshot:
    name: str
    state: State
    good: int  # calls in the window
    bad: int
    consecutive_failures: int
    probing: int  # probes under way
    opened: int  # times in its life
    retry_after: float  # seconds


class Breaker:
    """One destination's breaker, for one event loop (it is not thread-safe).

    `admit` before the call; if it gives a permit, report the outcome with exactly one of
    `succeeded`, `failed` and `cancelled`. Reports that come late, of a permit from an earlier
    epoch or of a probe whose lease has run out, change nothing. The last two return the fact if
    they moved the breaker; a permit carries the fact of the move that `admit` made.

    Who calls at every request may save both calls. While it is closed, and nobody asks how long
    a call took, `usual` is the permit that `admit` gives, else None. And if it still is when the
    call succeeded, all that `succeeded` does is to set `consecutive` to 0 and to count in `window`.
    """

    __slots__ = (
        "_config",
        "_epoch",
        "_is_timed",
        "_open_for",
        "_open_until",
        "_opened",
        "_passed",
        "_probes",
        "_rate",
        "_rng",
        "_slow_after",
        "_state",
        "_threshold",
        "consecutive",
        "name",
        "usual",
        "window",
    )

    def __init__(
        self, config: BreakerConfig = BreakerConfig(), name: str = "", rng: Random | None = None
    ) -> None:
        if config.jitter and rng is None:
            raise Misconfigured("a breaker with jitter needs an rng")
        self.name: str = name
        self._config: BreakerConfig = config
        self._rng: Random | None = rng
        self._threshold: float = config.consecutive_failures or math.inf
        self._rate: float = config.failure_rate or math.inf
        self._slow_after: float = config.slow_after
        self.window: Window = Window(config.window)
        self._state: State = _CLOSED
        self._epoch: int = 0
        self.consecutive: int = 0
        self._opened: int = 0
        self._open_for: float = config.open_for
        self._open_until: float = 0.0
        self._probes: list[Permit] = []  # at most config.probes
        self._passed: int = 0
        # Where nobody asks how long a call took, every permit of an epoch is the same.
        self._is_timed: bool = config.slow_after < math.inf
        self.usual: Permit | None = self._shared(0.0)

    @property
    def state(self) -> State:
        """As of the last call: an open breaker that has cooled stays open until `admit`."""
        return self._state

    def admit(self, now: float) -> Permit | None:
        """A permit for one call, or `None`: do not call; `retry_after` says when to ask again."""
        usual = self.usual
        if usual is not None:
            return usual
        if self._state is _CLOSED:
            return Permit(self._epoch, False, now)
        return self._admit_probe(now)

    def succeeded(self, permit: Permit, now: float) -> BreakerMoved | None:
        """The destination answered, be it with a refusal."""
        if permit.epoch != self._epoch:
            return None
        if self._is_timed and now - permit.at >= self._slow_after:
            return self.failed(permit, now)
        if self._state is _CLOSED:
            self.consecutive = 0
            window = self.window
            if now < window.until:
                window.fresh += 1
            else:
                window.add_good(now)
            return None
        if not self._returned(permit):
            return None
        self._passed += 1
        if self._passed < self._config.successes:
            return None
        return self._move(Event.PROBES_PASSED, now, f"{_count(self._passed, 'probe')} answered")

    def failed(self, permit: Permit, now: float) -> BreakerMoved | None:
        """The destination did not answer, answered too late, or said that it is broken."""
        if permit.epoch != self._epoch:
            return None
        if self._state is _CLOSED:
            self.consecutive += 1
            self.window.add_bad(now)
            reason = self._too_many()
            return self._move(Event.TRIPPED, now, reason) if reason else None
        if not self._returned(permit):
            return None
        return self._move(Event.PROBE_FAILED, now, "a probe failed")

    def cancelled(self, permit: Permit, now: float) -> None:
        """The call ended without saying anything about the destination; a probe's slot is free."""
        if permit.probe:
            self._returned(permit)

    def retry_after(self, now: float) -> float:
        """Seconds until `admit` may say yes; 0.0 if it would now."""
        if self._state is _OPEN:
            return max(0.0, self._open_until - now)
        if self._state is _CLOSED or len(self._probes) < self._config.probes:
            return 0.0
        lease_ends = self._probes[0].at + self._config.probe_lease
        return min(_PROBING_RETRY_AFTER, max(0.0, lease_ends - now))

    def snapshot(self, now: float) -> BreakerSnapshot:
        self.window.expire(now)
        return BreakerSnapshot(
            name=self.name,
            state=self._state,
            good=self.window.good,
            bad=self.window.bad,
            consecutive_failures=self.consecutive,
            probing=len(self._probes),
            opened=self._opened,
            retry_after=self.retry_after(now),
        )

    def __repr__(self) -> str:
        return f"<Breaker {self.name} {self._state.value}, {self.window!r}>"

    def _shared(self, now: float) -> Permit | None:
        """The permit of all calls of an epoch."""
        if self._is_timed or self._state is not _CLOSED:
            return None
        return Permit(self._epoch, False, now)

    def _admit_probe(self, now: float) -> Permit | None:
        moved: BreakerMoved | None = None
        if self._state is _OPEN:
            if now < self._open_until:
                return None
            moved = self._move(Event.COOLED, now, f"open for {self._open_for:g} s")
        oldest = now - self._config.probe_lease
        self._probes = [probe for probe in self._probes if probe.at > oldest]
        if len(self._probes) >= self._config.probes:
            return None
        permit = Permit(self._epoch, True, now, moved)
        self._probes.append(permit)
        return permit

    def _returned(self, permit: Permit) -> bool:
        """Take the probe's slot back; False if it was given up, or reported before."""
        if permit not in self._probes:
            return False
        self._probes.remove(permit)
        return True

    def _too_many(self) -> str:
        """Why the breaker should trip, or nothing."""
        if self.consecutive >= self._threshold:
            return f"{_count(self.consecutive, 'failure')} in a row"
        bad = self.window.bad
        calls = bad + self.window.good
        if calls >= self._config.min_calls and bad >= self._rate * calls:
            return f"{bad} of {calls} calls failed within {self._config.window:g} s"
        return ""

    def _move(self, event: Event, now: float, reason: str) -> BreakerMoved:
        was = self._state
        self._state = after(was, event)
        self._epoch += 1
        self.usual = self._shared(now)
        self._probes = []
        self._passed = 0
        self.consecutive = 0
        if self._state is _OPEN:
            self._opened += 1
            self._open(now, again=was is _HALF_OPEN)
        elif self._state is _CLOSED:
            self.window.clear()
        return BreakerMoved(self.name, was, self._state, now, reason)

    def _open(self, now: float, *, again: bool) -> None:
        config = self._config
        grown = min(config.open_for_max, self._open_for * config.growth) if again else 0.0
        self._open_for = max(config.open_for, grown)
        extra = self._rng.uniform(0.0, config.jitter) if self._rng is not None else 0.0
        self._open_until = now + self._open_for * (1.0 + extra)


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


class Blame(Enum):
    """What an outcome says about the destination."""

    GOOD = "good"
    BAD = "bad"
    NEITHER = "neither"


def blame(error: BaseException) -> Blame:
    """Whether the destination is to blame for `error`.

    A refusal is an answer. A limit or a breaker on the way, a lack of instances, a cancelled
    call and a bug of ours say nothing about it.
    """
    if isinstance(error, Refused):
        return Blame.GOOD
    if isinstance(error, (BreakerOpen, Full, NoInstance, RateLimited)):
        return Blame.NEITHER
    return Blame.BAD if isinstance(error, (NotSent, OutcomeUnknown)) else Blame.NEITHER
