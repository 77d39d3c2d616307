"""Prometheus metrics of one service instance, under OpenTelemetry's and Seawall's names.

Whatever happens on every request is counted in plain dictionaries, which costs a tenth of what
prometheus_client's locked objects cost; the library writes the exposition. Labels are bounded:
routes are templates, and beyond `MAX_SERIES` label sets of one metric everything further is
counted under `__other__`.
"""

import platform
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import TypeVar

from prometheus_client import (
    CollectorRegistry,
    GCCollector,
    PlatformCollector,
    ProcessCollector,
)
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from seawall.telemetry import logs

# OpenTelemetry's advice for HTTP durations, in seconds.
BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0)

# Label sets of one metric. A service has perhaps 50 routes, 5 methods and 8 statuses in use.
MAX_SERIES = 2000

OTHER = "__other__"

_CLIENT_LABELS = (
    "http_request_method",
    "server_address",
    "http_response_status_code",
    "error_type",
    "service",
)
_PROCESS_LABELS = (
    "messaging_destination_name",
    "messaging_consumer_group_name",
    "error_type",
    "messaging_system",
    "service",
)

Labels = tuple[str, ...]

C = TypeVar("C", bound=Collector)


class Durations(Collector):
    """A histogram of seconds."""

    def __init__(self, name: str, help_text: str, labels: Sequence[str]) -> None:
        self._name = name
        self._help = help_text
        self._labels = tuple(labels)
        self._series: dict[Labels, list[float]] = {}

    def observe(self, labels: Labels, seconds: float) -> None:
        """`labels` in the order they were declared."""
        series = self._series.get(labels)
        if series is None:
            series = self._new(labels)
        series[bisect_left(BUCKETS, seconds)] += 1
        series[-1] += seconds

    def _new(self, labels: Labels) -> list[float]:
        if len(self._series) >= MAX_SERIES:
            labels = (OTHER,) * len(self._labels)
        return self._series.setdefault(labels, [0.0] * (len(BUCKETS) + 2))

    def collect(self) -> Iterator[Metric]:
        family = HistogramMetricFamily(self._name, self._help, labels=self._labels)
        bounds = [*(str(bound) for bound in BUCKETS), "+Inf"]
        for labels, series in tuple(self._series.items()):
            total = 0.0
            buckets = []
            for bound, count in zip(bounds, series, strict=False):
                total += count
                buckets.append((bound, total))
            family.add_metric(labels, buckets, series[-1])
        yield family


class Counts(Collector):
    """A counter."""

    def __init__(self, name: str, help_text: str, labels: Sequence[str]) -> None:
        self._name = name
        self._help = help_text
        self._labels = tuple(labels)
        self._series: dict[Labels, float] = {}

    def add(self, labels: Labels, amount: float = 1.0) -> None:
        """`labels` in the order they were declared."""
        if labels not in self._series and len(self._series) >= MAX_SERIES:
            labels = (OTHER,) * len(self._labels)
        self._series[labels] = self._series.get(labels, 0.0) + amount

    def collect(self) -> Iterator[Metric]:
        family = CounterMetricFamily(self._name, self._help, labels=self._labels)
        for labels, value in tuple(self._series.items()):
            family.add_metric(labels, value)
        yield family


class Readings(Collector):
    """A gauge, or a counter kept elsewhere, that is read when somebody asks for the metrics."""

    def __init__(
        self,
        name: str,
        help_text: str,
        labels: Sequence[str],
        read: Callable[[], Iterable[tuple[Labels, float]]],
        counter: bool = False,
    ) -> None:
        self._name = name
        self._help = help_text
        self._labels = tuple(labels)
        self._read = read
        self._family = CounterMetricFamily if counter else GaugeMetricFamily

    def collect(self) -> Iterator[Metric]:
        family = self._family(self._name, self._help, labels=self._labels)
        for labels, value in islice(self._read(), MAX_SERIES):
            family.add_metric(labels, value)
        yield family


class Metrics:
    """All metrics of one service instance."""

    def __init__(self, service: str, version: str) -> None:
        self._service = service
        self._registry = CollectorRegistry()
        ProcessCollector(registry=self._registry)
        PlatformCollector(registry=self._registry)
        GCCollector(registry=self._registry)
        self.server = self._add(
            Durations(
                "http_server_request_duration_seconds",
                "Duration of HTTP requests served, until the last byte was handed over",
                ("http_request_method", "http_route", "http_response_status_code", "service"),
            )
        )
        self.client = self._add(
            Durations(
                "http_client_request_duration_seconds",
                "Duration of HTTP calls to other services, one for each try",
                _CLIENT_LABELS,
            )
        )
        self.processed = self._add(
            Durations(
                "messaging_process_duration_seconds",
                "Duration of handling a message",
                _PROCESS_LABELS,
            )
        )
        self._shed = self.counts(
            "seawall_load_shed", "Requests refused before they were read", ("service", "reason")
        )
        self._dropped: dict[tuple[str, str], Callable[[], float]] = {}
        self.dropping("logs", "not writable", logs.dropped)
        self.readings(
            "seawall_telemetry_dropped",
            "Logs and facts that nobody got",
            ("signal", "reason"),
            lambda: [(labels, read()) for labels, read in self._dropped.items()],
            counter=True,
        )
        self.commit = ""
        self._version = version
        self.readings(
            "seawall_build_info",
            "What runs here",
            ("service", "version", "python", "commit"),
            self._build,
        )

    def _build(self) -> Iterable[tuple[Labels, float]]:
        yield (self._service, self._version, platform.python_version(), self.commit), 1.0

    def counts(self, name: str, help_text: str, labels: Sequence[str]) -> Counts:
        """A counter of your own; the exposition adds `_total` to its name."""
        return self._add(Counts(name, help_text, labels))

    def durations(self, name: str, help_text: str, labels: Sequence[str]) -> Durations:
        """A histogram of seconds of your own."""
        return self._add(Durations(name, help_text, labels))

    def readings(
        self,
        name: str,
        help_text: str,
        labels: Sequence[str],
        read: Callable[[], Iterable[tuple[Labels, float]]],
        *,
        counter: bool = False,
    ) -> None:
        """A gauge of your own, or a counter; `read` yields its values when somebody asks, in a
        thread, and no more than `MAX_SERIES` are taken."""
        self._add(Readings(name, help_text, labels, read, counter))

    def dropping(self, signal: str, reason: str, read: Callable[[], float]) -> None:
        """Show what `read` counts: records of `signal` that were given up."""
        self._dropped[signal, reason] = read

    def served(self, method: str, route: str, status: int, seconds: float) -> None:
        self.server.observe((method, route, _status(status), self._service), seconds)

    def called(
        self, method: str, callee: str, status: int | None, error: str, seconds: float
    ) -> None:
        code = "" if status is None else _status(status)
        self.client.observe((method, callee, code, error, self._service), seconds)

    def handled(self, topic: str, group: str, error: str, seconds: float) -> None:
        self.processed.observe((topic, group, error, "seawall", self._service), seconds)

    def refused(self, reason: str) -> None:
        self._shed.add((self._service, reason))

    def render(self, accept: str = "") -> tuple[bytes, str]:
        """The exposition and its content type, in the format that `accept` prefers."""
        encoder, content_type = choose_encoder(accept)
        return encoder(self._registry), content_type

    def _add(self, collector: C) -> C:
        self._registry.register(collector)
        return collector


_STATUS: Mapping[int, str] = {code: str(code) for code in range(100, 600)}


def _status(code: int) -> str:
    return _STATUS.get(code, OTHER)
