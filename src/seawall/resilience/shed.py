"""Who goes first when there is too much: classes of requests, and their order.

Two decisions that work together. `Partitions` shares out a limit on calls at once: below it
everyone is admitted, at it only a class that holds less than its share (the partitioned limiter
of Netflix's concurrency-limits). So a flood of one class cannot starve another. `Shedding`
begins earlier: as utilisation rises, ever more of the least important class is refused before
the next is touched (Netflix, "Enhancing Netflix Reliability with Service-Level Prioritized Load
Shedding", 2024).

Count what is shed as offered load where load decides about scaling, and begin to shed above the
utilisation that scaling aims at: otherwise shedding hides the very load that should add instances.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from random import Random
from types import MappingProxyType

from seawall.errors import Misconfigured


class Importance(StrEnum):
    """The value is the name in a configuration; the most important first."""

    CRITICAL = "critical"
    NORMAL = "normal"
    SHEDDABLE = "sheddable"


# Critical work can fill half of the limit whatever else comes; prefetching and reports can
# hold a tenth.
SHARES: Mapping[str, float] = MappingProxyType(
    {Importance.CRITICAL: 0.5, Importance.NORMAL: 0.4, Importance.SHEDDABLE: 0.1}
)


@dataclass(frozen=True, slots=True)
class PartitionSnapshot:
    name: str
    share: int  # calls at once that it can have whatever the others do
    taken: int
    refused: int


class _Partition:
    __slots__ = ("percent", "refused", "share", "taken")

    def __init__(self, percent: float) -> None:
        self.percent: float = percent
        self.share: int = 0
        self.taken: int = 0
        self.refused: int = 0


class Partitions:
    """A limit on calls at once, shared by classes. For one event loop; it is not thread-safe.

    Shares are rounded up and at least one, and a class may take its share although others
    have filled the limit: at worst there are nearly twice `limit` calls for a moment.
    """

    __slots__ = ("_limit", "_partitions", "_taken")

    def __init__(self, limit: int, shares: Mapping[str, float] = SHARES) -> None:
        if not shares or not all(0.0 <= share <= 1.0 for share in shares.values()):
            raise Misconfigured("each class has a share between 0 and 1")
        if math.fsum(shares.values()) > 1.0 + 1e-9:
            raise Misconfigured(f"the shares add up to {math.fsum(shares.values()):g}, above 1")
        self._partitions: dict[str, _Partition] = {
            name: _Partition(share) for name, share in shares.items()
        }
        self._taken: int = 0
        self._limit: int = 0
        self.resize(limit)

    @property
    def limit(self) -> int:
        return self._limit

    @property
    def taken(self) -> int:
        return self._taken

    def resize(self, limit: int) -> None:
        """Calls under way are not touched; a lower limit is reached as they end."""
        self._limit = limit
        for partition in self._partitions.values():
            # The hair is for products like 100 * 0.07, which is a little above 7.
            partition.share = max(1, math.ceil(limit * partition.percent - 1e-9))

    def has_share(self, name: str) -> bool:
        """Whether class `name` holds less than its share, so that it is admitted for certain."""
        partition = self._partitions[name]
        return partition.taken < partition.share

    def try_acquire(self, name: str) -> bool:
        """Take a place for class `name`; False if there is none. Give it back with `release`.

        Raises `KeyError` for a class without a share.
        """
        partition = self._partitions[name]
        if self._taken >= self._limit and partition.taken >= partition.share:
            partition.refused += 1
            return False
        partition.taken += 1
        self._taken += 1
        return True

    def release(self, name: str) -> None:
        """Give a place back. Raises `RuntimeError` if none is taken."""
        partition = self._partitions[name]
        if not partition.taken:
            raise RuntimeError(f"a place of {name} was released twice")
        partition.taken -= 1
        self._taken -= 1

    def snapshot(self) -> tuple[PartitionSnapshot, ...]:
        return tuple(
            PartitionSnapshot(name, one.share, one.taken, one.refused)
            for name, one in self._partitions.items()
        )

    def __repr__(self) -> str:
        return f"<Partitions {self._taken} of {self._limit} taken>"


@dataclass(frozen=True, slots=True)
class Band:
    """Utilisations between which a class goes from fully admitted to fully shed."""

    begins: float
    ends: float


# Scaling aims at 0.6 to 0.7 of what an instance can do: below 0.75 nobody is shed. The classes
# do not overlap: no normal request is refused while a sheddable one is admitted.
BANDS: Mapping[str, Band] = MappingProxyType(
    {
        Importance.SHEDDABLE: Band(0.75, 0.85),
        Importance.NORMAL: Band(0.85, 0.95),
        Importance.CRITICAL: Band(0.95, 1.2),
    }
)


@dataclass(frozen=True, slots=True)
class Shedding:
    """Refuse ever more of each class as utilisation goes through its band. Raises `Misconfigured`.

    Utilisation is whatever fills up: calls under way over their limit, or CPU time over what
    there is. Above 1 there is more work than can be done.
    """

    bands: Mapping[str, Band] = field(default_factory=lambda: BANDS)

    def __post_init__(self) -> None:
        for name, band in self.bands.items():
            if not 0 <= band.begins < band.ends:
                raise Misconfigured(f"the band of {name} begins before it ends, and not below 0")

    def chance(self, name: str, utilisation: float) -> float:
        """The part of class `name` to refuse; a class without a band is not shed."""
        band = self.bands.get(name)
        if band is None or utilisation <= band.begins:
            return 0.0
        return min(1.0, (utilisation - band.begins) / (band.ends - band.begins))

    def sheds(self, name: str, utilisation: float, rng: Random) -> bool:
        """Whether to refuse this request."""
        chance = self.chance(name, utilisation)
        return chance > 0.0 and rng.random() < chance
