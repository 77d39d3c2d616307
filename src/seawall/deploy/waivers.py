"""Policies of checkov that a Deployment does not follow, with the reason, where checkov and a
reader of the manifest find them: it reports them as skipped, and anything else as failed.

Each is decided by the pod, so that none is waived where it is followed.
"""

from typing import Any

# No "=" in a reason: checkov 3.3 ends with an error on it.
_ALWAYS_PULL = "while the registry is away, pods start from the image on the node"
_DIGEST = "the declaration names a tag; an image of NAME@sha256:... pins it"
_TOKEN = "the registry is the cluster: the account may list endpoints, nothing else"
_FILES = "the program reads this secret from its environment only"


def waivers(pod: dict[str, Any]) -> dict[str, str]:
    """The annotations for the Deployment of that pod; none if it follows every policy."""
    containers = pod["containers"]
    given = [
        ("CKV_K8S_15", any(one["imagePullPolicy"] != "Always" for one in containers), _ALWAYS_PULL),
        ("CKV_K8S_35", any(_in_environment(one) for one in containers), _FILES),
        ("CKV_K8S_38", pod["automountServiceAccountToken"], _TOKEN),
        ("CKV_K8S_43", any("@sha256:" not in one["image"] for one in containers), _DIGEST),
    ]
    said = [f"{policy}={reason}" for policy, applies, reason in given if applies]
    return {f"checkov.io/skip{number}": text for number, text in enumerate(said, start=1)}


def _in_environment(container: dict[str, Any]) -> bool:
    return any("secretKeyRef" in one.get("valueFrom", {}) for one in container["env"])
