"""What the gateway counts, and Prometheus' text of it. Names are OpenTelemetry's.

Plain integers: a request costs a look-up and three additions. Labels are bounded: routes by the
configuration, methods and statuses by the protocol and, against upstreams that answer with every
number there is, by MAX_SERIES.
"""

from bisect import bisect_left
from collections.abc import Iterable, Iterator
from typing import Final

# The boundaries that OpenTelemetry's semantic conventions give for HTTP durations.
FIRST_BOUND: Final = 0.005
BOUNDS = (FIRST_BOUND, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0)
MAX_SERIES: Final = 100  # of one route
OTHER: Final = (b"__other__", 0)

_DURATION: Final = "http_server_request_duration_seconds"


class Series:
    """The durations of one kind of request: a histogram."""

    __slots__ = ("buckets", "total")

    def __init__(self) -> None:
        self.buckets: list[int] = [0] * (len(BOUNDS) + 1)
        self.total: float = 0.0


class RouteMetrics:
    """The requests of one route, or of one arm of it, by method and status."""

    __slots__ = ("_last", "_method", "_status", "arm", "label", "series", "service")

    def __init__(self, label: str, service: str, arm: str = "") -> None:
        self.label: str = label
        self.service: str = service
        self.arm: str = arm  # of a split route
        self.series: dict[tuple[bytes, int], Series] = {}
        # The one that was counted last: on most routes it is almost always the next one too.
        self._method: bytes = b""
        self._status: int = -1
        self._last: Series = Series()

    def observe(self, method: bytes, status: int, seconds: float) -> None:
        if status != self._status or method != self._method:
            self._turn_to(method, status)
        series = self._last
        series.total += seconds
        series.buckets[bisect_left(BOUNDS, seconds) if seconds > FIRST_BOUND else 0] += 1

    def _turn_to(self, method: bytes, status: int) -> None:
        series = self.series.get((method, status))
        if series is None:
            key = (method, status) if len(self.series) < MAX_SERIES else OTHER
            series = self.series.setdefault(key, Series())
        self._method, self._status, self._last = method, status, series


class Metrics:
    """Everything that one gateway process counts."""

    __slots__ = (
        "_known",
        "_next",
        "active_requests",
        "connections",
        "connections_refused",
        "fallbacks",
        "flags",
        "hedges",
        "log_dropped",
        "retries",
        "spans_dropped",
        "unrouted",
    )

    def __init__(self) -> None:
        self.unrouted: RouteMetrics = RouteMetrics("", "")
        self._known: dict[tuple[str, str, str], RouteMetrics] = {}
        self._next: dict[tuple[str, str, str], RouteMetrics] = self._known
        self.flags: dict[str, int] = {}
        self.active_requests: int = 0
        self.connections: int = 0
        self.connections_refused: int = 0
        self.retries: dict[str, int] = {}
        self.hedges: dict[str, int] = {}
        self.fallbacks: dict[str, int] = {}
        self.log_dropped: int = 0
        self.spans_dropped: int = 0

    @property
    def routes(self) -> list[RouteMetrics]:
        return list(self._known.values())

    def draft(self) -> None:
        """The routes that are named from now on are those of another configuration."""
        self._next = {}

    def adopt(self) -> None:
        """They hold now; those that were known before go on counting, and others are dropped."""
        self._known = self._next

    def route(self, label: str, service: str, arm: str = "") -> RouteMetrics:
        """The counts of a route, or an arm of it; those with one name are counted together."""
        key = (label, service, arm)
        found = self._next.get(key) or self._known.get(key) or RouteMetrics(*key)
        self._next[key] = found
        return found

    def flagged(self, flag: str) -> None:
        self.flags[flag] = self.flags.get(flag, 0) + 1

    def retried(self, service: str) -> None:
        self.retries[service] = self.retries.get(service, 0) + 1

    def hedged(self, service: str) -> None:
        self.hedges[service] = self.hedges.get(service, 0) + 1

    def fell_back(self, service: str) -> None:
        self.fallbacks[service] = self.fallbacks.get(service, 0) + 1


def text(metrics: Metrics, more: Iterable[tuple[str, str, str, str, float]] = ()) -> str:
    """Prometheus' text format; `more` are (name, kind, help, labels, value) of other parts."""
    lines = list(_histograms([*metrics.routes, metrics.unrouted]))
    own = [
        *[
            (
                "seawall_gateway_flags_total",
                "counter",
                "Requests by why they ended as they did.",
                labels(flag=flag),
                float(count),
            )
            for flag, count in sorted(metrics.flags.items())
        ],
        *_by_service("seawall_retries_total", "Requests sent once more.", metrics.retries),
        *_by_service("seawall_hedges_total", "Tries sent beside a slow one.", metrics.hedges),
        *_by_service("seawall_fallbacks_total", "Answers by a fallback.", metrics.fallbacks),
        (
            "http_server_active_requests",
            "gauge",
            "Requests under way.",
            "",
            float(metrics.active_requests),
        ),
        (
            "seawall_gateway_connections",
            "gauge",
            "Open client connections.",
            "",
            float(metrics.connections),
        ),
        (
            "seawall_gateway_connections_refused_total",
            "counter",
            "Client connections closed at once because there were too many.",
            "",
            float(metrics.connections_refused),
        ),
        (
            "seawall_telemetry_dropped_total",
            "counter",
            "Records given up because nobody took them.",
            labels(signal="access_log"),
            float(metrics.log_dropped),
        ),
        (
            "seawall_telemetry_dropped_total",
            "counter",
            "Records given up because nobody took them.",
            labels(signal="spans"),
            float(metrics.spans_dropped),
        ),
    ]
    seen = ""
    for name, kind, help_, of, value in [*own, *more]:
        if name != seen:
            lines += (f"# HELP {name} {help_}", f"# TYPE {name} {kind}")
            seen = name
        lines.append(f"{name}{of} {value:.15g}")  # a count stays whole
    return "\n".join(lines) + "\n"


def _by_service(
    name: str, help_: str, counts: dict[str, int]
) -> list[tuple[str, str, str, str, float]]:
    return [
        (name, "counter", help_, labels(service=service), float(count))
        for service, count in sorted(counts.items())
    ]


def _histograms(routes: Iterable[RouteMetrics]) -> Iterator[str]:
    yield f"# HELP {_DURATION} From a request's head to its answer's end."
    yield f"# TYPE {_DURATION} histogram"
    for route in routes:
        for (method, status), series in route.series.items():
            said = {
                "http_request_method": method.decode("ascii", "replace"),
                "http_response_status_code": str(status),
                "http_route": route.label,
                "service": route.service,
            }
            if route.arm:
                said["arm"] = route.arm
            count = 0
            for bound, held in zip((*BOUNDS, "+Inf"), series.buckets, strict=True):
                count += held
                yield f"{_DURATION}_bucket{labels(**said, le=str(bound))} {count}"
            yield f"{_DURATION}_sum{labels(**said)} {series.total:.6f}"
            yield f"{_DURATION}_count{labels(**said)} {count}"


def labels(**said: str) -> str:
    escaped = (
        (name, value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n"))
        for name, value in said.items()
    )
    return "{" + ",".join(f'{name}="{value}"' for name, value in escaped) + "}"
