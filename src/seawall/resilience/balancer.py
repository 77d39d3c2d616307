"""Which instance to ask: the protocol, and the balancers that need no more than counts.

All balancers answer the same question and are told the same, so that gateway and client switch
between them by a name (`seawall.resilience.balancing`). `load` is how busy an instance is for
its size: `(in_flight + 1) / weight`. `key` is what the request should stick to, if anything.
A balancer uses what it needs of them.
"""

from collections.abc import Callable, Container, Sequence
from random import Random
from typing import Generic, Protocol, TypeVar

from seawall.errors import NoInstance

T = TypeVar("T")


class Balancer(Protocol[T]):
    """Chooses an instance for one request. For one event loop; none is thread-safe."""

    def pick(
        self,
        candidates: Sequence[T],
        load: Callable[[T], float],
        avoid: Container[T] = (),
        key: str = "",
    ) -> T:
        """One of `candidates`, and none of `avoid` unless there is nothing else.

        Raises `NoInstance` if there are no candidates.
        """
        ...


def willing(candidates: Sequence[T], avoid: Container[T]) -> Sequence[T]:
    """Those of `candidates` that are not in `avoid`, or all of them if that leaves none.

    Raises `NoInstance` if there are no candidates.
    """
    if avoid:
        candidates = [one for one in candidates if one not in avoid] or candidates
    if not candidates:
        raise NoInstance("there is no instance to choose from")
    return candidates


class LeastRequest:
    """Power of two choices over whatever `load` measures.

    Of two instances drawn at random the less loaded is asked. That is nearly as good as the
    least loaded of all, and unlike it does not send everybody to the same newcomer at once
    (Mitzenmacher, "The Power of Two Choices in Randomized Load Balancing").
    """

    __slots__ = ("_random",)

    def __init__(self, rng: Random) -> None:
        self._random: Callable[[], float] = rng.random

    def pick(
        self,
        candidates: Sequence[T],
        load: Callable[[T], float],
        avoid: Container[T] = (),
        key: str = "",
    ) -> T:
        """One of `candidates`, and none of `avoid` unless there is nothing else.

        Raises `NoInstance` if there are no candidates.
        """
        if avoid:
            candidates = [one for one in candidates if one not in avoid] or candidates
        count = len(candidates)
        if count < 2:
            if not count:
                raise NoInstance("there is no instance to choose from")
            return candidates[0]
        # One draw gives both, and they differ: the second is one of the `count - 1` others.
        drawn = int(self._random() * count * (count - 1))
        first = drawn // (count - 1)
        second = drawn % (count - 1)
        if second >= first:
            second += 1
        one, other = candidates[first], candidates[second]
        return one if load(one) <= load(other) else other


# A weight of nothing would put the next turn at infinity, where a later weight cannot reach it.
# Who must not be asked is no candidate.
LEAST_WEIGHT = 0.01

# Draws in vain before the heaviest is taken. The mean number is at most that of the instances.
_DRAWS = 1000


class WeightedLeastRequest(Generic[T]):
    """Power of two choices where weights differ: who weighs twice as much is drawn twice as often.

    Two draws without weights would leave the light ones nothing under light load: with nothing
    under way `load` is `1 / weight`, and the heaviest always wins. Here the first drawn wins
    then, so shares are as the weights. `weight` is that which `load` was divided by.
    """

    __slots__ = ("_random", "_weight")

    def __init__(self, rng: Random, weight: Callable[[T], float]) -> None:
        self._random: Callable[[], float] = rng.random
        self._weight: Callable[[T], float] = weight

    def pick(
        self,
        candidates: Sequence[T],
        load: Callable[[T], float],
        avoid: Container[T] = (),
        key: str = "",
    ) -> T:
        """See `Balancer`; `key` is not asked for."""
        candidates = willing(candidates, avoid)
        if len(candidates) == 1:
            return candidates[0]
        heaviest = max(map(self._weight, candidates))
        one, other = self._draw(candidates, heaviest), self._draw(candidates, heaviest)
        return one if self._busy(one, load) <= self._busy(other, load) else other

    def _draw(self, candidates: Sequence[T], heaviest: float) -> T:
        """One of them, as often as its weight says: drawn evenly, and taken by its weight."""
        count = len(candidates)
        for _ in range(_DRAWS):
            place = self._random() * count
            index = int(place)
            # What is left behind the comma is a second draw, independent of the first.
            if (place - index) * heaviest < self._weight(candidates[index]):
                return candidates[index]
        return max(candidates, key=self._weight)

    def _busy(self, one: T, load: Callable[[T], float]) -> float:
        """What is under way there for its weight; nothing is nothing, whatever it weighs."""
        return load(one) - 1.0 / max(self._weight(one), LEAST_WEIGHT)


class RoundRobin:
    """One after the other. Give each caller another `start`, or they all go round in step."""

    __slots__ = ("_next",)

    def __init__(self, start: int = 0) -> None:
        self._next: int = start

    def pick(
        self,
        candidates: Sequence[T],
        load: Callable[[T], float],
        avoid: Container[T] = (),
        key: str = "",
    ) -> T:
        """See `Balancer`; `load` and `key` are not asked for."""
        candidates = willing(candidates, avoid)
        self._next += 1
        return candidates[(self._next - 1) % len(candidates)]


# Turns that are kept of instances which are no candidates just now, beside as many again as there
# are candidates: an instance that is ejected for a minute keeps its place.
_SPARE_TURNS = 64


class Weighted(Generic[T]):
    """Each in turn, as often as its weight says, and evenly spread.

    Stride scheduling (Waldspurger 1995; Envoy's EDF scheduler is the same): each has a next
    turn, the earliest is asked, and its next one is `1 / weight` later. First turns are half a
    stride from the start, which spreads them as nginx's smooth round robin does. `weight` is
    read anew at each turn, so it may change as it likes. Candidates must be hashable.
    """

    __slots__ = ("_now", "_turns", "_weight")

    def __init__(self, weight: Callable[[T], float]) -> None:
        self._weight: Callable[[T], float] = weight
        self._turns: dict[T, float] = {}
        self._now: float = 0.0  # the last turn that was taken

    def pick(
        self,
        candidates: Sequence[T],
        load: Callable[[T], float],
        avoid: Container[T] = (),
        key: str = "",
    ) -> T:
        """See `Balancer`; `load` and `key` are not asked for."""
        turns = self._turns
        if len(turns) > 2 * len(candidates) + _SPARE_TURNS:
            turns = self._turns = {one: turns[one] for one in candidates if one in turns}
        candidates = willing(candidates, avoid)
        try:
            picked = min(candidates, key=turns.__getitem__)
        except KeyError:
            self._welcome(candidates)
            picked = min(candidates, key=turns.__getitem__)
        # Who was away takes one turn late, and not all that it missed at once.
        self._now = max(self._now, turns[picked])
        turns[picked] = self._now + self._stride(picked)
        return picked

    def _welcome(self, candidates: Sequence[T]) -> None:
        for one in candidates:
            if one not in self._turns:
                self._turns[one] = self._now + 0.5 * self._stride(one)

    def _stride(self, one: T) -> float:
        return 1.0 / max(self._weight(one), LEAST_WEIGHT)
