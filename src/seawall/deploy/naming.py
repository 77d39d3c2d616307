"""Labels and names, the same on every object."""

from typing import Any

from seawall.deploy.workload import Workload
from seawall.spec.project import Spec

Object = dict[str, Any]

NAME = "app.kubernetes.io/name"
PART_OF = "app.kubernetes.io/part-of"
VERSION = "app.kubernetes.io/version"


def namespace_of(spec: Spec) -> str:
    return spec.deploy.namespace or spec.project.name


def selector(name: str, project: str) -> dict[str, str]:
    """What finds its pods. It cannot be changed afterwards, so a version is no part of it."""
    return {NAME: name, PART_OF: project}


def labels(workload: Workload, project: str) -> dict[str, str]:
    return {
        **selector(workload.name, project),
        "app.kubernetes.io/component": "gateway" if workload.is_gateway else "service",
        "app.kubernetes.io/managed-by": "seawall",
        VERSION: workload.version,
    }


def project_labels(project: str) -> dict[str, str]:
    return {PART_OF: project, "app.kubernetes.io/managed-by": "seawall"}


def meta(name: str, labels: dict[str, str]) -> dict[str, Any]:
    return {"name": name, "labels": labels}
