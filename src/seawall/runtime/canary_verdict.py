"""Whether a new version does as well as the old one beside it. Pure: counts in, a verdict out.

Only what is worse than the old version counts against the new one: a database that is away fails
both. A few failures are enough to go back, since every further request of the new version may be
one more; to be promoted it has to serve for all of the time.
"""

from dataclasses import dataclass
from enum import StrEnum

# Fewer failures than this may be chance, whatever their share.
FAILURES = 3

# What a new version may fail beyond twice the share of the old one.
EXCESS = 0.01

# With fewer answers a mean says little, and nobody is promoted.
LEAST = 20

# A new version may take up to twice as long, and a little more: both begin cold.
TIMES = 2.0
SLACK = 0.05  # seconds


class Verdict(StrEnum):
    WATCH = "watching"
    PROMOTE = "promoted"
    ROLL_BACK = "rolled back"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one version answered since the beginning."""

    requests: int = 0
    failed: int = 0  # with 5xx, or not at all
    seconds: float = 0.0  # of all together

    def since(self, before: "Outcome") -> "Outcome":
        """What came after `before`; a gateway that began anew has counted nothing before."""
        if self.requests < before.requests:
            return self
        return Outcome(
            self.requests - before.requests,
            max(0, self.failed - before.failed),
            max(0.0, self.seconds - before.seconds),
        )

    @property
    def failing(self) -> float:
        return self.failed / self.requests if self.requests else 0.0

    @property
    def mean(self) -> float:
        return self.seconds / self.requests if self.requests else 0.0


NOTHING = Outcome()


def fails_more(old: Outcome, new: Outcome) -> str:
    """How much more often the new version fails; nothing if it is not known to."""
    if new.failed >= FAILURES and new.failing > 2 * old.failing + EXCESS:
        return f"{new.failed} of {new.requests} requests failed, {old.failing:.1%} of the old ones"
    return ""


def worse(old: Outcome, new: Outcome) -> str:
    """Why the new version is worse than the old one; nothing if it is not known to be."""
    if why := fails_more(old, new):
        return why
    known = min(old.requests, new.requests) >= LEAST
    if known and new.mean > TIMES * old.mean + SLACK:
        return f"{new.mean * 1000:.0f} ms a request, the old ones {old.mean * 1000:.0f} ms"
    return ""


def judge(old: Outcome, new: Outcome, elapsed: float, watch: float) -> tuple[Verdict, str]:
    """After `elapsed` of the `watch` seconds."""
    if why := worse(old, new):
        return Verdict.ROLL_BACK, why
    if elapsed < watch:
        return Verdict.WATCH, ""
    if new.requests < LEAST:
        return (
            Verdict.ROLL_BACK,
            f"only {new.requests} requests in {elapsed:.0f} s: too few to tell (--for, --weight)",
        )
    return Verdict.PROMOTE, f"{new.requests} requests, {new.failed} failed"
