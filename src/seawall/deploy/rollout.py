"""How far a rollout is, from what the API server says of Deployments and pods. Pure.

Done is what `kubectl rollout status` calls so. Broken is told sooner than after the ten minutes
that Kubernetes allows: a pod that cannot start for a reason that waiting does not mend.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from seawall.deploy.naming import Object

# Reasons why a container waits, that a person has to mend. The kubelet has tried again by then.
_HOPELESS = frozenset(
    {
        "ImagePullBackOff",
        "ErrImageNeverPull",
        "InvalidImageName",
        "CreateContainerConfigError",
        "CreateContainerError",
    }
)

# One that crashes may be waiting for its database; so often it is not.
_CRASHES = 3


@dataclass(frozen=True, slots=True)
class Progress:
    """One Deployment: how many replicas it is to have, have its new pod, and may be asked."""

    name: str
    wanted: int
    updated: int
    available: int
    is_done: bool
    broken: str = ""

    def __str__(self) -> str:
        return f"{self.name} {min(self.updated, self.available)}/{self.wanted}"


def progress(deployment: Mapping[str, Any]) -> Progress:
    wanted = deployment["spec"].get("replicas", 1)
    status = deployment.get("status", {})
    updated, total = status.get("updatedReplicas", 0), status.get("replicas", 0)
    available = status.get("availableReplicas", 0)
    is_seen = status.get("observedGeneration", 0) >= deployment["metadata"].get("generation", 0)
    broken = [
        str(each.get("message", "its progress deadline is over"))
        for each in status.get("conditions", [])
        if each.get("type") == "Progressing" and each.get("reason") == "ProgressDeadlineExceeded"
    ]
    return Progress(
        name=deployment["metadata"]["name"],
        wanted=wanted,
        updated=updated,
        available=available,
        is_done=is_seen and updated >= wanted and total <= updated and available >= updated,
        broken=broken[0] if is_seen and broken else "",
    )


@dataclass(frozen=True, slots=True)
class Rollout:
    """All Deployments of a release together."""

    parts: tuple[Progress, ...]
    broken: tuple[str, ...] = ()

    @property
    def is_done(self) -> bool:
        return not self.broken and all(part.is_done for part in self.parts)

    def __str__(self) -> str:
        waiting = [str(part) for part in self.parts if not part.is_done]
        return ", ".join(waiting) or f"{len(self.parts)} rolled out"


def rollout(
    deployments: Sequence[Object], pods: Sequence[Object], names: Collection[str], old: set[str]
) -> Rollout:
    """Of the Deployments with those `names`; `old` pods were there before: not its fault."""
    parts = {p.name: p for p in map(progress, deployments) if p.name in names}
    missing = [Progress(name, 1, 0, 0, is_done=False) for name in sorted(set(names) - set(parts))]
    broken = [f"{part.name}: {part.broken}" for part in parts.values() if part.broken]
    for pod in pods:
        if pod["metadata"]["name"] not in old:
            broken += _hopeless(pod)
    return Rollout((*parts.values(), *missing), tuple(broken))


def _hopeless(pod: Object) -> Iterator[str]:
    status = pod.get("status", {})
    for each in [*status.get("initContainerStatuses", []), *status.get("containerStatuses", [])]:
        waiting = each.get("state", {}).get("waiting", {})
        reason = waiting.get("reason", "")
        crashes = reason == "CrashLoopBackOff" and each.get("restartCount", 0) >= _CRASHES
        if reason in _HOPELESS or crashes:
            told = waiting.get("message", "")
            yield f"{pod['metadata']['name']}: {reason}{f': {told}' if told else ''}"
