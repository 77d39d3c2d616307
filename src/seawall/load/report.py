"""What a run of load amounts to. Pure: every scheduled request counts, answered or not."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

# Above this the generator itself was late, and what it measured is its own slowness.
MAX_LAG = 0.010  # seconds, at the 99th percentile


@dataclass(frozen=True, slots=True)
class Sample:
    """One scheduled request. Times are seconds from the beginning of the run."""

    kind: str  # "browse", "order": what was asked
    intended: float  # when it should have started
    started: float  # when it did
    ended: float  # when its last attempt ended
    first_ok: bool  # the first attempt succeeded
    ok: bool  # some attempt succeeded
    attempts: int = 1
    detail: str = ""  # of a failure: status or error

    @property
    def latency(self) -> float:
        """Seconds from the intended start, so that waiting to be sent counts."""
        return self.ended - self.intended


@dataclass(frozen=True, slots=True)
class Report:
    """`availability_*` are shares of all scheduled requests; latencies are of those that
    succeeded, in seconds; `lag_p99` is how late the generator itself started requests."""

    scheduled: int
    availability_first: float
    availability_retry: float
    p50: float
    p99: float
    lag_p99: float

    @property
    def void(self) -> bool:
        """The generator was too late for its figures to mean anything."""
        return self.lag_p99 > MAX_LAG


def summarize(samples: Sequence[Sample]) -> Report:
    latencies = sorted(sample.latency for sample in samples if sample.ok)
    count = len(samples)
    return Report(
        scheduled=count,
        availability_first=sum(s.first_ok for s in samples) / count if count else math.nan,
        availability_retry=sum(s.ok for s in samples) / count if count else math.nan,
        p50=quantile(latencies, 0.50),
        p99=quantile(latencies, 0.99),
        lag_p99=quantile(sorted(s.started - s.intended for s in samples), 0.99),
    )


def quantile(ascending: Sequence[float], q: float) -> float:
    """The smallest value that at least the share `q` of all values does not exceed; NaN if none."""
    if not ascending:
        return math.nan
    return ascending[max(0, math.ceil(q * len(ascending)) - 1)]
