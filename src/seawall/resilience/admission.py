"""Who may go on to a service that has enough to do: a limit that finds itself, and is shared.

The limit is on requests at once and comes from how long answers take
(`seawall.resilience.adaptive`); each importance has a share of it (`seawall.resilience.shed`). The
gateway has one of these for each service, and a service may have one of its own.
"""

from dataclasses import dataclass
from random import Random
from typing import Final

from seawall.errors import Misconfigured
from seawall.resilience.adaptive import (
    Aimd,
    AimdConfig,
    ConcurrencyLimit,
    Fixed,
    Gradient2,
    Gradient2Config,
    Vegas,
    VegasConfig,
)
from seawall.resilience.sampling import WindowConfig, Windowed
from seawall.resilience.shed import Importance, Partitions, PartitionSnapshot, Shedding

KINDS: Final = ("gradient2", "vegas", "aimd", "fixed")


@dataclass(frozen=True, kw_only=True, slots=True)
class Adaptive:
    """A limit on a service's requests at once. Raises `Misconfigured`.

    `gradient2` compares answer times with their own average, `vegas` with the fastest seen, `aimd`
    only looks at timeouts and refusals, `fixed` stays at `initial`. It is of one gateway process.
    """

    kind: str = "gradient2"
    initial: int = 20
    minimum: int = 20  # below it nothing is learned, and the shares of one place are none
    maximum: int = 200
    window: float = 1.0  # seconds of answers that make one sample

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise Misconfigured(
                f"no adaptive limit is called {self.kind!r}", fix=" or ".join(KINDS)
            )
        if self.minimum < 1:
            raise Misconfigured(f"minimum is 1 or more, not {self.minimum}")
        self.limit(Random(0))
        self.sampling()

    def limit(self, rng: Random) -> ConcurrencyLimit:
        """The algorithm, as it begins."""
        initial, minimum, maximum = self.initial, self.minimum, self.maximum
        if self.kind == "fixed":
            return Fixed(initial)
        if self.kind == "vegas":
            return Vegas(rng, VegasConfig(initial=initial, minimum=minimum, maximum=maximum))
        if self.kind == "aimd":
            return Aimd(AimdConfig(initial=initial, minimum=minimum, maximum=maximum))
        return Gradient2(Gradient2Config(initial=initial, minimum=minimum, maximum=maximum))

    def sampling(self) -> WindowConfig:
        return WindowConfig(shortest=self.window, longest=self.window)


class Admission:
    """One service's limit, and how many of which importance are under way."""

    __slots__ = ("_limit", "_places", "_rng", "_shed", "_shedding")

    def __init__(self, config: Adaptive, rng: Random) -> None:
        self._rng: Random = rng
        self._limit: Windowed = Windowed(config.limit(rng), config.sampling())
        self._places: Partitions = Partitions(self._limit.limit)
        self._shedding: Shedding = Shedding()
        self._shed: dict[str, int] = {one.value: 0 for one in Importance}

    @property
    def limit(self) -> int:
        return self._places.limit

    @property
    def taken(self) -> int:
        return self._places.taken

    def admit(self, importance: str) -> bool:
        """Take a place, or count as shed; give it back with `release`.

        Each importance can have its share whatever the others do. What is left goes to the most
        important: as it fills up, the less important are refused before it is full.
        """
        if self.enter(importance):
            return True
        self.turn_away(importance)
        return False

    def enter(self, importance: str) -> bool:
        """The same for one that may also wait: without a place it is not counted yet."""
        places = self._places
        taken = places.taken / places.limit
        sheds = not places.has_share(importance) and self._shedding.sheds(
            importance, taken, self._rng
        )
        return not sheds and places.try_acquire(importance)

    def take(self, importance: str) -> bool:
        """Take any place there is: for one that has waited for it, and was not shed before."""
        return self._places.try_acquire(importance)

    def turn_away(self, importance: str) -> None:
        self._shed[importance] += 1

    def release(self, importance: str) -> None:
        self._places.release(importance)

    def observe(self, seconds: float, dropped: bool, now: float) -> None:
        """A request was answered after `seconds`, or `dropped`: not in time, or for overload."""
        limit = self._limit.sample(seconds, self._places.taken, dropped, now)
        if limit is not None:
            self._places.resize(max(1, limit))

    def shed(self) -> dict[str, int]:
        """How many were refused, by importance."""
        return dict(self._shed)

    def snapshot(self) -> tuple[PartitionSnapshot, ...]:
        return self._places.snapshot()

    def __repr__(self) -> str:
        return f"<Admission {self._places!r}>"
