"""The shapes in which autoscalers of a cluster ask for figures and are answered. Pure.

`external.metrics.k8s.io/v1beta1`, `custom.metrics.k8s.io/v1beta2`, and what KEDA's `metrics-api`
scaler reads. Of what nobody knows there is no item: an autoscaler then stays where it is.
"""

import math
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

Body = dict[str, Any]

EXTERNAL = "external.metrics.k8s.io/v1beta1"
CUSTOM = "custom.metrics.k8s.io/v1beta2"


@dataclass(frozen=True, slots=True)
class Value:
    """A figure of a service: of all its replicas together, and of each where that says
    anything. `at` is wall clock, seconds since 1970."""

    total: float
    at: float
    pods: Mapping[str, float] = field(default_factory=dict)


def quantity(value: float) -> str:
    """In thousandths where it is no whole number, rounded up, as Kubernetes does."""
    thousandths = math.ceil(round(value * 1000, 6))
    whole, rest = divmod(thousandths, 1000)
    return f"{thousandths}m" if rest else str(whole)


def _time(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def keda(value: Value) -> Body:
    return {"value": value.total}


def external(metric: str, found: Iterable[tuple[Mapping[str, str], Value]]) -> Body:
    """Of each service with that figure: its labels, and the value."""
    return {
        "kind": "ExternalMetricValueList",
        "apiVersion": EXTERNAL,
        "metadata": {},
        "items": [
            {
                "metricName": metric,
                "metricLabels": dict(labels),
                "timestamp": _time(value.at),
                "value": quantity(value.total),
            }
            for labels, value in found
        ],
    }


def custom(
    kind: str, namespace: str, metric: str, found: Iterable[tuple[str, float, float]]
) -> Body:
    """Of each object of that kind: its name, the amount, and when it was measured."""
    return {
        "kind": "MetricValueList",
        "apiVersion": CUSTOM,
        "metadata": {},
        "items": [
            {
                "describedObject": {
                    "kind": kind,
                    "namespace": namespace,
                    "name": name,
                    "apiVersion": "v1",
                },
                "metric": {"name": metric},
                "timestamp": _time(at),
                "value": quantity(amount),
            }
            for name, amount, at in found
        ],
    }


def external_resources(metrics: Collection[str]) -> Body:
    return _resources(EXTERNAL, "ExternalMetricValueList", sorted(metrics))


def custom_resources(metrics: Collection[str]) -> Body:
    names = [f"{kind}/{metric}" for metric in sorted(metrics) for kind in ("pods", "services")]
    return _resources(CUSTOM, "MetricValueList", names)


def _resources(group_version: str, kind: str, names: Iterable[str]) -> Body:
    return {
        "kind": "APIResourceList",
        "apiVersion": "v1",
        "groupVersion": group_version,
        "resources": [
            {"name": name, "singularName": "", "namespaced": True, "kind": kind, "verbs": ["get"]}
            for name in names
        ],
    }


def status(code: int, reason: str, message: str) -> Body:
    """How an API server says no."""
    return {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure",
        "message": message,
        "reason": reason,
        "code": code,
    }
