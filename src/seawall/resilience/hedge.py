"""Hedging: ask a second instance when the first takes unusually long, and take the first answer.

After the 95th percentile of answer times, a second try is needed for one call in twenty, and
cuts off most of the slow tail (Dean and Barroso, "The Tail at Scale", 2013). When everything is
slow, hedges would double the load just then: so there is a budget, and the delay follows what is
usual. Only calls that may happen twice are hedged, and only to another instance.
"""

from dataclasses import dataclass

from seawall.errors import Misconfigured
from seawall.resilience.budget import RetryBudget
from seawall.resilience.deadline import Deadline
from seawall.resilience.quantile import Quantile


@dataclass(frozen=True, kw_only=True, slots=True)
class HedgeConfig:
    """Raises `Misconfigured`."""

    after: float = 0.0  # seconds; 0 = after what the quantile says
    most: int = 1  # second tries of one call
    quantile: float = 0.95
    span: float = 30.0  # seconds; how far back "usual" looks
    min_samples: int = 100  # with fewer a 95th percentile rests on five calls
    ratio: float = 0.1  # hedges for each call: twice what the quantile asks for on a usual day
    floor: float = 1.0  # hedges a second that a caller with little traffic may make
    shortest: float = 0.001  # seconds; below it a second try costs more than it can win

    def __post_init__(self) -> None:
        for name in ("min_samples", "most"):
            if getattr(self, name) < 1:
                raise Misconfigured(f"{name} is 1 or more, not {getattr(self, name)}")
        if self.after < 0:
            raise Misconfigured(f"after is 0 seconds or more, not {self.after}")


class Hedger:
    """Hedging for one destination. For one event loop; it is not thread-safe.

    At each call: `delay` says when to look again; if there is no answer by then, `hedge` says
    whether a second try may be sent; `observe` the time of the try that answered, from its own
    start. Count a hedge that lost as cancelled, not as failed.
    """

    __slots__ = ("_budget", "_config", "_usual", "most")

    def __init__(self, config: HedgeConfig = HedgeConfig()) -> None:
        self._config: HedgeConfig = config
        self._usual: Quantile = Quantile(config.quantile, config.span)
        self._budget: RetryBudget = RetryBudget(config.ratio, config.floor)
        self.most: int = config.most

    def delay(
        self, now: float, *, idempotent: bool = True, deadline: Deadline | None = None
    ) -> float | None:
        """A call begins: seconds after which to hedge it, or `None`: do not."""
        self._budget.deposit(now)
        if not idempotent:
            return None
        delay = self._config.after
        if not delay:
            usual = self._usual.value(self._config.min_samples)
            if usual is None:
                return None
            delay = max(usual, self._config.shortest)
        # What begins when the caller has given up, or nearly, helps nobody.
        if deadline is not None and deadline.remaining(now) < 2.0 * delay:
            return None
        return delay

    def hedge(self, now: float) -> bool:
        """No answer within the delay: True if a second try may be sent; it is then spent."""
        return self._budget.withdraw(now)

    def observe(self, seconds: float, now: float) -> None:
        """A try was answered after `seconds`."""
        self._usual.add(seconds, now)

    def __repr__(self) -> str:
        return f"<Hedger {self._usual.value() or 0.0:.4f} s, {self._budget!r}>"
