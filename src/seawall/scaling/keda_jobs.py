"""KEDA's ScaledJob as a kernel: how many jobs to begin, each of which ends by itself.

Followed, of kedacore/keda at 8b4f083c: pkg/scaling/executor/scale_jobs.go (`getScalingDecision`,
`createJobs`, the strategies) and pkg/scaling/scaledjob/metrics.go (`IsScaledJobActive`). Nothing
is ever stopped: whoever works on a message finishes it.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum

from seawall.errors import Misconfigured


class Strategy(Enum):
    """How many of those asked for begin, where some run and some are still pending."""

    DEFAULT = "default"  # what runs is subtracted: the queue counts what is being worked on
    CUSTOM = "custom"
    ACCURATE = "accurate"  # only what is pending is: the queue drops what is being worked on
    EAGER = "eager"  # as many as there is room for


class Calculation(Enum):
    """What several triggers together ask for."""

    MAX = "max"
    MIN = "min"
    AVERAGE = "avg"
    SUM = "sum"


@dataclass(frozen=True, slots=True)
class Queue:
    """What one trigger says: its length and how many of it one job is to take."""

    length: float
    target: float
    is_active: bool = True

    def __post_init__(self) -> None:
        if not self.target > 0:
            raise Misconfigured(f"a job takes more than 0 of a queue, not {self.target}")


@dataclass(frozen=True, slots=True)
class JobsSamples:
    queues: tuple[Queue, ...]
    running: int  # not finished, pending ones among them
    pending: int  # no pod of theirs runs yet


@dataclass(frozen=True, slots=True)
class JobsDecision:
    """Begin as many jobs more."""

    begin: int
    reason: str


@dataclass(frozen=True, kw_only=True, slots=True)
class ScaledJob:
    """One ScaledJob, with KEDA's defaults."""

    maximum: int = 100
    minimum: int = 0
    strategy: Strategy = Strategy.DEFAULT
    calculation: Calculation = Calculation.MAX
    deduction: int = 0  # custom: of the queue's length
    share: float = 0.0  # custom: of the running ones, what is subtracted

    def __post_init__(self) -> None:
        if self.maximum < 1 or not 0 <= self.minimum <= self.maximum:
            raise Misconfigured(f"between {self.minimum} and {self.maximum} jobs")

    def decide(self, samples: JobsSamples) -> JobsDecision:
        is_active, length, most = self.wanted(samples.queues)
        if not is_active:
            return JobsDecision(0, "no trigger is active")
        effective, up_to = self.effective(most, samples.running, samples.pending, length)
        begin = max(0, min(effective, up_to))
        told = f"{length} waiting, {samples.running} running, {samples.pending} of them pending"
        return JobsDecision(begin, told)

    def wanted(self, queues: Sequence[Queue]) -> tuple[bool, int, int]:
        """Whether anything is active, the queue's length, and the jobs it asks for."""
        active = [queue for queue in queues if queue.is_active]
        length, most = 0.0, 0.0
        if active:
            asked = [(q.length, min(q.length / q.target, float(self.maximum))) for q in active]
            length, most = _CALCULATIONS[self.calculation](asked)
        # The longest of empty queues is none, and wakes nobody.
        is_active = bool(active) and (self.calculation is not Calculation.MAX or length > 0)
        most = min(most, float(self.maximum))
        return is_active or self.minimum > 0, math.ceil(length), math.ceil(most)

    def effective(self, most: int, running: int, pending: int, up_to: int) -> tuple[int, int]:
        """How many may begin now, and how many are asked for."""
        if running < self.minimum:
            missing = self.minimum - running
            return missing, missing
        running -= self.minimum
        match self.strategy:
            case Strategy.CUSTOM:
                left = most - self.deduction - int(running * self.share)
                return min(left, self.maximum), up_to
            case Strategy.ACCURATE:
                room = self.maximum - running
                return (room if most - pending > room else most - pending), up_to
            case Strategy.EAGER:
                return min(self.maximum - running - pending, most), self.maximum
            case _:
                return most - running, up_to


Asked = list[tuple[float, float]]  # of each active trigger: length, jobs


def _longest(asked: Asked) -> tuple[float, float]:
    return max(asked, key=lambda each: each[0])


def _shortest(asked: Asked) -> tuple[float, float]:
    """The first of the shortest; an empty one counts only where all after it are empty too."""
    best = (0.0, 0.0)
    for length, jobs in asked:
        if best[0] == 0 or length < best[0]:
            best = (length, jobs)
    return best


def _average(asked: Asked) -> tuple[float, float]:
    length, jobs = _sum(asked)
    return length / len(asked), jobs / len(asked)


def _sum(asked: Asked) -> tuple[float, float]:
    return sum(length for length, _ in asked), sum(jobs for _, jobs in asked)


_CALCULATIONS: dict[Calculation, Callable[[Asked], tuple[float, float]]] = {
    Calculation.MAX: _longest,
    Calculation.MIN: _shortest,
    Calculation.AVERAGE: _average,
    Calculation.SUM: _sum,
}
