"""Which instance to ask: least request, power of two choices.

Of two instances drawn at random the less loaded is asked. That is nearly as good as the least
loaded of all, and unlike it does not send everybody to the same newcomer at once (Mitzenmacher,
"The Power of Two Choices in Randomized Load Balancing").
"""

from collections.abc import Callable, Container, Sequence
from random import Random
from typing import TypeVar

from seawall.errors import NoInstance

T = TypeVar("T")


class LeastRequest:
    """Power of two choices over whatever `load` measures.

    For instances of different size let `load` return `(in_flight + 1) / weight`.
    """

    __slots__ = ("_random",)

    def __init__(self, rng: Random) -> None:
        self._random: Callable[[], float] = rng.random

    def pick(
        self, candidates: Sequence[T], load: Callable[[T], float], avoid: Container[T] = ()
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
