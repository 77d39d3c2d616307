"""The metrics adapter on a cluster: there where an autoscaler asks for what only Seawall knows."""

from collections.abc import Sequence
from dataclasses import replace

from seawall.deploy.naming import Object, namespace_of, project_labels
from seawall.deploy.scaling import Scaler, chosen, needs_adapter
from seawall.deploy.workload import ADAPTER, Workload, adapter
from seawall.errors import Misconfigured
from seawall.spec.project import Spec

_GROUP, _VERSION = "external.metrics.k8s.io", "v1beta1"

# As the projects that serve this group have it; there is nobody to be preferred to.
_PRIORITY = 100


def with_adapter(workloads: Sequence[Workload], spec: Spec) -> tuple[Workload, ...]:
    """And the adapter, if there is anything to ask it; with whom it asks. Raises
    `Misconfigured`."""
    asked = tuple(each.name for each in workloads if needs_adapter(each, spec))
    if not asked:
        return tuple(workloads)
    is_api = is_an_api(workloads, spec)
    by_keda = [each.name for each in workloads if chosen(each, spec) is Scaler.KEDA]
    if is_api and by_keda:
        raise Misconfigured(
            f"{', '.join(by_keda)} would be scaled by KEDA, and it and Seawall's adapter would both"
            " be the cluster's API of external metrics, of which there is one",
            fix='[deploy] metrics = "keda"; or replicas from 1, and neither scaler nor policy'
            ' "keda"',
        )
    made = adapter(spec, asked, tls=is_api)
    callees = frozenset(made.callees)
    known = [
        replace(each, callers=tuple(sorted({*each.callers, ADAPTER})))
        if each.name in callees
        else each
        for each in workloads
    ]
    return (*known, made)


def is_an_api(workloads: Sequence[Workload], spec: Spec) -> bool:
    """Whether it is the cluster's API of external metrics, which an API server asks over TLS."""
    return any(chosen(each, spec) is Scaler.HPA and needs_adapter(each, spec) for each in workloads)


def api_service(spec: Spec) -> Object:
    """Makes the adapter the cluster's API of external metrics. It is no namespace's. Its figures
    are no secret, and its certificate is its own: what is asked is how many are waiting."""
    return {
        "apiVersion": "apiregistration.k8s.io/v1",
        "kind": "APIService",
        "metadata": {
            "name": f"{_VERSION}.{_GROUP}",
            "labels": project_labels(spec.project.name),
        },
        "spec": {
            "group": _GROUP,
            "version": _VERSION,
            "groupPriorityMinimum": _PRIORITY,
            "versionPriority": _PRIORITY,
            "insecureSkipTLSVerify": True,
            "service": {"name": ADAPTER, "namespace": namespace_of(spec), "port": 443},
        },
    }
