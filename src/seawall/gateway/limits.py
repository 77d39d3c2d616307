"""What a limit is told: frozen values, checked once."""

from dataclasses import dataclass
from enum import StrEnum

from seawall.errors import Misconfigured
from seawall.resilience.sharing import WhenAway


class LimitBy(StrEnum):
    """Whose requests a limit counts together."""

    IDENTITY = "identity"  # the authenticated subject; the address where there is none
    ADDRESS = "address"
    ROUTE = "route"
    PLAN = "plan"  # everybody who has the same plan


class Algorithm(StrEnum):
    """How requests are counted.

    `token-bucket` and `gcra` are two ways to say the same, and admit the same requests; they are
    kept as one number a key.
    """

    TOKEN_BUCKET = "token-bucket"
    GCRA = "gcra"
    SLIDING_WINDOW = "sliding-window"


@dataclass(frozen=True, kw_only=True, slots=True)
class Limit:
    """At most `rate` requests a second on average, and `burst` at once; or, as a sliding window,
    at most `requests` in any `window` seconds.

    A shared limit is one for all gateways of the project; any other is each process' own.
    """

    rate: float = 0.0
    burst: int = 1
    by: LimitBy = LimitBy.IDENTITY
    algorithm: Algorithm = Algorithm.GCRA
    requests: int = 0
    window: float = 0.0  # seconds
    name: str = ""  # in `RateLimit` fields; what it counts by if empty
    shared: bool = False
    when_away: WhenAway = WhenAway.LOCAL  # what a shared limit does without its server

    def __post_init__(self) -> None:
        if self.algorithm is Algorithm.SLIDING_WINDOW:
            if self.requests < 1 or not self.window > 0 or self.rate:
                raise Misconfigured(
                    f"the sliding window {self.label!r} has requests and window, and no rate",
                    fix='{ algorithm = "sliding-window", requests = 1000, window = 3600 }',
                )
            if self.shared:
                # A share of a rate can move to who needs it; calls that a process has counted
                # in a window cannot.
                rate = f"{self.requests / self.window:.3g}"
                raise Misconfigured(
                    f"the sliding window {self.label!r} cannot be shared",
                    fix=f"rate = {rate}, burst = {self.requests}, shared = true",
                )
        elif not self.rate > 0 or self.burst < 1 or self.requests or self.window:
            raise Misconfigured(
                f"the limit {self.label!r} has a rate above 0 and a burst of 1 or more",
                fix="{ rate = 50, burst = 100 }",
            )

    @property
    def label(self) -> str:
        return self.name or self.by.value


def distinct(limits: tuple[Limit, ...], where: str) -> None:
    """Raise `Misconfigured` where two limits of one place have one name."""
    names = [limit.label for limit in limits]
    for name in names:
        if names.count(name) > 1:
            raise Misconfigured(
                f"{where}: two limits are called {name!r}", fix='name = "hourly" for one of them'
            )
