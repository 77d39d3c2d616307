"""How many calls at once: a limit that finds itself, from how long calls take.

A destination that is overloaded does not say so, it queues: answers take longer. These
algorithms read the queue off the answer times and set the limit so that there is hardly any.
They are those of Netflix's concurrency-limits (commit 78a74b98), step for step and with its
defaults, so that what is known about their behaviour holds; tests run its own cases.

- `Gradient2` compares the answer time with its own long average, and suits most.
- `Vegas` compares it with the fastest seen, and allows a queue of a few (after TCP Vegas).
- `Aimd` grows by one, and shrinks by a tenth at a drop or a timeout: for a caller that only sees
  whether calls succeed.
- `Fixed` does nothing.

`seawall.resilience.sampling` stands before any of them: single answers say little.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Protocol

from seawall.errors import Misconfigured


class ConcurrencyLimit(Protocol):
    """A limit on calls at once that is told how calls went."""

    @property
    def limit(self) -> int:
        """Calls at once, as of the last sample."""
        ...

    def sample(self, seconds: float, in_flight: int, dropped: bool) -> int:
        """A call took `seconds` while `in_flight` were under way; returns the new limit.

        `dropped`: it timed out, or was refused for overload. A call that failed for another
        reason says nothing, and is not told.
        """
        ...


class Fixed:
    """Always `limit`."""

    __slots__ = ("limit",)

    def __init__(self, limit: int) -> None:
        if limit < 1:
            raise Misconfigured(f"a limit is 1 or more, not {limit}")
        self.limit: int = limit

    def sample(self, seconds: float, in_flight: int, dropped: bool) -> int:
        return self.limit


def _check(initial: int, minimum: int, maximum: int) -> None:
    if not (0 <= minimum <= maximum and 1 <= initial <= maximum):
        raise Misconfigured(f"no limit from {initial}, between {minimum} and {maximum}")


@dataclass(frozen=True, kw_only=True, slots=True)
class AimdConfig:
    """Raises `Misconfigured`."""

    initial: int = 20
    minimum: int = 20
    maximum: int = 200
    backoff: float = 0.9
    timeout: float = 5.0  # seconds; a slower call counts as dropped

    def __post_init__(self) -> None:
        _check(self.initial, self.minimum, self.maximum)
        if not 0.5 <= self.backoff < 1:
            raise Misconfigured(f"backoff is in [0.5, 1), not {self.backoff}")


class Aimd:
    """Additive increase, multiplicative decrease."""

    __slots__ = ("_config", "limit")

    def __init__(self, config: AimdConfig = AimdConfig()) -> None:
        self._config: AimdConfig = config
        self.limit: int = config.initial

    def sample(self, seconds: float, in_flight: int, dropped: bool) -> int:
        config = self._config
        limit = self.limit
        if dropped or seconds > config.timeout:
            limit = int(limit * config.backoff)
        elif in_flight * 2 >= limit:
            limit += 1
        self.limit = min(config.maximum, max(config.minimum, limit))
        return self.limit


@dataclass(frozen=True, kw_only=True, slots=True)
class VegasConfig:
    """Raises `Misconfigured`. Where it says `None`, a multiple of log10 of the limit is used."""

    initial: int = 20
    minimum: int = 1
    maximum: int = 1000
    smoothing: float = 1.0  # how much of each step is taken
    alpha: int | None = None  # a queue below this may grow; None: 3 log10
    beta: int | None = None  # a queue above this must shrink; None: 6 log10
    decrease: Callable[[float], float] | None = None  # None: by log10
    probe_multiplier: int = 30  # the fastest answer is measured anew after limit * this samples

    def __post_init__(self) -> None:
        _check(self.initial, self.minimum, self.maximum)
        if self.minimum < 1:
            raise Misconfigured(f"minimum is 1 or more, not {self.minimum}")
        if not 0 < self.smoothing <= 1:
            raise Misconfigured(f"smoothing is in (0, 1], not {self.smoothing}")


class Vegas:
    """Keeps a queue of between alpha and beta, judged by the fastest answer seen."""

    __slots__ = ("_config", "_estimate", "_fastest", "_probe_at", "_rng", "_samples")

    def __init__(self, rng: Random, config: VegasConfig = VegasConfig()) -> None:
        self._config: VegasConfig = config
        self._rng: Random = rng
        self._estimate: float = float(config.initial)
        self._fastest: float = 0.0  # seconds; 0.0: nothing seen
        self._samples: int = 0
        self._probe_at: float = rng.uniform(0.5, 1.0)  # of probe_multiplier * limit

    @property
    def limit(self) -> int:
        return int(self._estimate)

    def sample(self, seconds: float, in_flight: int, dropped: bool) -> int:
        self._samples += 1
        if self._probe_at * self._config.probe_multiplier * self._estimate <= self._samples:
            self._probe_at = self._rng.uniform(0.5, 1.0)
            self._samples = 0
            self._fastest = seconds
        elif not self._fastest or seconds < self._fastest:
            self._fastest = seconds
        else:
            self._step(seconds, in_flight, dropped)
        return int(self._estimate)

    def _step(self, seconds: float, in_flight: int, dropped: bool) -> None:
        config, estimate = self._config, self._estimate
        if not dropped and in_flight * 2 < estimate:
            return  # the callers, and not the limit, hold it down
        wanted = self._shrunk() if dropped else self._wanted(seconds)
        wanted = max(float(config.minimum), min(float(config.maximum), wanted))
        self._estimate = (1.0 - config.smoothing) * estimate + config.smoothing * wanted

    def _wanted(self, seconds: float) -> float:
        config, estimate = self._config, self._estimate
        step = _log10(int(estimate))
        alpha = 3 * step if config.alpha is None else config.alpha
        beta = 6 * step if config.beta is None else config.beta
        queue = math.ceil(estimate * (1.0 - self._fastest / seconds))
        if queue <= step:
            return estimate + beta
        if queue < alpha:
            return estimate + step
        return self._shrunk() if queue > beta else estimate

    def _shrunk(self) -> float:
        decrease = self._config.decrease
        estimate = self._estimate
        return estimate - _log10(int(estimate)) if decrease is None else decrease(estimate)


def _log10(limit: int) -> int:
    return max(1, int(math.log10(limit))) if limit > 0 else 1


@dataclass(frozen=True, kw_only=True, slots=True)
class Gradient2Config:
    """Raises `Misconfigured`."""

    initial: int = 20
    minimum: int = 20
    maximum: int = 200
    smoothing: float = 0.2  # how much of each step is taken
    queue: int = 4  # that may always stand; the limit grows by a part of it
    long_window: int = 600  # samples in the long average
    tolerance: float = 1.5  # times the long average is no overload

    def __post_init__(self) -> None:
        _check(self.initial, self.minimum, self.maximum)
        if not 0 < self.smoothing <= 1:
            raise Misconfigured(f"smoothing is in (0, 1], not {self.smoothing}")
        if not self.tolerance >= 1:
            raise Misconfigured(f"tolerance is 1 or more, not {self.tolerance}")


class Gradient2:
    """Follows the ratio of the long average to the answer time now."""

    __slots__ = ("_config", "_estimate", "_long")

    def __init__(self, config: Gradient2Config = Gradient2Config()) -> None:
        self._config: Gradient2Config = config
        self._estimate: float = float(config.initial)
        self._long: WarmAverage = WarmAverage(config.long_window, 10)

    @property
    def limit(self) -> int:
        return int(self._estimate)

    def sample(self, seconds: float, in_flight: int, dropped: bool) -> int:
        config, estimate = self._config, self._estimate
        long = self._long.add(seconds)
        if long > 2.0 * seconds:
            # Back to normal after a long overload: forget it faster than the average would.
            self._long.value *= 0.95
        if in_flight < estimate / 2.0:
            return int(estimate)  # the callers, and not the limit, hold it down
        # At most halved, since a single outlier must not shed half of the traffic and more.
        ratio = config.tolerance * long / seconds if seconds > 0 else 1.0
        gradient = max(0.5, min(1.0, ratio))
        wanted = estimate * gradient + config.queue
        smoothed = estimate * (1.0 - config.smoothing) + wanted * config.smoothing
        self._estimate = max(float(config.minimum), min(float(config.maximum), smoothed))
        return int(self._estimate)


class WarmAverage:
    """An exponential average over `window` samples that begins as the mean of the first few."""

    __slots__ = ("_count", "_factor", "_sum", "_warm_up", "value")

    def __init__(self, window: int, warm_up: int) -> None:
        self._factor: float = 2.0 / (window + 1)
        self._warm_up: int = warm_up
        self._count: int = 0
        self._sum: float = 0.0
        self.value: float = 0.0

    def add(self, sample: float) -> float:
        if self._count < self._warm_up:
            self._count += 1
            self._sum += sample
            self.value = self._sum / self._count
        else:
            self.value = self.value * (1.0 - self._factor) + sample * self._factor
        return self.value
