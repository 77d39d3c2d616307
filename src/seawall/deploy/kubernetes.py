"""All objects of a project for one cluster, in files by what they belong to. Pure."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

from seawall.deploy import identities, mesh, network, splits
from seawall.deploy.adapter import api_service, with_adapter
from seawall.deploy.declared import Declarations
from seawall.deploy.edge import edge
from seawall.deploy.naming import (
    NAME,
    Object,
    labels,
    meta,
    namespace_of,
    project_labels,
    selector,
)
from seawall.deploy.pods import deployment
from seawall.deploy.scalers import disruption
from seawall.deploy.scaling import scaler
from seawall.deploy.target import Ingress, Mtls, Target
from seawall.deploy.workload import ADAPTER, Workload, shared_environment, workloads
from seawall.spec.project import Spec

# File name without its folder: the objects in it.
Files = Mapping[str, Sequence[Object]]


def objects(spec: Spec, declared: Declarations, target: Target) -> Files:
    """Every object, ready to be applied in the order of the files. The same spec gives the same
    text. Raises `Misconfigured`."""
    project = spec.project.name
    all_of_them = with_adapter(workloads(spec, declared), spec)
    if target.mtls is Mtls.CERT_MANAGER:
        all_of_them = identities.identified(all_of_them)
    shared = shared_environment(spec)
    common = [_configuration(project, shared), *network.registry_access(all_of_them, project)]
    if target.ingress is Ingress.ISTIO:
        common.append(mesh.strict(spec))
    if target.mtls is Mtls.CERT_MANAGER:
        common += identities.authority(spec)
    files: dict[str, list[Object]] = {
        "project.yaml": [_namespace(spec, target), *_placed(common, spec)]
    }
    digest = hashlib.sha256(json.dumps(shared, sort_keys=True).encode()).hexdigest()[:16]
    for workload in all_of_them:
        files[f"{workload.name}.yaml"] = _placed(_of(workload, spec, target, digest), spec)
    if all_of_them[-1].speaks_tls:
        files[f"{ADAPTER}.yaml"] = [*files[f"{ADAPTER}.yaml"], api_service(spec)]
    files["edge.yaml"] = _placed(edge(spec, target), spec)
    return files


def _of(workload: Workload, spec: Spec, target: Target, digest: str) -> list[Object]:
    project, settings = spec.project.name, spec.deploy
    monitoring = settings.monitoring_namespace
    egress = tuple(settings.egress_ports)
    if target.ingress is Ingress.ISTIO:
        egress += (mesh.CONTROL_PORT,)
    made = [
        network.account(workload, project, settings.pull_secret),
        deployment(workload, project, target, configuration=digest),
        network.service(workload, project),
        *scaler(workload, spec, target),
        *disruption(workload, project, target),
        network.policy(
            workload,
            project,
            egress_ports=egress,
            monitoring=monitoring,
        ),
    ]
    if target.ingress is Ingress.GATEWAY_API:
        made += splits.of_workload(workload, spec)
    if workload.has_identity:
        made += identities.of_workload(workload, spec)
    if workload.is_gateway and workload.callers:
        made.append(network.replicas_of_gateway(workload, project))
    if monitoring and workload.metrics_port is not None:
        made.append(_monitor(workload, project))
    if target.ingress is Ingress.ISTIO:
        namespace = namespace_of(spec)
        made += [
            mesh.authorization(workload, project, namespace, monitoring),
            mesh.destination(workload, spec),
            mesh.virtual_service(workload, spec),
        ]
        if workload.is_adapter:
            made.append(mesh.asked_from_outside(workload, project))
    return made


def _placed(made: Sequence[Object], spec: Spec) -> list[Object]:
    """With their namespace."""
    place = {"namespace": namespace_of(spec)}
    return [
        {**each, "metadata": {"name": each["metadata"]["name"], **place, **each["metadata"]}}
        for each in made
    ]


def _namespace(spec: Spec, target: Target) -> Object:
    told = project_labels(spec.project.name)
    if target.ingress is Ingress.ISTIO:
        # Istio's init container sets up the network, which no enforced standard lets it do.
        told |= {"istio-injection": "enabled", "pod-security.kubernetes.io/warn": "restricted"}
    else:
        told["pod-security.kubernetes.io/enforce"] = "restricted"
    return {
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": meta(namespace_of(spec), told),
    }


def _configuration(project: str, shared: Mapping[str, str]) -> Object:
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": meta(f"{project}-environment", project_labels(project)),
        "data": dict(shared),
    }


def _monitor(workload: Workload, project: str) -> Object:
    """Prometheus' operator asks every replica, not the Service."""
    port = "admin" if workload.is_gateway else "http"
    endpoint: dict[str, Any] = {"port": port, "path": "/metrics", "interval": "15s"}
    return {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "ServiceMonitor",
        "metadata": meta(workload.name, labels(workload, project)),
        "spec": {
            "jobLabel": NAME,
            "selector": {"matchLabels": selector(workload.name, project)},
            "endpoints": [endpoint],
        },
    }
