"""How many requests failed since a release began, from what gateways count. Pure."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

_SERVED = "http_server_request_duration_seconds_count{"
_STATUS = re.compile(r'http_response_status_code="(\d+)"')


@dataclass(frozen=True, slots=True)
class Counted:
    """Requests of one gateway since it started, and how many got a 5xx."""

    requests: float
    errors: float


def counted(exposition: str) -> Counted:
    """From the text of a gateway's /metrics."""
    requests = errors = 0.0
    for line in exposition.splitlines():
        if not line.startswith(_SERVED):
            continue
        status = _STATUS.search(line)
        try:
            value = float(line.rpartition("}")[2].split()[0])
        except (IndexError, ValueError):
            continue
        requests += value
        if status is not None and status[1].startswith("5"):
            errors += value
    return Counted(requests, errors)


@dataclass(slots=True)
class ErrorBudget:
    """`allowed` is the share of requests that may fail; of fewer than `least` a share says
    nothing. Gateways come and go during a release: each counts by its own growth."""

    allowed: float
    least: int
    requests: float = 0.0
    errors: float = 0.0
    _last: dict[str, Counted] = field(default_factory=dict)

    def begin(self, now: Mapping[str, Counted]) -> None:
        """What was counted before is nobody's fault here."""
        self._last = dict(now)

    def note(self, now: Mapping[str, Counted]) -> None:
        for name, each in now.items():
            before = self._last.get(name, Counted(0, 0))
            if each.requests < before.requests:  # begun anew
                before = Counted(0, 0)
            self.requests += each.requests - before.requests
            self.errors += max(0.0, each.errors - before.errors)
            self._last[name] = each

    @property
    def share(self) -> float:
        return self.errors / self.requests if self.requests else 0.0

    @property
    def is_spent(self) -> bool:
        return self.requests >= self.least and self.share > self.allowed

    def __str__(self) -> str:
        return f"{self.errors:g} of {self.requests:g} requests failed ({self.share:.2%})"
