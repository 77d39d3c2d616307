"""Autoscalers as objects, and back: a kernel of `seawall.scaling` and its object say the same.

`horizontal` and `hpa` are each other's inverse, and so are `scaled` and `keda`, for all that the
objects can say. What belongs to the whole cluster (readiness, the window without `behavior`) is
in no object.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from seawall.deploy.naming import Object, labels, meta
from seawall.deploy.target import Target
from seawall.deploy.workload import Workload
from seawall.scaling.hpa import Hpa, Kind, Metric
from seawall.scaling.hpa_behavior import Behavior, Policy, Rules, Select, Unit
from seawall.scaling.keda import Fallback, FallbackBehavior, Keda, Trigger

# How often KEDA looks at a queue. Thirty seconds, its default, is long for who waits.
POLL = 10  # seconds

# The label by which a figure's service is asked for.
SERVICE = "service"

_PAUSES = {
    "autoscaling.keda.sh/paused": "paused",
    "autoscaling.keda.sh/paused-scale-in": "paused_in",
    "autoscaling.keda.sh/paused-scale-out": "paused_out",
    "autoscaling.keda.sh/force-activation": "forced",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Where KEDA reads a trigger's value: its scaler's type, and what that is told.

    `target` and `activation` are the keys under which the scaler wants the two numbers; `secrets`
    are its parameters that come from a Secret, each as (secret, key). It counts `per` of its own
    for one of the trigger's unit, and writes `suffix` behind the number. A scaler that is not to
    wake anybody has no `activation`.
    """

    type: str
    target: str
    activation: str = ""
    per: int = 1
    suffix: str = ""
    metadata: Mapping[str, str] = field(default_factory=dict)
    secrets: Mapping[str, tuple[str, str]] = field(default_factory=dict)


def _target_of(workload: Workload) -> dict[str, str]:
    return {"apiVersion": "apps/v1", "kind": "Deployment", "name": workload.name}


# HorizontalPodAutoscaler


def horizontal(kernel: Hpa, workload: Workload, project: str, target: Target) -> Object:
    """The HorizontalPodAutoscaler that does what `kernel` does."""
    spec: dict[str, Any] = {
        "scaleTargetRef": _target_of(workload),
        "minReplicas": kernel.minimum,
        "maxReplicas": kernel.maximum,
        "metrics": [_metric(metric, workload.name) for metric in kernel.metrics],
    }
    if kernel.behavior is not None:
        spec["behavior"] = _behavior(kernel.behavior)
    return {
        "apiVersion": "autoscaling/v2" if target.since(23) else "autoscaling/v2beta2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": meta(workload.name, labels(workload, project)),
        "spec": spec,
    }


def hpa(made: Mapping[str, Any]) -> Hpa:
    """The kernel that does what the object says; tolerances are the cluster's."""
    spec = made["spec"]
    behavior = spec.get("behavior")
    return Hpa(
        tuple(_metric_of(metric) for metric in spec["metrics"]),
        maximum=spec["maxReplicas"],
        minimum=spec["minReplicas"],
        behavior=None if behavior is None else _behavior_of(behavior),
    )


def quantity(thousandths: int) -> str:
    whole, rest = divmod(thousandths, 1000)
    return f"{thousandths}m" if rest else str(whole)


def _thousandths(text: str) -> int:
    return int(text[:-1]) if text.endswith("m") else int(text) * 1000


def _metric(metric: Metric, service: str) -> dict[str, Any]:
    name, amount = metric.name, quantity(metric.target)
    match metric.kind:
        case Kind.UTILIZATION:
            wanted: dict[str, Any] = {"type": "Utilization", "averageUtilization": metric.target}
            return {"type": "Resource", "resource": {"name": name, "target": wanted}}
        case Kind.RESOURCE:
            wanted = {"type": "AverageValue", "averageValue": amount}
            return {"type": "Resource", "resource": {"name": name, "target": wanted}}
        case Kind.PODS:
            wanted = {"type": "AverageValue", "averageValue": amount}
            return {"type": "Pods", "pods": {"metric": {"name": name}, "target": wanted}}
        case Kind.VALUE:
            wanted = {"type": "Value", "value": amount}
        case Kind.AVERAGE:
            wanted = {"type": "AverageValue", "averageValue": amount}
    which = {"name": name, "selector": {"matchLabels": {SERVICE: service}}}
    return {"type": "External", "external": {"metric": which, "target": wanted}}


def _metric_of(made: Mapping[str, Any]) -> Metric:
    if made["type"] == "Resource":
        name, wanted = made["resource"]["name"], made["resource"]["target"]
        if wanted["type"] == "Utilization":
            return Metric(name, Kind.UTILIZATION, wanted["averageUtilization"])
        return Metric(name, Kind.RESOURCE, _thousandths(wanted["averageValue"]))
    which = made["type"].lower()
    name, wanted = made[which]["metric"]["name"], made[which]["target"]
    if wanted["type"] == "Value":
        return Metric(name, Kind.VALUE, _thousandths(wanted["value"]))
    kind = Kind.PODS if which == "pods" else Kind.AVERAGE
    return Metric(name, kind, _thousandths(wanted["averageValue"]))


def _behavior(behavior: Behavior) -> dict[str, Any]:
    return {"scaleDown": _rules(behavior.down), "scaleUp": _rules(behavior.up)}


def _rules(rules: Rules) -> dict[str, Any]:
    return {
        "stabilizationWindowSeconds": math.ceil(rules.window),
        "selectPolicy": rules.select.value,
        "policies": [
            {"type": p.unit.value, "value": p.value, "periodSeconds": math.ceil(p.period)}
            for p in rules.policies
        ],
    }


def _behavior_of(made: Mapping[str, Any]) -> Behavior:
    return Behavior(up=_rules_of(made["scaleUp"]), down=_rules_of(made["scaleDown"]))


def _rules_of(made: Mapping[str, Any]) -> Rules:
    return Rules(
        tuple(
            Policy(Unit(p["type"]), p["value"], float(p["periodSeconds"])) for p in made["policies"]
        ),
        window=float(made["stabilizationWindowSeconds"]),
        select=Select(made["selectPolicy"]),
    )


# ScaledObject


def scaled(
    kernel: Keda, sources: Sequence[Source], workload: Workload, project: str
) -> list[Object]:
    """The ScaledObject that does what `kernel` does, `sources` in the order of its triggers; and
    the TriggerAuthentication that gives KEDA what is in Secrets."""
    spec: dict[str, Any] = {
        "scaleTargetRef": _target_of(workload),
        "pollingInterval": POLL,
        "minReplicaCount": kernel.minimum,
        "maxReplicaCount": kernel.maximum,
        "cooldownPeriod": math.ceil(kernel.cooldown),
        "initialCooldownPeriod": math.ceil(kernel.initial_cooldown),
    }
    if kernel.idle is not None:
        spec["idleReplicaCount"] = kernel.idle
    if kernel.fallback is not None:
        spec["fallback"] = {
            "failureThreshold": kernel.fallback.failures,
            "replicas": kernel.fallback.replicas,
            "behavior": kernel.fallback.behavior.value,
        }
    if kernel.behavior is not None:
        spec["advanced"] = {
            "horizontalPodAutoscalerConfig": {"behavior": _behavior(kernel.behavior)}
        }
    spec["triggers"] = [
        _trigger(trigger, source, workload)
        for trigger, source in zip(kernel.triggers, sources, strict=True)
    ]
    metadata = meta(workload.name, labels(workload, project))
    pauses = {key: "true" for key, name in _PAUSES.items() if getattr(kernel, name)}
    if pauses:
        metadata["annotations"] = pauses
    made = {
        "apiVersion": "keda.sh/v1alpha1",
        "kind": "ScaledObject",
        "metadata": metadata,
        "spec": spec,
    }
    return [*_authentication(sources, workload, project), made]


def _trigger(trigger: Trigger, source: Source, workload: Workload) -> dict[str, Any]:
    made: dict[str, Any] = {
        "type": source.type,
        "name": trigger.name,
        "metricType": "AverageValue",
        "metadata": {**source.metadata, source.target: _told(trigger.target, source)},
    }
    if source.activation:
        made["metadata"][source.activation] = _told(trigger.activation, source)
    if source.secrets:
        made["authenticationRef"] = {"name": workload.name}
    return made


def _told(amount: float, source: Source) -> str:
    """All of the number, and never as a power of ten."""
    counted = amount * source.per
    if source.per > 1:
        counted = round(counted)
    return f"{Decimal(str(counted)).normalize():f}{source.suffix}"


def _read(told: str, source: Source) -> float:
    return float(told.removesuffix(source.suffix)) / source.per


def _authentication(sources: Sequence[Source], workload: Workload, project: str) -> list[Object]:
    wanted = {name: place for source in sources for name, place in source.secrets.items()}
    if not wanted:
        return []
    references = [
        {"parameter": name, "name": secret, "key": key}
        for name, (secret, key) in sorted(wanted.items())
    ]
    return [
        {
            "apiVersion": "keda.sh/v1alpha1",
            "kind": "TriggerAuthentication",
            "metadata": meta(workload.name, labels(workload, project)),
            "spec": {"secretTargetRef": references},
        }
    ]


def keda(made: Mapping[str, Any], sources: Sequence[Source]) -> Keda:
    """The kernel that does what the ScaledObject says."""
    spec = made["spec"]
    fallback, advanced = spec.get("fallback"), spec.get("advanced")
    annotations = made["metadata"].get("annotations", {})
    return Keda(
        triggers=tuple(
            Trigger(
                each["name"],
                _read(each["metadata"][source.target], source),
                _read(each["metadata"].get(source.activation, "0"), source),
            )
            for each, source in zip(spec["triggers"], sources, strict=True)
        ),
        minimum=spec["minReplicaCount"],
        maximum=spec["maxReplicaCount"],
        idle=spec.get("idleReplicaCount"),
        cooldown=float(spec["cooldownPeriod"]),
        initial_cooldown=float(spec["initialCooldownPeriod"]),
        fallback=None
        if fallback is None
        else Fallback(
            fallback["replicas"],
            fallback["failureThreshold"],
            FallbackBehavior(fallback["behavior"]),
        ),
        behavior=None
        if advanced is None
        else _behavior_of(advanced["horizontalPodAutoscalerConfig"]["behavior"]),
        **{name: key in annotations for key, name in _PAUSES.items()},
    )


# PodDisruptionBudget


def disruption(workload: Workload, project: str, target: Target) -> list[Object]:
    """One replica at a time may be evicted; of a single one nothing is said, since a budget would
    keep its node from ever being emptied."""
    if workload.replicas[0] < 2:
        return []
    spec: dict[str, Any] = {"maxUnavailable": 1}
    if target.since(27):  # one that cannot get ready must not block the node either
        spec["unhealthyPodEvictionPolicy"] = "AlwaysAllow"
    from_labels = labels(workload, project)
    spec["selector"] = {
        "matchLabels": {
            key: from_labels[key] for key in ("app.kubernetes.io/name", "app.kubernetes.io/part-of")
        }
    }
    return [
        {
            "apiVersion": "policy/v1" if target.since(21) else "policy/v1beta1",
            "kind": "PodDisruptionBudget",
            "metadata": meta(workload.name, from_labels),
            "spec": spec,
        }
    ]
