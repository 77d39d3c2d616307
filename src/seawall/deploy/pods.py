"""A workload's Deployment: the pod, its probes, its stopping, and what it may do."""

import math
import re
from typing import Any

from seawall.deploy import identities
from seawall.deploy.naming import Object, labels, meta, selector
from seawall.deploy.target import Target
from seawall.deploy.waivers import waivers
from seawall.deploy.workload import IDENTITY, PORT, PROPAGATION, SecretRef, Workload
from seawall.spec.probes import ProbeSpec

# Where Secrets are mounted; one file a variable.
SECRETS = "/run/secrets/seawall"

# Nobody on the node has this number, and it is above those that distributions give out.
USER = 10_001

# Scratch space; a service that needs more says so by failing, and does not fill the node's disk.
SCRATCH = "64Mi"

# 0440, which Kubernetes wants in decimal: for our group, which is the pod's.
MODE = 288

START_EVERY, READY_EVERY, LIVE_EVERY = 2, 5, 10  # seconds

# A list of old ReplicaSets that people look at; ten, the default, is more than anybody does.
HISTORY = 5


def deployment(workload: Workload, project: str, target: Target, *, configuration: str) -> Object:
    """The Deployment; `configuration` is a digest of the shared ConfigMap, so that a change of
    it rolls out."""
    spec: dict[str, Any] = {}
    pod = _pod(workload, project, target)
    low, high = workload.replicas
    if low == high:  # else the autoscaler's business: applying would undo what it did
        spec["replicas"] = low
    spec |= {
        "revisionHistoryLimit": HISTORY,
        "selector": {"matchLabels": selector(workload.name, project)},
        "strategy": {
            "type": "RollingUpdate",
            "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0},
        },
        "template": {
            "metadata": {
                "annotations": {"seawall/configuration": configuration},
                "labels": labels(workload, project),
            },
            "spec": pod,
        },
    }
    metadata = meta(workload.name, labels(workload, project))
    if annotations := waivers(pod):
        metadata["annotations"] = annotations
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata, "spec": spec}


def _pod(workload: Workload, project: str, target: Target) -> dict[str, Any]:
    return {
        "serviceAccountName": workload.name,
        "automountServiceAccountToken": workload.asks_the_cluster,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": math.ceil(workload.grace),
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": USER,
            "runAsGroup": USER,
            "fsGroup": USER,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "topologySpreadConstraints": [
            _spread(key, workload, project, target)
            for key in ("topology.kubernetes.io/zone", "kubernetes.io/hostname")
        ],
        "containers": [_container(workload, project, target)],
        "volumes": _volumes(workload),
    }


def _spread(key: str, workload: Workload, project: str, target: Target) -> dict[str, Any]:
    constraint: dict[str, Any] = {
        "maxSkew": 1,
        "topologyKey": key,
        "whenUnsatisfiable": "ScheduleAnyway",
        "labelSelector": {"matchLabels": selector(workload.name, project)},
    }
    if target.since(27):  # only the replicas of one revision are spread among themselves
        constraint["matchLabelKeys"] = ["pod-template-hash"]
    return constraint


def _container(workload: Workload, project: str, target: Target) -> dict[str, Any]:
    size = workload.size
    container: dict[str, Any] = {
        "name": workload.name,
        "image": workload.image,
        "imagePullPolicy": "IfNotPresent",
        "command": list(workload.command),
        "workingDir": workload.folder,
        "ports": [
            {"name": name, "containerPort": port, "protocol": "TCP"}
            for name, port in workload.ports.items()
        ],
        "envFrom": [{"configMapRef": {"name": f"{project}-environment"}}],
        "env": _environment(workload),
        "resources": {
            "requests": {"cpu": cores(size.cpu), "memory": f"{size.memory}Mi"},
            "limits": {"cpu": cores(size.cpu_limit), "memory": f"{size.memory_limit}Mi"},
        },
        "startupProbe": _declared(workload.probes.startup, workload, workload.paths.started)
        or {
            **_probe(workload, workload.paths.started),
            "periodSeconds": START_EVERY,
            "timeoutSeconds": 2,
            "failureThreshold": max(1, math.ceil(workload.start_within / START_EVERY)),
        },
        "readinessProbe": _declared(workload.probes.readiness, workload, workload.paths.ready)
        or {
            **_probe(workload, workload.paths.ready),
            "periodSeconds": READY_EVERY,
            "timeoutSeconds": 2,
            "failureThreshold": 2,
        },
        "livenessProbe": _declared(workload.probes.liveness, workload, workload.paths.live)
        or {
            **_probe(workload, workload.paths.live),
            "periodSeconds": LIVE_EVERY,
            "timeoutSeconds": 5,
            "failureThreshold": 3,
        },
    }
    if not workload.drains_itself:
        container["lifecycle"] = {"preStop": _wait(target)}
    container |= {
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "readOnlyRootFilesystem": True,
        },
        "volumeMounts": _mounts(workload),
    }
    return container


def _probe(workload: Workload, path: str) -> dict[str, Any]:
    port = next(name for name, number in workload.ports.items() if number == workload.probe_port)
    # Where a certificate is asked for, the kubelet has none: a service asks itself, and of a
    # command nothing is known but that it listens.
    asks_certificate = workload.has_identity and workload.probe_port == PORT
    if asks_certificate and workload.drains_itself and path:
        return {"exec": {"command": ["python", "-m", "seawall.identity.probe", path]}}
    if not path or (asks_certificate and not workload.is_adapter):
        return {"tcpSocket": {"port": port}}
    asked: dict[str, Any] = {"path": path, "port": port}
    if workload.speaks_tls:
        asked["scheme"] = "HTTPS"
    return {"httpGet": asked}


def _declared(probe: ProbeSpec | None, workload: Workload, usual: str) -> dict[str, Any]:
    """`[services.NAME.probes]`, whose fields are those of Kubernetes; where it says only numbers,
    `usual` is asked. Nothing if nothing was declared."""
    if probe is None:
        return {}
    asked = _probe(workload, probe.path or ("" if probe.tcp else usual))
    if probe.exec is not None:
        asked = {"exec": {"command": list(probe.exec)}}
    return {
        **asked,
        "initialDelaySeconds": math.ceil(probe.initial_delay),
        "periodSeconds": math.ceil(probe.period),
        "timeoutSeconds": math.ceil(probe.timeout),
        "successThreshold": probe.success_threshold,
        "failureThreshold": probe.failure_threshold,
    }


def _wait(target: Target) -> dict[str, Any]:
    """Go on answering until callers have heard, for a program that stops as soon as it is told."""
    if target.since(30):
        return {"sleep": {"seconds": math.ceil(PROPAGATION)}}
    return {"exec": {"command": ["sleep", str(math.ceil(PROPAGATION))]}}


def cores(number: float) -> str:
    """A quantity of CPU."""
    thousandths = round(number * 1000)
    return str(thousandths // 1000) if thousandths % 1000 == 0 else f"{thousandths}m"


# environment


def in_file(workload: Workload, secret: SecretRef) -> bool:
    """Whether it is read from a file, where neither `kubectl describe` nor a child sees it."""
    return workload.reads_files and secret.variable.startswith("SEAWALL_")


def _environment(workload: Workload) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = [
        {"name": name, "value": value} for name, value in workload.environment.items()
    ]
    pod = {"fieldRef": {"fieldPath": "metadata.name"}}
    found.append({"name": "SEAWALL_INSTANCE_ID", "valueFrom": pod})
    if workload.has_identity:
        found.append({"name": "SEAWALL_TLS", "value": IDENTITY})
    for secret in workload.secrets:
        if in_file(workload, secret):
            path = f"{SECRETS}/{secret.variable}"
            found.append({"name": f"{secret.variable}_FILE", "value": path})
        else:
            reference = {"secretKeyRef": {"name": secret.secret, "key": secret.key}}
            found.append({"name": secret.variable, "valueFrom": reference})
    return sorted(found, key=lambda entry: str(entry["name"]))


def _mounts(workload: Workload) -> list[dict[str, Any]]:
    mounts: list[dict[str, Any]] = [{"name": "scratch", "mountPath": "/tmp"}]
    if any(in_file(workload, secret) for secret in workload.secrets):
        mounts.append({"name": "secrets", "mountPath": SECRETS, "readOnly": True})
    if workload.has_identity:
        mounts.append(identities.mount())
    given = sorted(workload.size.mounts)
    mounts += ({"name": _volume(path), "mountPath": path, "readOnly": True} for path in given)
    mounts += ({"name": _volume(path), "mountPath": path} for path in _writable(workload))
    return mounts


def _writable(workload: Workload) -> list[str]:
    return sorted({*workload.size.writable} - {"/tmp"})


def _volume(path: str) -> str:
    """A name that Kubernetes takes, its own for each path."""
    return re.sub(r"[^a-z0-9]", "-", path.strip("/").lower())


def _volumes(workload: Workload) -> list[dict[str, Any]]:
    volumes: list[dict[str, Any]] = [{"name": "scratch", "emptyDir": {"sizeLimit": SCRATCH}}]
    by_secret: dict[str, list[SecretRef]] = {}
    for secret in workload.secrets:
        if in_file(workload, secret):
            by_secret.setdefault(secret.secret, []).append(secret)
    if by_secret:
        sources = [
            {"secret": {"name": name, "items": [{"key": s.key, "path": s.variable} for s in refs]}}
            for name, refs in sorted(by_secret.items())
        ]
        volumes.append({"name": "secrets", "projected": {"defaultMode": MODE, "sources": sources}})
    if workload.has_identity:
        volumes.append(identities.volume(workload, MODE))
    for path, name in sorted(workload.size.mounts.items()):
        files = {"secretName": name, "defaultMode": MODE}
        volumes.append({"name": _volume(path), "secret": files})
    empty = {"emptyDir": {"sizeLimit": SCRATCH}}
    volumes += ({"name": _volume(path), **empty} for path in _writable(workload))
    return volumes
