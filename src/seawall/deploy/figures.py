"""A figure of `[[services.X.scale]]` as an autoscaler of a cluster has it: by what name, in what
unit, and asked where.

The cluster itself knows CPU and memory, brokers know their queues, and everything else is known to
Seawall's metrics adapter alone.
"""

from collections.abc import Mapping, Sequence

from seawall.deploy.naming import namespace_of
from seawall.deploy.queues import source as of_queue
from seawall.deploy.scalers import Source
from seawall.deploy.workload import ADAPTER, Workload
from seawall.errors import Misconfigured
from seawall.messaging.base import Subscription
from seawall.scaling.hpa import Kind, Metric
from seawall.spec.project import Spec
from seawall.spec.scaling import ScaleSpec

# What the cluster measures by itself, in units of its own: thousandths of a core for one per cent,
# bytes for a megabyte.
OF_THE_CLUSTER: Mapping[str, int] = {"cpu": 10, "memory": 1_000_000}
_SUFFIX = {"cpu": "m", "memory": ""}

# For one of an external metric's unit: Kubernetes counts in thousandths.
_THOUSAND = 1000


def metric(each: ScaleSpec) -> Metric:
    """For a HorizontalPodAutoscaler: so much of it for each replica."""
    if each.metric in OF_THE_CLUSTER:
        thousandths = each.target * OF_THE_CLUSTER[each.metric]
        if each.metric == "memory":
            thousandths *= _THOUSAND
        return Metric(each.metric, Kind.RESOURCE, max(1, round(thousandths)))
    return Metric(each.metric, Kind.AVERAGE, max(1, round(each.target * _THOUSAND)))


def source(each: ScaleSpec, workload: Workload, spec: Spec) -> Source:
    """For KEDA: whom it asks for the figure."""
    if each.metric in OF_THE_CLUSTER:
        return Source(
            type=each.metric,
            target="value",
            per=OF_THE_CLUSTER[each.metric],
            suffix=_SUFFIX[each.metric],
        )
    return _broker(each, workload, spec) or _adapter(each, workload, spec)


def target(each: ScaleSpec, of: Source) -> float:
    """As much of it as that source can be told: some count in whole numbers only."""
    if of.type == ADAPTER_TYPE:
        return each.target
    return max(1, round(each.target * of.per)) / of.per


ADAPTER_TYPE = "metrics-api"


def asks_adapter(of: Source) -> bool:
    return of.type == ADAPTER_TYPE


def path(service: str, figure: str) -> str:
    """Where the metrics adapter answers KEDA."""
    return f"/keda/{service}/{figure}"


def _adapter(each: ScaleSpec, workload: Workload, spec: Spec) -> Source:
    server = f"http://{ADAPTER}.{namespace_of(spec)}.svc"
    return Source(
        type=ADAPTER_TYPE,
        target="targetValue",
        activation="activationTargetValue",
        metadata={"url": server + path(workload.name, each.metric), "valueLocation": "value"},
    )


def _broker(each: ScaleSpec, workload: Workload, spec: Spec) -> Source | None:
    """The broker's own scaler, where the figure is what waits for a single group: of several the
    sum is meant, and KEDA would take the largest."""
    groups = consumed(workload, each.topic)
    if each.metric != "queue" or len(groups) != 1:
        return None
    try:
        return of_queue(groups[0], spec.messages.url, messages_secret(workload))
    except Misconfigured:  # KEDA does not know how to ask there; Seawall does
        return None


def consumed(workload: Workload, topic: str | None) -> Sequence[Subscription]:
    groups = [handling.subscription for handling in workload.declared.handlings]
    return [group for group in groups if topic in (None, group.topic)]


def messages_secret(workload: Workload) -> tuple[str, str] | None:
    """Where the broker's address is kept, if it may not be shown."""
    kept = ((s.secret, s.key) for s in workload.secrets if s.variable == "SEAWALL_MESSAGES__URL")
    return next(kept, None)
