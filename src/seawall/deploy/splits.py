"""Splits of routes by the Gateway API between services: an HTTPRoute whose parent is a Service.

Where `[deploy] traffic = "mesh"` says so and a mesh implements the Gateway API (GAMMA), weights,
header and cookie matches and mirrors of routes become its; faults it has none. It knows Services
and no versions, so each version that an arm names gets a Service which finds the pods with that
label. A canary may also be a service of its own, which an arm names.
"""

from collections.abc import Iterator, Sequence
from typing import Any

from seawall.deploy.matching import Wanted, headers
from seawall.deploy.mesh import exact, subset
from seawall.deploy.naming import VERSION, Object, labels, meta, selector
from seawall.deploy.workload import Workload
from seawall.errors import Misconfigured
from seawall.spec.gateway import RouteSpec
from seawall.spec.project import Spec
from seawall.spec.traffic import ArmSpec, WhenSpec

_PATHS = {"prefix": "PathPrefix", "exact": "Exact", "regex": "RegularExpression"}

_PORT = 80


def of_workload(workload: Workload, spec: Spec) -> list[Object]:
    """Its HTTPRoute and a Service for each version, if a route splits or mirrors its requests.
    Raises `Misconfigured`."""
    rules = list(_rules(workload, spec))
    if not rules:
        return []
    rules.append({"backendRefs": [{"name": workload.name, "port": _PORT}]})
    route = {
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "HTTPRoute",
        "metadata": meta(workload.name, labels(workload, spec.project.name)),
        "spec": {
            "parentRefs": [{"group": "", "kind": "Service", "name": workload.name, "port": _PORT}],
            "rules": rules,
        },
    }
    found = {
        exact(arm.version, workload)
        for _, arms in _routes(workload, spec)
        for arm in arms
        if arm.version != "*"
    }
    return [route, *(_of_version(workload, spec, version) for version in sorted(found))]


def _routes(workload: Workload, spec: Spec) -> Iterator[tuple[RouteSpec, Sequence[ArmSpec]]]:
    """Those whose split begins with this service."""
    for route in spec.gateway.routes if spec.deploy.traffic == "mesh" else ():
        arms = route.split.arms if route.split is not None else []
        if arms and arms[0].service == workload.name:
            yield route, arms


def _rules(workload: Workload, spec: Spec) -> Iterator[dict[str, Any]]:
    for route, arms in _routes(workload, spec):
        yield from _split(route, arms, workload)
    if spec.deploy.traffic != "mesh":
        return
    for route in spec.gateway.routes:
        if route.service == workload.name and route.mirror:
            here = [{"name": workload.name, "port": _PORT}]
            yield {"matches": [_match(route, WhenSpec())], **_mirror(route), "backendRefs": here}


def _split(
    route: RouteSpec, arms: Sequence[ArmSpec], workload: Workload
) -> Iterator[dict[str, Any]]:
    """What is matched first, as the gateway does it; then the rest by weight."""
    for arm in arms:
        if arm.match.headers or arm.match.cookies:
            yield {"matches": [_match(route, arm.match)], "backendRefs": [_backend(arm, workload)]}
    weighed = [arm for arm in arms if arm.weight]
    if weighed:
        yield {
            "matches": [_match(route, WhenSpec())],
            **_mirror(route),
            "backendRefs": [{**_backend(arm, workload), "weight": arm.weight} for arm in weighed],
        }


def _backend(arm: ArmSpec, workload: Workload) -> dict[str, Any]:
    name = arm.service
    if arm.version != "*":
        if name != workload.name:
            raise Misconfigured(
                f"a split of {workload.name} names version {arm.version} of {name}, and the Gateway"
                " API knows Services only",
                fix="versions of one service, or several services without a version",
            )
        name = _name(workload, exact(arm.version, workload))
    return {"name": name, "port": _PORT}


def _name(workload: Workload, version: str) -> str:
    return f"{workload.name}-{subset(version)}"


def _of_version(workload: Workload, spec: Spec, version: str) -> Object:
    port = {"name": "http", "port": _PORT, "targetPort": "http", "appProtocol": "http"}
    found = {**selector(workload.name, spec.project.name), VERSION: version}
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": meta(_name(workload, version), labels(workload, spec.project.name)),
        "spec": {"selector": found, "ports": [port]},
    }


def _match(route: RouteSpec, when: WhenSpec) -> dict[str, Any]:
    match: dict[str, Any] = {"path": {"type": _PATHS[route.path_type], "value": route.path}}
    wanted = [_header(each) for each in headers(when)]
    return {**match, "headers": wanted} if wanted else match


def _header(wanted: Wanted) -> dict[str, Any]:
    kind = "RegularExpression" if wanted.is_pattern else "Exact"
    return {"type": kind, "name": wanted.name, "value": wanted.value}


def _mirror(route: RouteSpec) -> dict[str, Any]:
    if route.mirror is None:
        return {}
    mirror: dict[str, Any] = {"backendRef": {"name": route.mirror.service, "port": _PORT}}
    if route.mirror.percent < 100:
        mirror["percent"] = max(1, round(route.mirror.percent))
    return {"filters": [{"type": "RequestMirror", "requestMirror": mirror}]}
