"""When a schedule fires: cron expressions and intervals. Pure; times are seconds since 1970.

All replicas of a service compute the same ticks from the same clock time, so a tick needs no
more than its time to be known.
"""

import math
from datetime import UTC, datetime
from typing import Literal, Protocol
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from seawall.errors import Misconfigured

Missed = Literal["skip", "once"]

# A tick that is found so much later is not missed yet: a deploy takes as long, a busy loop less.
LATE = 60.0  # seconds

# More often is a loop of its own (`Service.background`): each tick is a message in the broker.
SHORTEST = 1.0  # seconds


class Ticks(Protocol):
    """The times at which something happens, for ever."""

    def after(self, wall: float) -> float:
        """The first tick later than `wall`."""

    def until(self, wall: float) -> float:
        """The last tick at or before `wall`."""


class Every:
    """Every so many seconds, counted from 1970: the same for all replicas, whenever they start."""

    def __init__(self, seconds: float) -> None:
        if not SHORTEST <= seconds < math.inf:
            raise Misconfigured(
                f"every={seconds} seconds is no interval of a schedule",
                fix=f"{SHORTEST:g} or more, or @service.background for what never rests",
            )
        self._seconds = seconds

    def after(self, wall: float) -> float:
        return (math.floor(wall / self._seconds) + 1) * self._seconds

    def until(self, wall: float) -> float:
        return math.floor(wall / self._seconds) * self._seconds

    def __repr__(self) -> str:
        return f"<Every {self._seconds:g} s>"


class Cron:
    """A cron expression in a time zone, as Debian's cron reads it.

    Where clocks are put forward, what falls into the hour that does not exist fires right after
    it; where they are put back, a fixed time fires once, and `*/5` goes on through both hours.
    """

    def __init__(self, expression: str, zone: str = "UTC") -> None:
        # Its import takes as long as a small service's start.
        from cronsim import CronSim, CronSimError

        try:
            self._zone = ZoneInfo(zone)
        except (ZoneInfoNotFoundError, ValueError) as exc:
            raise Misconfigured(
                f"no time zone is called {zone!r} here",
                fix="a name as Europe/Berlin, and the system's tzdata (or `pip install tzdata`)",
            ) from exc
        self._expression = expression
        self._simulate = CronSim
        try:
            first = next(CronSim(expression, datetime.now(UTC)), None)
        except CronSimError as exc:
            raise Misconfigured(
                f"{expression!r} is no cron expression: {exc}",
                fix='minute hour day month weekday, as in "*/5 * * * *"',
            ) from exc
        if first is None:
            raise Misconfigured(f"{expression!r} never fires")

    def after(self, wall: float) -> float:
        return next(self._simulate(self._expression, self._at(wall))).timestamp()

    def until(self, wall: float) -> float:
        # Going back begins before the time given, so that of a second later includes this one.
        later = self._at(math.floor(wall) + 1)
        return next(self._simulate(self._expression, later, reverse=True)).timestamp()

    def _at(self, wall: float) -> datetime:
        return datetime.fromtimestamp(wall, self._zone)

    def __repr__(self) -> str:
        return f"<Cron {self._expression} in {self._zone.key}>"


def ticks_of(cron: str | None, every: float | None, zone: str) -> Ticks:
    """The ticks of one of the two. Raises `Misconfigured`."""
    if (cron is None) == (every is None):
        raise Misconfigured("a schedule has a cron expression or every=, and not both")
    return Every(every) if every is not None else Cron(cron or "", zone)


def due(ticks: Ticks, last: float, now: float, missed: Missed) -> float | None:
    """The tick that is to be fired now, if there is one; `last` was the latest that was.

    Of several that were missed, the last one at most: `once` fires it however late it is, `skip`
    only if it is not `LATE`.
    """
    tick = ticks.until(now)
    if tick <= last:
        return None
    return tick if missed == "once" or now - tick <= LATE else None
