"""Who is a candidate at all: priorities, zones, and what to do when too many are ill.

The rules are Envoy's ("Priority levels", "Panic threshold", "Zone aware routing" in its
load-balancing overview), in fractions rather than whole percents:

- A priority's health is `overprovisioning * healthy / total`, at most 1. The first gets that much
  of the traffic, the next what is left up to its own health, and so on. If all together have
  less than 1, each gets its part of the sum.
- Only then, a priority with a smaller part of healthy instances than `panic` is in panic: its
  health is not believed, and all its instances are asked. If nobody is healthy, the first
  priority is asked in panic.
- Within the first priority, as much as possible stays in the caller's zone without giving its
  instances more than others get.

`plan` is made anew when membership or health changes; a request costs one `draw`.
"""

from bisect import bisect
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, NamedTuple, TypeVar

from seawall.errors import Misconfigured

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True, slots=True)
class LocalityConfig:
    """Raises `Misconfigured`."""

    overprovisioning: float = 1.4  # a priority is well while 1/1.4, or 72 %, of it is healthy
    panic: float = 0.5  # of a priority's instances; 0 switches panic off
    zone: str = ""  # ours; empty: zones do not matter
    callers: Mapping[str, int] | None = None  # like us, by zone; None: as many in each
    min_instances: int = 6  # with fewer, a zone is no statistic (Envoy's `min_cluster_size`)

    def __post_init__(self) -> None:
        if not self.overprovisioning >= 1:
            raise Misconfigured(f"overprovisioning is 1 or more, not {self.overprovisioning}")
        if not 0 <= self.panic <= 1:
            raise Misconfigured(f"panic is in [0, 1], not {self.panic}")


class Member(NamedTuple, Generic[T]):
    """An instance with what decides whether it is a candidate. Priority 0 is asked first."""

    one: T
    healthy: bool = True
    priority: int = 0
    zone: str = ""


@dataclass(frozen=True, slots=True)
class Share:
    """A priority's part of the traffic, and whether all its instances get it."""

    traffic: float
    panic: bool


class Plan(Generic[T]):
    """Groups of candidates, each with its part of the traffic. Empty if nobody may be asked."""

    __slots__ = ("_edges", "groups", "panic")

    def __init__(self, groups: Sequence[tuple[float, Sequence[T]]], panic: bool) -> None:
        self.groups: Sequence[tuple[float, Sequence[T]]] = groups
        self.panic: bool = panic
        self._edges: list[float] = []
        edge = 0.0
        for part, _ in groups:
            edge += part
            self._edges.append(edge)

    def draw(self, chance: float) -> Sequence[T]:
        """The candidates of one request; `chance` is drawn from [0, 1)."""
        return self.groups[self.place(chance)][1] if self.groups else ()

    def place(self, chance: float) -> int:
        """The place in `groups` of one request's group."""
        # The last edge may be a rounding below 1.
        return min(bisect(self._edges, chance), len(self.groups) - 1)

    def __repr__(self) -> str:
        parts = ", ".join(f"{part:.0%} to {len(ones)}" for part, ones in self.groups)
        return f"<Plan {parts or 'nobody'}{', panic' if self.panic else ''}>"


def shares(levels: Sequence[tuple[int, int]], config: LocalityConfig) -> list[Share]:
    """What each priority gets, in order; `levels` is of each (healthy, total) instances."""
    well = [healthy / total if total else 0.0 for healthy, total in levels]
    health = [min(1.0, config.overprovisioning * part) for part in well]
    whole = min(1.0, sum(health))
    if not whole:
        first = next((index for index, (_, total) in enumerate(levels) if total), -1)
        panics = config.panic > 0
        return [
            Share(1.0, True) if panics and index == first else Share(0.0, False)
            for index in range(len(levels))
        ]
    given: list[Share] = []
    left = 1.0
    for part, score, (_, total) in zip(well, health, levels, strict=True):
        traffic = min(left, score / whole)
        left -= traffic
        given.append(Share(traffic, bool(total) and whole < 1.0 and part < config.panic))
    return given


def zone_shares(
    callers: Mapping[str, int], instances: Mapping[str, int], zone: str
) -> dict[str, float]:
    """The part of the traffic of a caller in `zone` that goes to each zone's instances.

    All to its own if that has as large a part of the instances as of the callers. Otherwise as
    much as it has, and the rest to zones with more instances than callers, by how many more.
    """
    all_callers, all_instances = sum(callers.values()) or 1, sum(instances.values()) or 1
    have = {name: count / all_instances for name, count in instances.items()}
    want = {name: count / all_callers for name, count in callers.items()}
    ours, asked = have.get(zone, 0.0), want.get(zone, 0.0)
    if ours >= asked:
        return {zone: 1.0} if ours else have
    local = ours / asked
    spare = {
        name: max(0.0, part - want.get(name, 0.0)) for name, part in have.items() if name != zone
    }
    room = sum(spare.values())
    if not room:  # callers in a zone nobody counted
        return have
    parts = {name: (1.0 - local) * part / room for name, part in spare.items() if part}
    if local:
        parts[zone] = local
    return parts


def plan(members: Sequence[Member[T]], config: LocalityConfig = LocalityConfig()) -> Plan[T]:
    """Who may be asked, and how much of the traffic each group gets."""
    order = sorted({member.priority for member in members})
    levels = [[member for member in members if member.priority == number] for number in order]
    counts = [(sum(member.healthy for member in level), len(level)) for level in levels]
    groups: list[tuple[float, Sequence[T]]] = []
    given = shares(counts, config)
    for number, (share, level) in enumerate(zip(given, levels, strict=True)):
        if share.traffic <= 0:
            continue
        chosen = level if share.panic else [member for member in level if member.healthy]
        if number == 0 and not share.panic:
            groups += [(share.traffic * part, ones) for part, ones in _by_zone(chosen, config)]
        else:
            groups.append((share.traffic, [member.one for member in chosen]))
    return Plan(groups, any(share.panic for share in given))


def _by_zone(
    chosen: Sequence[Member[T]], config: LocalityConfig
) -> list[tuple[float, Sequence[T]]]:
    instances = Counter(member.zone for member in chosen)
    if not config.zone or len(chosen) < config.min_instances or len(instances) < 2:
        return [(1.0, [member.one for member in chosen])]
    callers = config.callers or dict.fromkeys({*instances, config.zone}, 1)
    parts = zone_shares(callers, instances, config.zone)
    return [
        (part, [member.one for member in chosen if member.zone == zone])
        for zone, part in parts.items()
    ]
