"""Which autoscaler a workload has: one, or none, never two on one target.

    replicas fixed                                none
    no `scale`                                    by CPU; from zero, or where it says so, KEDA by
                                                  what waits for its handlers
    `scale` by cpu and memory                     a HorizontalPodAutoscaler
    `scale` by anything else                      as `[deploy] metrics` says: KEDA, or a
                                                  HorizontalPodAutoscaler that asks the adapter
    policy "keda", scaler "keda", min = 0         KEDA

Of a policy that is none of Kubernetes' its pace is kept: `behavior` says how fast, and the window.
"""

from collections.abc import Sequence
from dataclasses import replace
from enum import StrEnum

from seawall.deploy import figures
from seawall.deploy.naming import Object
from seawall.deploy.queues import source
from seawall.deploy.scalers import Source, horizontal, scaled
from seawall.deploy.target import Target
from seawall.deploy.workload import Workload
from seawall.errors import Misconfigured
from seawall.scaling.controller import WINDOW
from seawall.scaling.hpa import Hpa, Kind, Metric
from seawall.scaling.hpa_behavior import LONGEST_WINDOW, Behavior, Policy, Rules, Unit
from seawall.scaling.keda import Keda, Trigger
from seawall.spec.project import Spec
from seawall.spec.scaling import ScaleSpec

# How often the cluster looks: a policy for such a period is one for each look.
_LOOK = 15.0  # seconds


class Scaler(StrEnum):
    HPA = "hpa"
    KEDA = "keda"


def chosen(workload: Workload, spec: Spec) -> Scaler | None:
    """Whose it is; None where the number of replicas is fixed."""
    low, high = workload.replicas
    if low == high:
        return None
    if low == 0 or workload.size.scaler == "keda" or _policy(workload.scale) == "keda":
        return Scaler.KEDA
    if spec.deploy.metrics == "adapter" or not _beyond_the_cluster(workload.scale):
        return Scaler.HPA
    return Scaler.KEDA


def scaler(workload: Workload, spec: Spec, target: Target) -> list[Object]:
    """Its HorizontalPodAutoscaler, or its ScaledObject with what that needs. Raises
    `Misconfigured`."""
    project = spec.project.name
    match chosen(workload, spec):
        case None:
            return []
        case Scaler.HPA:
            return [horizontal(hpa_kernel(workload), workload, project, target)]
        case Scaler.KEDA:
            kernel, sources = keda_kernel(workload, spec)
            return scaled(kernel, sources, workload, project)


def needs_adapter(workload: Workload, spec: Spec) -> bool:
    """Whether one of its figures is Seawall's alone to tell."""
    match chosen(workload, spec):
        case None:
            return False
        case Scaler.HPA:
            return _beyond_the_cluster(workload.scale)
        case Scaler.KEDA:
            return any(map(figures.asks_adapter, keda_kernel(workload, spec)[1]))


def hpa_kernel(workload: Workload) -> Hpa:
    low, high = workload.replicas
    if not workload.scale:
        metric = Metric("cpu", Kind.UTILIZATION, workload.size.cpu_target)
        return Hpa((metric,), maximum=high, minimum=low)
    metrics = tuple(figures.metric(each) for each in workload.scale)
    return Hpa(metrics, maximum=high, minimum=low, behavior=pace(workload.scale, high))


def keda_kernel(workload: Workload, spec: Spec) -> tuple[Keda, Sequence[Source]]:
    """The kernel, and where each of its triggers is read. Raises `Misconfigured`."""
    if not workload.scale:
        return _by_backlog(workload, spec)
    low, high = workload.replicas
    sources = [figures.source(each, workload, spec) for each in workload.scale]
    triggers = tuple(
        Trigger(each.metric, figures.target(each, source))
        for each, source in zip(workload.scale, sources, strict=True)
    )
    kernel = Keda(
        triggers=triggers, minimum=low, maximum=high, cooldown=_window(workload.scale) or WINDOW
    )
    if _policy(workload.scale) != "keda":
        kernel = replace(kernel, behavior=pace(workload.scale, high))
    return kernel, sources


def _by_backlog(workload: Workload, spec: Spec) -> tuple[Keda, Sequence[Source]]:
    groups = figures.consumed(workload, None)
    if not groups:
        raise Misconfigured(
            f"{workload.name} handles no messages, so no backlog tells how many replicas it needs",
            fix=f'[services.{workload.name}] replicas from 1, and scaler = "hpa"',
        )
    triggers = tuple(
        Trigger(f"{group.topic}-{group.group}".replace(".", "-"), workload.size.backlog)
        for group in groups
    )
    low, high = workload.replicas
    secret = figures.messages_secret(workload)
    sources = [source(group, spec.messages.url, secret) for group in groups]
    return Keda(triggers=triggers, minimum=low, maximum=high), sources


def pace(scale: Sequence[ScaleSpec], most: int) -> Behavior:
    """How fast the declared policy lets replicas come and go, as far as Kubernetes can."""
    usual, window = Behavior(), _window(scale)
    up = Rules((Policy(Unit.PODS, most, _LOOK),))  # at the first look, as many as are needed
    match _policy(scale):
        case "surge":  # a tenth of them leave at once
            down = Rules((Policy(Unit.PERCENT, 10, 30.0),), window=WINDOW)
        case "kpa":  # no more than half of them, and it looks back less far
            down = Rules((Policy(Unit.PERCENT, 50, _LOOK),), window=60.0)
        case _:
            up, down = usual.up, usual.down
    if window is not None:
        down = replace(down, window=min(window, LONGEST_WINDOW))
    return Behavior(up=up, down=down)


def _policy(scale: Sequence[ScaleSpec]) -> str | None:
    return scale[0].policy if scale else None


def _window(scale: Sequence[ScaleSpec]) -> float | None:
    return max((each.window for each in scale if each.window is not None), default=None)


def _beyond_the_cluster(scale: Sequence[ScaleSpec]) -> bool:
    return any(each.metric not in figures.OF_THE_CLUSTER for each in scale)
