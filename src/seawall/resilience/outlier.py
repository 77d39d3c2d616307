"""Outlier ejection: leave out, for a while, an instance that fails where its peers do not.

A breaker answers "is this destination down?", this answers "which of its instances to avoid".
Never more than `max_ejected` (half) are left out: if most of them fail it is not the instances,
and the rest would drown in the traffic of all (Envoy's `max_ejection_percent`).
"""

from collections.abc import Sequence
from dataclasses import dataclass

from seawall.errors import Misconfigured


@dataclass(frozen=True, kw_only=True, slots=True)
class OutlierConfig:
    """Raises `Misconfigured`."""

    consecutive_failures: int = 5
    eject_for: float = 30.0  # seconds; doubled by each further ejection
    eject_for_max: float = 300.0  # seconds
    forgive_after: float = 300.0  # seconds without ejection, and the doubling starts over
    max_ejected: float = 0.5  # of the instances, rounded down
    max_keys: int = 1024  # instances with a history; beyond it the oldest history is forgotten

    def __post_init__(self) -> None:
        if self.consecutive_failures < 1 or self.max_keys < 1:
            raise Misconfigured("consecutive_failures and max_keys are 1 or more")
        if not 0 <= self.max_ejected <= 1:
            raise Misconfigured(f"max_ejected is in [0, 1], not {self.max_ejected}")
        if not 0 < self.eject_for <= self.eject_for_max:
            raise Misconfigured("eject_for is above 0 and at most eject_for_max")


@dataclass(frozen=True, slots=True)
class Ejected:
    """An instance is left out until then. It may be asked all the same where too many would be."""

    key: str
    failures: int
    until: float
    at: float


class _History:
    __slots__ = ("failures", "times", "until")

    def __init__(self) -> None:
        self.failures: int = 0
        self.times: int = 0  # ejected, without being forgiven
        self.until: float = float("-inf")  # when the last ejection ends or ended


class Outliers:
    """Failures in a row, by instance. For one event loop; it is not thread-safe.

    An instance that comes back is on probation until its first success: a failure before that
    is one more in the row, and ejects it again for twice as long.
    What is reported while an instance is out belongs to calls from before, and changes nothing.
    """

    __slots__ = ("_config", "_histories", "_last_end")

    def __init__(self, config: OutlierConfig = OutlierConfig()) -> None:
        self._config: OutlierConfig = config
        self._histories: dict[str, _History] = {}
        self._last_end: float = float("-inf")  # nobody is out from then on

    def succeeded(self, key: str, now: float) -> None:
        history = self._histories.get(key)
        if history is None or now < history.until:
            return
        history.failures = 0
        if now >= history.until + self._config.forgive_after:
            del self._histories[key]

    def failed(self, key: str, now: float) -> Ejected | None:
        history = self._histories.get(key)
        if history is None:
            history = self._remember(key)
        elif now < history.until:
            return None
        elif history.times and now >= history.until + self._config.forgive_after:
            history.failures = history.times = 0
        config = self._config
        history.failures += 1
        if history.failures < config.consecutive_failures:
            return None
        history.times += 1
        length = min(config.eject_for_max, config.eject_for * 2.0 ** (min(history.times, 32) - 1))
        history.until = now + length
        self._last_end = max(self._last_end, history.until)
        return Ejected(key, history.failures, history.until, now)

    def usable(self, keys: Sequence[str], now: float) -> Sequence[str]:
        """Those of `keys` to ask, in their order: all but `max_ejected` of them.

        If more than that are out, those whose time ends first are asked all the same.
        """
        if now >= self._last_end:
            return keys
        out = [(until, key) for key in keys if (until := self._until(key)) > now]
        out.sort()
        ceiling = int(len(keys) * self._config.max_ejected)
        left_out = {key for _, key in out[len(out) - min(len(out), ceiling) :]}
        return [key for key in keys if key not in left_out] if left_out else keys

    def forget(self, key: str) -> None:
        """The instance is gone."""
        self._histories.pop(key, None)

    def __repr__(self) -> str:
        return f"<Outliers {len(self._histories)} with a history>"

    def _until(self, key: str) -> float:
        history = self._histories.get(key)
        return float("-inf") if history is None else history.until

    def _remember(self, key: str) -> _History:
        if len(self._histories) >= self._config.max_keys:
            del self._histories[next(iter(self._histories))]
        history = self._histories[key] = _History()
        return history
