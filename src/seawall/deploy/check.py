"""What schemas cannot see: whether the objects fit each other, and the code that runs in them.

Two families. `of_objects` looks at finished objects, so it finds mistakes of whoever wrote or
patched them, too. `of_timing` and its neighbours look at what was declared: times that must be
longer than others, tries that multiply, connections that add up.
"""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from seawall.deploy.naming import VERSION, Object


@dataclass(frozen=True, slots=True, order=True)
class Finding:
    """Something that will go wrong: where, what, why that matters, and what helps."""

    where: str
    rule: str
    what: str
    why: str
    fix: str


# What Kubernetes takes for the name of nearly everything: RFC 1123.
_NAME = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")

_UNITS = {"Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40, "k": 10**3, "M": 10**6, "G": 10**9}


def of_objects(objects: Sequence[Object]) -> list[Finding]:
    """All that does not fit, in a stable order."""
    found = [*names(objects), *selectors(objects), *ports(objects), *scalers(objects)]
    found += [*budgets(objects), *mesh_retries(objects)]
    for made in objects:
        if made["kind"] == "Deployment":
            found += [*resources(made), *volumes(made), *probes(made), *grace(made)]
    return sorted(found)


def _place(made: Mapping[str, Any]) -> str:
    return f"{made['kind']}/{made['metadata']['name']}"


def _of_kind(objects: Iterable[Object], *kinds: str) -> Iterator[Object]:
    return (made for made in objects if made["kind"] in kinds)


def names(objects: Sequence[Object]) -> Iterator[Finding]:
    counted = Counter(
        (_place(made), made["metadata"].get("namespace", ""), made["apiVersion"].partition("/")[0])
        for made in objects
    )
    for (place, _, _), times in counted.items():
        name = place.partition("/")[2]
        parts = name.split(".") if place.startswith("APIService/") else [name]
        if not all(map(_NAME.fullmatch, parts)):
            yield Finding(
                place,
                "name",
                f"{name!r} is no name that Kubernetes takes",
                "the API server refuses it",
                "small letters, digits and dashes, at most 63",
            )
        if times > 1:
            yield Finding(
                place,
                "name",
                f"{times} objects have this name",
                "the last one applied wins",
                "give each a name of its own",
            )


def _pods(objects: Sequence[Object]) -> Iterator[tuple[Object, Mapping[str, str]]]:
    for made in _of_kind(objects, "Deployment"):
        yield made, made["spec"]["template"]["metadata"]["labels"]


def _selects(wanted: Mapping[str, str], labels: Mapping[str, str]) -> bool:
    return wanted.items() <= labels.items()


def _selector(made: Object) -> Mapping[str, str]:
    spec = made["spec"]
    selector = spec.get("selector", spec.get("podSelector", {}))
    found: Mapping[str, str] = selector.get("matchLabels", selector)
    return found


def selectors(objects: Sequence[Object]) -> Iterator[Finding]:
    """Every selector finds the pods of one Deployment."""
    pods = list(_pods(objects))
    for made in _of_kind(objects, "Deployment", "Service", "PodDisruptionBudget", "NetworkPolicy"):
        wanted = _selector(made)
        if made["kind"] == "Service":  # of one version, which another release brings
            wanted = {name: value for name, value in wanted.items() if name != VERSION}
        found = [pod["metadata"]["name"] for pod, labels in pods if _selects(wanted, labels)]
        if not found:
            yield Finding(
                _place(made),
                "selector",
                f"no pod has the labels {dict(wanted)}",
                "it does nothing, and nobody is told",
                "make its selector equal to labels of the pod template",
            )
        elif len(found) > 1 and made["kind"] != "NetworkPolicy":
            yield Finding(
                _place(made),
                "selector",
                f"it selects the pods of {', '.join(found)}",
                "one of them gets what is meant for the other",
                "select by app.kubernetes.io/name and app.kubernetes.io/part-of",
            )


def _containers(made: Object) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = made["spec"]["template"]["spec"]["containers"]
    return found


def _open(made: Object) -> set[int | str]:
    ports = [port for each in _containers(made) for port in each.get("ports", [])]
    return {p["containerPort"] for p in ports} | {p["name"] for p in ports if "name" in p}


def ports(objects: Sequence[Object]) -> Iterator[Finding]:
    """Services lead to ports that containers open."""
    for made in _of_kind(objects, "Service"):
        for pod, labels in _pods(objects):
            if not _selects(_selector(made), labels):
                continue
            for port in made["spec"]["ports"]:
                to = port.get("targetPort", port["port"])
                if to not in _open(pod):
                    yield Finding(
                        _place(made),
                        "port",
                        f"targetPort {to!r} is no port of {_place(pod)}",
                        "every connection is refused",
                        f"one of {sorted(map(str, _open(pod)))}",
                    )


def probes(made: Object) -> Iterator[Finding]:
    for container in _containers(made):
        for kind in ("startupProbe", "readinessProbe", "livenessProbe"):
            probe = container.get(kind, {})
            asked = probe.get("httpGet", probe.get("tcpSocket"))
            if asked is not None and asked["port"] not in _open(made):
                yield Finding(
                    _place(made),
                    "probe port",
                    f"{kind} asks port {asked['port']!r}, which the container does not open",
                    "pods never get ready, or are killed while they work",
                    f"one of {sorted(map(str, _open(made)))}",
                )


def amount(quantity: str | float) -> float:
    """A quantity of Kubernetes as a number: "100m" is 0.1, "64Mi" is 67108864."""
    text = str(quantity)
    if text.endswith("m"):
        return float(text[:-1]) / 1000
    for unit, factor in _UNITS.items():
        if text.endswith(unit):
            return float(text[: -len(unit)]) * factor
    return float(text)


def resources(made: Object) -> Iterator[Finding]:
    for container in _containers(made):
        said = container.get("resources", {})
        for name, request in said.get("requests", {}).items():
            limit = said.get("limits", {}).get(name)
            if limit is not None and amount(request) > amount(limit):
                yield Finding(
                    _place(made),
                    "resources",
                    f"{name}: {request} is requested, and {limit} is the limit",
                    "the API server refuses the pod",
                    f"raise {name}_limit, or lower {name}",
                )


def volumes(made: Object) -> Iterator[Finding]:
    pod = made["spec"]["template"]["spec"]
    known = {volume["name"] for volume in pod.get("volumes", [])}
    mounted = {
        mount["name"] for each in _containers(made) for mount in each.get("volumeMounts", [])
    }
    for name in sorted(mounted - known):
        yield Finding(
            _place(made),
            "volume",
            f"a container mounts {name!r}, which is no volume of the pod",
            "the API server refuses the pod",
            "add it to spec.template.spec.volumes",
        )
    for name in sorted(known - mounted):
        yield Finding(
            _place(made),
            "volume",
            f"no container mounts the volume {name!r}",
            "a program looks for its files and does not find them",
            "mount it, or leave it out",
        )


def grace(made: Object) -> Iterator[Finding]:
    """The pod is not killed before it has waited for its callers and finished."""
    pod = made["spec"]["template"]["spec"]
    allowed = pod.get("terminationGracePeriodSeconds", 30)
    for container in _containers(made):
        needed = _pre_stop(container) + _said(container, "SEAWALL_DRAIN_SECONDS")
        if needed > allowed:
            yield Finding(
                _place(made),
                "grace",
                f"stopping takes up to {needed:g} s, and it is killed after {allowed} s",
                "requests under way are cut off at every release",
                f"terminationGracePeriodSeconds of at least {needed:g}, or a shorter drain",
            )


def _pre_stop(container: Mapping[str, Any]) -> float:
    hook = container.get("lifecycle", {}).get("preStop", {})
    if "sleep" in hook:
        return float(hook["sleep"]["seconds"])
    command = hook.get("exec", {}).get("command", [])
    return float(command[1]) if len(command) == 2 and command[0] == "sleep" else 0.0


def _said(container: Mapping[str, Any], variable: str) -> float:
    values = (e.get("value") for e in container.get("env", []) if e["name"] == variable)
    return float(next(values, None) or 0.0)


def scalers(objects: Sequence[Object]) -> Iterator[Finding]:
    """One scaler for a target, and no fixed number beside it."""
    scaling: dict[str, list[Object]] = {}
    for made in _of_kind(objects, "HorizontalPodAutoscaler", "ScaledObject"):
        scaling.setdefault(made["spec"]["scaleTargetRef"]["name"], []).append(made)
    deployments = {made["metadata"]["name"]: made for made in _of_kind(objects, "Deployment")}
    for target, each in scaling.items():
        if target not in deployments:
            yield Finding(
                _place(each[0]),
                "scaler",
                f"there is no Deployment {target!r}",
                "nothing is scaled",
                f"one of {sorted(deployments)}",
            )
            continue
        if len(each) > 1:
            yield Finding(
                f"Deployment/{target}",
                "scaler",
                f"{' and '.join(map(_place, each))} both scale it",
                "each undoes what the other did, for ever",
                "one autoscaler with both metrics",
            )
        if "replicas" in deployments[target]["spec"]:
            yield Finding(
                f"Deployment/{target}",
                "scaler",
                "it has a fixed number of replicas and an autoscaler",
                "each apply puts back the fixed number, under load, too",
                "leave out spec.replicas",
            )


def budgets(objects: Sequence[Object]) -> Iterator[Finding]:
    """A disruption budget leaves room for an eviction."""
    for made in _of_kind(objects, "PodDisruptionBudget"):
        least = _least_replicas(objects, _selector(made))
        spec = made["spec"]
        if least is None:
            continue
        stuck = spec.get("minAvailable", 0)
        if spec.get("maxUnavailable") == 0 or (isinstance(stuck, int) and stuck >= least > 0):
            yield Finding(
                _place(made),
                "budget",
                f"with {least} replicas it never allows an eviction",
                "nodes cannot be drained, and upgrades of the cluster hang",
                "maxUnavailable: 1, with two replicas or more",
            )


def mesh_retries(objects: Sequence[Object]) -> Iterator[Finding]:
    """Istio tries again twice where nothing is said, and clients and gateway do so already."""
    for made in objects:
        if made["kind"] != "VirtualService":
            continue
        for number, rule in enumerate(made["spec"].get("http", [])):
            attempts = rule.get("retries", {}).get("attempts", 2)
            if attempts and "route" in rule:
                yield Finding(
                    _place(made),
                    "retries",
                    f"the mesh tries rule {number} again {attempts} times, and so does the caller",
                    "tries multiply, just when the service is in trouble",
                    "retries: {attempts: 0}",
                )


def _least_replicas(objects: Sequence[Object], wanted: Mapping[str, str]) -> int | None:
    for pod, labels in _pods(objects):
        if not _selects(wanted, labels):
            continue
        for scaler in _of_kind(objects, "HorizontalPodAutoscaler", "ScaledObject"):
            spec = scaler["spec"]
            if spec["scaleTargetRef"]["name"] == pod["metadata"]["name"]:
                return int(spec.get("minReplicas", spec.get("minReplicaCount", 0)))
        return int(pod["spec"].get("replicas", 1))
    return None
