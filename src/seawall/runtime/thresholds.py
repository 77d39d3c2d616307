"""What follows from the answers to a probe, with the fields of Kubernetes' probes. Pure."""

from dataclasses import dataclass
from enum import StrEnum

from seawall.errors import Misconfigured

# Replicas are asked at the same moments, a few at a time: with a hundred of them that takes the
# supervisor half of what it takes to ask each alone.
BEAT = 0.25  # seconds

# What is to come sooner comes when it is due.
LONG = 4 * BEAT


def on_beat(now: float, pause: float) -> float:
    """Seconds until the moment that is next to the end of the pause."""
    return pause if pause < LONG else max(0.0, round((now + pause) / BEAT) * BEAT - now)


class Finding(StrEnum):
    PASSED = "passed"  # it answered well, `success_threshold` times in a row
    FAILED = "failed"  # it did not, `failure_threshold` times in a row


@dataclass(frozen=True, kw_only=True, slots=True)
class ProbeConfig:
    """When a probe asks, and how many answers in a row count. Times in seconds.

    Meaning and defaults are those of `initialDelaySeconds`, `periodSeconds`, `successThreshold`
    and `failureThreshold` of a Kubernetes probe.
    """

    initial_delay: float = 0.0
    period: float = 10.0
    success_threshold: int = 1
    failure_threshold: int = 3
    again: float | None = None  # after a failure that does not count yet; the period if None

    def __post_init__(self) -> None:
        if self.period <= 0 or self.initial_delay < 0:
            raise Misconfigured(f"a probe's period is above 0 seconds, not {self.period:g}")
        if min(self.success_threshold, self.failure_threshold) < 1:
            raise Misconfigured("a probe's thresholds are at least 1")


@dataclass(slots=True)
class Tally:
    """The last answers in a row."""

    config: ProbeConfig
    successes: int = 0
    failures: int = 0

    def heard(self, passed: bool) -> Finding | None:
        """What is known after another answer; None while it takes more of them."""
        if passed:
            self.successes, self.failures = self.successes + 1, 0
            return Finding.PASSED if self.successes >= self.config.success_threshold else None
        self.successes, self.failures = 0, self.failures + 1
        return Finding.FAILED if self.failures >= self.config.failure_threshold else None

    def pause(self) -> float:
        """Seconds until it is asked again."""
        open_question = 0 < self.failures < self.config.failure_threshold
        again = self.config.again
        return again if open_question and again is not None else self.config.period
