"""Istio between services: only mTLS, only who was declared, and what it must not do twice.

Istio tries a failed request again twice by default. Here clients and gateway do that, with a
budget, so the mesh does not. Splits, mirrors and faults are the gateway's own while it stands in
front of the services; `[deploy] traffic = "mesh"` hands those of its routes to the mesh.
"""

import math
from collections.abc import Iterator, Sequence
from typing import Any

from seawall.deploy.matching import headers as wanted
from seawall.deploy.naming import VERSION, Object, labels, meta, project_labels, selector
from seawall.deploy.workload import ADMIN_PORT, PORT, Workload
from seawall.errors import Misconfigured
from seawall.spec.gateway import RouteSpec
from seawall.spec.project import Spec
from seawall.spec.traffic import ArmSpec, FaultsSpec, WhenSpec
from seawall.spec.upstreams import OutliersSpec, UpstreamsSpec
from seawall.topology import parse_version

# Where a pod's proxy gets its configuration and certificates.
CONTROL_PORT = 15012

# To one service from one client proxy. Istio's own bounds are 2^32 - 1, which is none.
CONNECTIONS, PENDING = 1024, 1024


def strict(spec: Spec) -> Object:
    """No plaintext inside the namespace."""
    return {
        "apiVersion": "security.istio.io/v1",
        "kind": "PeerAuthentication",
        "metadata": meta("default", project_labels(spec.project.name)),
        "spec": {"mtls": {"mode": "STRICT"}},
    }


def asked_from_outside(workload: Workload, project: str) -> Object:
    """Also plaintext, on one port: neither the API server nor KEDA need be in the mesh."""
    return {
        "apiVersion": "security.istio.io/v1",
        "kind": "PeerAuthentication",
        "metadata": meta(workload.name, labels(workload, project)),
        "spec": {
            "selector": {"matchLabels": selector(workload.name, project)},
            "mtls": {"mode": "STRICT"},
            "portLevelMtls": {str(PORT): {"mode": "PERMISSIVE"}},
        },
    }


def authorization(workload: Workload, project: str, namespace: str, monitoring: str) -> Object:
    """Who may ask, by the identity that mTLS proves; everybody else gets 403."""
    rules: list[dict[str, Any]] = []
    if workload.is_gateway or workload.is_adapter:
        rules.append({"to": [{"operation": {"ports": [str(PORT)]}}]})
    if workload.callers:
        identities = [f"cluster.local/ns/{namespace}/sa/{caller}" for caller in workload.callers]
        port = ADMIN_PORT if workload.is_gateway else PORT
        rules.append(
            {
                "from": [{"source": {"principals": identities}}],
                "to": [{"operation": {"ports": [str(port)]}}],
            }
        )
    if workload.metrics_port is not None and monitoring:
        operation = {"ports": [str(workload.metrics_port)], "paths": ["/metrics"]}
        rules.append(
            {
                "from": [{"source": {"namespaces": [monitoring]}}],
                "to": [{"operation": operation}],
            }
        )
    spec: dict[str, Any] = {
        "selector": {"matchLabels": selector(workload.name, project)},
        "action": "ALLOW",
    }
    if rules:  # ALLOW without rules allows nothing
        spec["rules"] = rules
    return {
        "apiVersion": "security.istio.io/v1",
        "kind": "AuthorizationPolicy",
        "metadata": meta(workload.name, labels(workload, project)),
        "spec": spec,
    }


def destination(workload: Workload, spec: Spec) -> Object:
    """Outliers and connections as `[gateway.upstreams]` has them; subsets by version."""
    upstreams = spec.gateway.upstreams
    said = upstreams.get(workload.name, upstreams.get("*", UpstreamsSpec()))
    outliers = said.outliers or OutliersSpec()
    rule: dict[str, Any] = {
        "host": workload.name,
        "trafficPolicy": {
            "connectionPool": {
                "tcp": {"maxConnections": said.max_connections or CONNECTIONS},
                "http": {
                    "http1MaxPendingRequests": PENDING,
                    "http2MaxRequests": said.max_requests or CONNECTIONS,
                },
            },
            "outlierDetection": {
                "consecutive5xxErrors": outliers.consecutive_failures,
                "interval": "10s",
                "baseEjectionTime": _seconds(outliers.eject_for),
                "maxEjectionPercent": round(outliers.max_ejected * 100),
            },
        },
    }
    subsets = sorted({workload.version, *_versions(workload, spec)}, key=parse_version)
    if len(subsets) > 1:
        rule["subsets"] = [
            {"name": subset(version), "labels": {VERSION: version}} for version in subsets
        ]
    return {
        "apiVersion": "networking.istio.io/v1",
        "kind": "DestinationRule",
        "metadata": meta(workload.name, labels(workload, spec.project.name)),
        "spec": rule,
    }


def subset(version: str) -> str:
    return "v" + version.replace(".", "-").replace("+", "-")


def _arms(workload: Workload, spec: Spec) -> Iterator[tuple[RouteSpec, Sequence[ArmSpec]]]:
    """The routes that split this service's requests by version."""
    if spec.deploy.traffic != "mesh":
        return
    for route in spec.gateway.routes:
        said = route.split.arms if route.split is not None else []
        if said and all(arm.service == workload.name for arm in said):
            yield route, said


def _versions(workload: Workload, spec: Spec) -> Iterator[str]:
    for _, each in _arms(workload, spec):
        yield from (exact(arm.version, workload) for arm in each)


def exact(version: str, workload: Workload) -> str:
    """A mesh knows versions by a label that is equal, not by ranges."""
    if version == "*":
        return workload.version
    try:
        parse_version(version)
    except Misconfigured:
        raise Misconfigured(
            f"the mesh splits {workload.name} by exact versions, not by {version!r}",
            fix='version = "1.4.2" in the arms of the split, or [deploy] traffic = "gateway"',
        ) from None
    return version


def virtual_service(workload: Workload, spec: Spec) -> Object:
    """Retries off; and the splits, mirrors and faults of routes to it, if the mesh does them."""
    rules: list[dict[str, Any]] = []
    for route, each in _arms(workload, spec):
        rules.extend(_split(route, each, workload))
    if spec.deploy.traffic == "mesh":
        for route in spec.gateway.routes:
            if route.service == workload.name and (route.mirror or route.faults):
                rules.extend(_disturbed(route, workload))
    rules.append({"route": [{"destination": {"host": workload.name}}], "retries": {"attempts": 0}})
    return {
        "apiVersion": "networking.istio.io/v1",
        "kind": "VirtualService",
        "metadata": meta(workload.name, labels(workload, spec.project.name)),
        "spec": {"hosts": [workload.name], "http": rules},
    }


def _split(
    route: RouteSpec, arms: Sequence[ArmSpec], workload: Workload
) -> Iterator[dict[str, Any]]:
    """What is matched first, as the gateway does it; then the rest by weight."""
    for arm in arms:
        if arm.match.headers or arm.match.cookies:
            to = {"destination": _subset_of(arm, workload)}
            yield {"match": [_match(route, arm.match)], "route": [to], "retries": {"attempts": 0}}
    weighed = [arm for arm in arms if arm.weight]
    whole = sum(arm.weight for arm in weighed)
    if not weighed:
        return
    shares = [round(arm.weight * 100 / whole) for arm in weighed[:-1]]
    shares.append(100 - sum(shares))
    yield {
        "match": [_match(route, WhenSpec())],
        "route": [
            {"destination": _subset_of(arm, workload), "weight": share}
            for arm, share in zip(weighed, shares, strict=True)
        ],
        **_more(route),
        "retries": {"attempts": 0},
    }


def _disturbed(route: RouteSpec, workload: Workload) -> Iterator[dict[str, Any]]:
    when = WhenSpec() if route.faults is None else route.faults.match
    yield {
        "match": [_match(route, when)],
        "route": [{"destination": {"host": workload.name}}],
        **_more(route),
        "retries": {"attempts": 0},
    }


def _more(route: RouteSpec) -> dict[str, Any]:
    made: dict[str, Any] = {}
    if route.mirror is not None:
        made["mirror"] = {"host": route.mirror.service}
        made["mirrorPercentage"] = {"value": route.mirror.percent}
    if route.faults is not None:
        made["fault"] = _fault(route.faults)
    return made


def _fault(faults: FaultsSpec) -> dict[str, Any]:
    made: dict[str, Any] = {}
    if faults.delay is not None:
        made["delay"] = {
            "fixedDelay": _seconds(faults.delay.seconds),
            "percentage": {"value": faults.delay.percent},
        }
    if faults.abort is not None:
        made["abort"] = {
            "httpStatus": faults.abort.status,
            "percentage": {"value": faults.abort.percent},
        }
    return made


def _subset_of(arm: ArmSpec, workload: Workload) -> dict[str, Any]:
    return {"host": workload.name, "subset": subset(exact(arm.version, workload))}


def _match(route: RouteSpec, when: WhenSpec) -> dict[str, Any]:
    how = {"prefix": "prefix", "exact": "exact", "regex": "regex"}[route.path_type]
    match: dict[str, Any] = {"uri": {how: route.path}}
    headers: dict[str, Any] = {
        each.name: {"regex" if each.is_pattern else "exact": each.value} for each in wanted(when)
    }
    if headers:
        match["headers"] = headers
    return match


def _seconds(seconds: float) -> str:
    return f"{math.ceil(seconds * 1000)}ms" if seconds % 1 else f"{int(seconds)}s"
