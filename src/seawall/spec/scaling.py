"""`[[services.X.scale]]`: by which figures a service gets more replicas or fewer, and how.

One service has one controller, and all its figures are that one's: two would pull it to and fro.
"""

from collections.abc import Sequence
from typing import Literal

from pydantic import Field

from seawall.spec.part import Part, did_you_mean

# What is known of every service without its doing anything. Any other name is a metric of its own.
BUILT_IN = {
    "requests": "requests offered a second, shed ones among them",
    "in_flight": "requests under way",
    "cpu": "per cent of a core",
    "memory": "megabytes",
    "queue": "messages ready and being handled",
    "age": "seconds that the oldest message waits",
}

# Those that wake a service of which nothing runs: others are figures of its replicas. Requests
# wake one whose socket the supervisor holds, which it does for Python services.
WAKING = frozenset({"queue"})
WAKING_BY_SOCKET = frozenset({"requests", "in_flight"})

Policy = Literal["surge", "hpa", "keda", "kpa", "tracking"]


class ScaleSpec(Part):
    """One figure, and how much of it each replica is to have."""

    metric: str = Field(default="requests", pattern=r"^[a-zA-Z_:][a-zA-Z0-9_:]*$", max_length=200)
    target: float = Field(gt=0, le=1e12)  # for each replica, in the metric's unit
    policy: Policy = "surge"  # who decides; one for all of a service's figures
    across: Literal["sum", "max"] = "sum"  # of replicas; max: each of them tells the same figure
    topic: str | None = None  # of queue and age: this one; without it all that it consumes
    window: float | None = Field(default=None, gt=0, le=86_400)  # seconds of less before scaling in


def check_scaling(
    scale: Sequence[ScaleSpec], least: int, most: int, *, listens_itself: bool
) -> None:
    """Raises `ValueError` for what cannot be meant."""
    if not scale:
        return
    if most <= least:
        raise ValueError(
            f"scale has nothing to choose between {least} and {most} replicas;"
            f" fix: replicas = {{ min = {least}, max = {max(4, least + 1)} }}"
        )
    names = [each.metric for each in scale]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise ValueError(f"scale has two controllers on {twice!r}; fix: remove one of them")
    policies = sorted({each.policy for each in scale})
    if len(policies) > 1:
        raise ValueError(
            f"scale has two controllers, {' and '.join(policies)}, which would pull the same"
            " replicas to and fro; fix: one policy for all metrics of the service"
        )
    _check_policy(policies[0], names, least)
    if least == 0:
        _check_waking(names, listens_itself)
    for each in scale:
        _check_metric(each)


def _check_policy(policy: str, names: Sequence[str], least: int) -> None:
    if policy == "kpa" and len(names) > 1:
        raise ValueError(f"scale: kpa goes by one metric, not {len(names)}; fix: surge or hpa")
    if least == 0 and policy in ("hpa", "tracking"):
        raise ValueError(f"scale: {policy} never wakes a service; fix: min = 1, or keda or surge")


def _check_waking(names: Sequence[str], listens_itself: bool) -> None:
    if WAKING & set(names):
        return
    if not WAKING_BY_SOCKET & set(names):
        raise ValueError(
            f"scale: nothing would wake the service from min = 0, since {', '.join(names)} is told"
            ' by its replicas; fix: min = 1, or a scale with metric = "queue" or "requests"'
        )
    if listens_itself:
        raise ValueError(
            "scale: no request would wake the service from min = 0, since a command opens its own"
            ' socket; fix: min = 1, or a scale with metric = "queue"'
        )


def _check_metric(each: ScaleSpec) -> None:
    # A metric of Prometheus' has a unit or a namespace, and so several words.
    if each.metric not in BUILT_IN and "_" not in each.metric:
        close = did_you_mean(each.metric, BUILT_IN)
        raise ValueError(f"scale: there is no metric {each.metric!r}{close}")
    if each.topic is not None and each.metric not in ("queue", "age"):
        raise ValueError(f"scale: {each.metric} has no topic; fix: remove it, or queue or age")
