"""How many replicas a service had over the demo's time, and what a fixed fleet would have cost."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Change:
    after: float  # seconds since the load began
    was: int
    now: int
    reason: str


@dataclass(frozen=True, slots=True)
class Scaling:
    """`hours` are instance-hours; `fixed_hours` those of as many as there may be, all the time."""

    service: str
    changes: tuple[Change, ...]
    busiest: str  # what the look said that wanted most
    peak: int
    hours: float
    fixed_hours: float

    @property
    def saved(self) -> float:
        """0 to 1, against the fixed fleet."""
        return 1 - self.hours / self.fixed_hours if self.fixed_hours else 0.0


def scaling(told: Mapping[str, Any], began: float, ended: float) -> Scaling:
    """From what `seawall scale explain --json` tells; the times are of the wall clock."""
    rows: Sequence[Mapping[str, Any]] = [r for r in told["changes"] if began <= r["at"] <= ended]
    count = rows[0]["was"] if rows else told["replicas"]
    peak, since, seconds = count, began, 0.0
    for row in rows:
        seconds += count * (row["at"] - since)
        count, since = row["desired"], row["at"]
        peak = max(peak, count)
    seconds += count * (ended - since)
    looks = [r for r in told["decisions"] if began <= r["at"] <= ended]
    most = max(looks, key=lambda r: r["proposed"] or 0, default=None)
    return Scaling(
        service=told["service"],
        changes=tuple(
            Change(round(r["at"] - began, 1), r["was"], r["desired"], r["reason"]) for r in rows
        ),
        busiest="nobody looked" if most is None else str(most["reason"]),
        peak=peak,
        hours=seconds / 3600,
        fixed_hours=told["maximum"] * (ended - began) / 3600,
    )
