"""A floor for what comes each day: as many replicas as the hour has needed before.

A day is cut into slots, and each slot remembers the mean rates of its last days, weighed so that
the last one counts most. The forecast for the time a replica needs to start, and a buffer more, is
the highest of the slots that this time reaches into. It knows nothing before a whole season has
passed, and it never takes replicas away: what is not foreseen is others' work.

`forecast_only` says what it would do and does nothing, as AWS's predictive scaling begins. Beyond
the maximum it honours it, or exceeds it by a share, if it is told to.
"""

import math
from dataclasses import dataclass, replace

from seawall.errors import Misconfigured
from seawall.scaling.decision import MOST, Decision, Limit

# AWS allows less than an hour.
LONGEST_BUFFER = 3600.0


@dataclass(frozen=True, slots=True)
class PredictiveState:
    """Means of the slots of a season, with what is added up in the one that runs."""

    slots: tuple[float, ...] = ()  # -1 where nothing was seen yet
    current: int = -1
    total: float = 0.0
    count: int = 0
    begun_at: float | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Predictive:
    each: float  # a second, that one replica is to serve
    maximum: int
    season: float = 86_400.0  # seconds
    slot: float = 300.0  # seconds
    lead: float = 10.0  # seconds until a new replica serves
    buffer: float = 300.0  # seconds earlier than that
    weight: float = 0.5  # of the newest season in what a slot remembers
    share: float = 1.0  # of what is foreseen, that is asked for
    beyond: float = 0.0  # of the maximum, by which it may be exceeded
    forecast_only: bool = False

    def __post_init__(self) -> None:
        if not (self.each > 0 and self.maximum >= 1 and 0 < self.weight <= 1):
            raise Misconfigured(
                f"{self.each} a second each, at most {self.maximum}, weight {self.weight}",
                fix="above 0, at least 1, and a weight of at most 1",
            )
        if not 0 < self.slot <= self.season or self.season / self.slot > 10_000:
            raise Misconfigured(
                f"slots of {self.slot} s in a season of {self.season} s",
                fix="at most 10,000 slots: 300 s in a day are 288",
            )
        if not 0 <= self.buffer < LONGEST_BUFFER:
            raise Misconfigured(f"a buffer of {self.buffer} s", fix="less than an hour")

    def begin(self) -> PredictiveState:
        return PredictiveState((-1.0,) * math.ceil(self.season / self.slot))

    def decide(
        self, state: PredictiveState, offered: float | None, now: float
    ) -> tuple[PredictiveState, Decision]:
        """A floor: 0 where nothing is foreseen. `offered` is the rate since the last look."""
        if state.begun_at is None:
            state = replace(state, begun_at=now)
        state = self._noted(state, offered, now)
        foreseen = self.foreseen(state, now)
        if foreseen is None:
            return state, Decision(0, "no whole season seen yet", (Limit.NO_DATA,))
        wanted = min(MOST, math.ceil(foreseen * self.share / self.each - 1e-9))
        reason = f"{foreseen:.4g}/s at this time of the season"
        if self.forecast_only:
            return state, Decision(0, f"only foreseen: {reason}", (Limit.PAUSED,), wanted)
        most = math.floor(self.maximum * (1 + self.beyond))
        if wanted > most:
            return state, Decision(most, reason, (Limit.TOO_MANY,), wanted)
        return state, Decision(wanted, reason, (), wanted)

    def foreseen(self, state: PredictiveState, now: float) -> float | None:
        """The highest rate of the slots until a replica that starts now would be late."""
        if state.begun_at is None or now - state.begun_at < self.season:
            return None
        first, last = self._number(now), self._number(now + self.lead + self.buffer)
        ahead = [state.slots[number % len(state.slots)] for number in range(first, last + 1)]
        known = [rate for rate in ahead if rate >= 0]
        return max(known) if known else None

    def _noted(self, state: PredictiveState, offered: float | None, now: float) -> PredictiveState:
        number = self._number(now)
        if number != state.current:
            state = self._closed(state, number)
        if offered is None or not 0 <= offered < math.inf:
            return state
        return replace(state, total=state.total + offered, count=state.count + 1)

    def _closed(self, state: PredictiveState, number: int) -> PredictiveState:
        """With the slot that ended remembered."""
        slots = state.slots
        if state.count and state.current >= 0:
            place = state.current % len(slots)
            mean = state.total / state.count
            before = slots[place]
            kept = mean if before < 0 else before + self.weight * (mean - before)
            slots = (*slots[:place], kept, *slots[place + 1 :])
        return replace(state, slots=slots, current=number, total=0.0, count=0)

    def _number(self, at: float) -> int:
        return int(at // self.slot)
