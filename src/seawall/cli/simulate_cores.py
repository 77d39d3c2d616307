"""Parts of a simulation on all cores, and how far they are.

What comes of a part is its own affair, so the same parts give the same figures on any machine.
"""

import multiprocessing
import os
import signal
from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeVar

# Other processes have to be started first: for less than this they are not worth it.
WORTH = 3.0  # seconds

# How often it is told how far it is.
PAUSE = 0.2  # seconds

T = TypeVar("T")
Played = TypeVar("Played", covariant=True)

Tick = Callable[[int], None]
"""Told now and then how many steps were taken since it was told last."""

Tell = Callable[[float], None]
"""Told the share of everything that is done."""


class Part(Protocol[Played]):
    """Something to be played by one core."""

    @property
    def steps(self) -> int: ...

    @property
    def costs(self) -> float:
        """Seconds that it takes, about."""

    def play(self, tick: Tick) -> Played: ...


def play_on_all_cores(parts: Sequence[Part[T]], tell: Tell, worth: float = WORTH) -> list[T]:
    """What came of each part, in their order."""
    whole = sum(part.steps for part in parts)
    cores = min(os.cpu_count() or 1, len(parts))
    if cores == 1 or sum(part.costs for part in parts) < worth:
        return _one_by_one(parts, lambda done: tell(done / whole))
    longest_first = sorted(range(len(parts)), key=lambda place: -parts[place].costs)
    # Not forked: who runs us may have threads, and macOS does not like it.
    context = multiprocessing.get_context("spawn")
    count = context.Value("q", 0)
    with context.Pool(cores, _begin, (count,)) as pool:
        result = pool.map_async(_play, [parts[place] for place in longest_first], chunksize=1)
        while not result.ready():
            tell(count.value / whole)
            result.wait(PAUSE)
        played = dict(zip(longest_first, result.get(), strict=True))
    return [played[place] for place in range(len(parts))]


def _one_by_one(parts: Sequence[Part[T]], tell: Tick) -> list[T]:
    done = 0

    def tick(steps: int) -> None:
        nonlocal done
        done += steps
        tell(done)

    return [part.play(tick) for part in parts]


_COUNT: Any = None  # of a process of the pool


def _begin(count: Any) -> None:
    global _COUNT
    _COUNT = count
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # who began this process ends it


def _play(part: Part[T]) -> T:
    def tick(steps: int) -> None:
        with _COUNT.get_lock():
            _COUNT.value += steps

    return part.play(tick)
