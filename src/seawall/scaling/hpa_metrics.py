"""From one metric to a number of replicas, as Kubernetes' HorizontalPodAutoscaler does it.

Followed: pkg/controller/podautoscaler/replica_calculator.go and metrics/utilization.go of
Kubernetes, in the form with a tolerance for each direction (KEP-4951) and with saturated counts.
Older ones (00067268, of 2021) differ in one place: there a pod without a metric counts as 100 %
of its request when load falls, also where the target is above 100 %.

Amounts are integers in thousandths, as they are there, and are divided as they are there: a
utilisation is a whole number of per cent, and the cut may change the answer.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import Enum, auto

from seawall.errors import Misconfigured
from seawall.scaling.decision import MOST

MOST_USAGE = 2**63 - 1


class Phase(Enum):
    PENDING = auto()
    RUNNING = auto()
    SUCCEEDED = auto()
    FAILED = auto()


@dataclass(frozen=True, slots=True)
class Pod:
    """A replica as the calculator sees it."""

    name: str
    phase: Phase = Phase.RUNNING
    deleted: bool = False
    ready: bool | None = True  # None: it has no Ready condition yet
    ready_changed: float = 0.0  # when `ready` became what it is
    started: float | None = 0.0


@dataclass(frozen=True, slots=True)
class Usage:
    """What one pod used of a resource, in thousandths: a mean of `window` seconds until `at`."""

    value: int
    at: float = math.inf
    window: float = 60.0


@dataclass(frozen=True, slots=True)
class Tolerances:
    """How far from 1 the ratio of usage to target may be before anything changes."""

    down: float = 0.1
    up: float = 0.1

    def __post_init__(self) -> None:
        if not (self.down >= 0 and self.up >= 0):
            raise Misconfigured(f"tolerances are not negative: {self.down} down, {self.up} up")

    def holds(self, ratio: float) -> bool:
        return 1.0 - self.down <= ratio <= 1.0 + self.up


@dataclass(frozen=True, slots=True)
class Readiness:
    """How long a young pod's CPU tells nothing, in seconds."""

    cpu_initialization: float = 300.0
    initial_delay: float = 30.0


# A fleet is looked at pod by pod, and reading a member off its class costs as much as a pod.
_PENDING, _FAILED = Phase.PENDING, Phase.FAILED


class Unknown(Exception):
    """The metric gives no number now. The text is what Kubernetes' controller says."""


@dataclass(frozen=True, slots=True)
class Proposal:
    """How many replicas one metric asks for, and what its value is, in its own unit."""

    replicas: int
    usage: int
    raw: int = 0  # of a utilisation: the mean amount


@dataclass(frozen=True, slots=True)
class Groups:
    """Pods by what is known of them."""

    ready: int
    unready: frozenset[str]
    missing: frozenset[str]
    ignored: frozenset[str]


def group(
    pods: Iterable[Pod],
    usages: Mapping[str, Usage],
    now: float,
    readiness: Readiness,
    cpu: bool,
) -> Groups:
    """Sort pods. Only for CPU does it matter whether a pod is ready: it burns most at its start."""
    ready = 0
    unready: list[str] = []
    missing: list[str] = []
    ignored: list[str] = []
    usage_of = usages.get
    for pod in pods:
        phase = pod.phase
        if pod.deleted or phase is _FAILED:
            ignored.append(pod.name)
        elif phase is _PENDING:
            unready.append(pod.name)
        elif (usage := usage_of(pod.name)) is None:
            missing.append(pod.name)
        elif cpu and _tells_nothing(pod, usage, now, readiness):
            unready.append(pod.name)
        else:
            ready += 1
    return Groups(ready, frozenset(unready), frozenset(missing), frozenset(ignored))


def _tells_nothing(pod: Pod, usage: Usage, now: float, readiness: Readiness) -> bool:
    ready, started = pod.ready, pod.started
    if ready is None or started is None:
        return True
    if started + readiness.cpu_initialization > now:
        # Not ready, or its sample reaches back to when it was not.
        return not ready or usage.at < pod.ready_changed + usage.window
    # Past that time only those that never were ready.
    return not ready and started + readiness.initial_delay > pod.ready_changed


def by_utilization(
    current: int,
    target: int,
    groups: Groups,
    usages: Mapping[str, Usage],
    requests: Mapping[str, int],
    tolerances: Tolerances,
) -> Proposal:
    """For a target in per cent of what pods requested."""
    values = _of_ready(groups, usages)
    ratio, utilization, raw = _utilization(values, requests, target)
    scales_up_with_unready = bool(groups.unready) and ratio > 1.0
    if not scales_up_with_unready and not groups.missing:
        replicas = current if tolerances.holds(ratio) else _ceil(ratio * groups.ready)
        return Proposal(replicas, utilization, raw)
    if ratio < 1.0:
        # Who says nothing may be as busy as it may be.
        share = max(100, target)
        values |= {name: requests[name] * share // 100 for name in groups.missing}
    elif ratio > 1.0:
        values |= dict.fromkeys(groups.missing, 0)
    if scales_up_with_unready:
        values |= dict.fromkeys(groups.unready, 0)
    again = _utilization(values, requests, target)[0]
    return Proposal(_second(current, ratio, again, len(values), tolerances), utilization, raw)


def by_average(
    current: int,
    target: int,
    groups: Groups,
    usages: Mapping[str, Usage],
    tolerances: Tolerances,
) -> Proposal:
    """For a target amount of each pod."""
    values = _of_ready(groups, usages)
    ratio, usage = _average(values, target)
    scales_up_with_unready = bool(groups.unready) and ratio > 1.0
    if not scales_up_with_unready and not groups.missing:
        replicas = current if tolerances.holds(ratio) else _ceil(ratio * groups.ready)
        return Proposal(replicas, usage)
    if ratio < 1.0:
        values |= dict.fromkeys(groups.missing, target)
    elif ratio > 1.0:
        values |= dict.fromkeys(groups.missing, 0)
    if scales_up_with_unready:
        values |= dict.fromkeys(groups.unready, 0)
    again = _average(values, target)[0]
    return Proposal(_second(current, ratio, again, len(values), tolerances), usage)


def by_value(
    current: int, target: int, usage: int, ready: int | None, tolerances: Tolerances
) -> Proposal:
    """For a target value of something that is not a pod's: in proportion to ready pods.

    `ready` is None where no pod is known, which matters only if something is to change.
    """
    ratio = float(usage) / float(target)
    if current == 0:
        return Proposal(_ceil(ratio), usage)
    if tolerances.holds(ratio):
        return Proposal(current, usage)
    if ready is None:
        raise Unknown("no pods returned by selector while calculating replica count")
    return Proposal(_ceil(ratio * ready), usage)


def by_value_each(current: int, target: int, usage: int, tolerances: Tolerances) -> Proposal:
    """For a target value of something that is not a pod's, shared by all replicas."""
    wanted = _ceil(float(usage) / float(target))
    if current == 0:
        return Proposal(wanted, usage)
    ratio = float(usage) / (float(target) * float(current))
    each = usage if usage >= MOST_USAGE else math.ceil(float(usage) / float(current))
    return Proposal(current if tolerances.holds(ratio) else wanted, each)


def total(values: Iterable[int]) -> int:
    """The sum of an external metric's series, in 64 bits."""
    return min(MOST_USAGE, sum(values))


def _of_ready(groups: Groups, usages: Mapping[str, Usage]) -> dict[str, int]:
    values = {name: usage.value for name, usage in usages.items()}
    for left_out in (groups.ignored, groups.unready):
        for name in left_out:
            values.pop(name, None)
    if not values:
        raise Unknown("did not receive metrics for targeted pods (pods might be unready)")
    return values


def _utilization(
    values: Mapping[str, int], requests: Mapping[str, int], target: int
) -> tuple[float, int, int]:
    if not values.keys() <= requests.keys():
        values = {name: value for name, value in values.items() if name in requests}
    requested = sum(map(requests.__getitem__, values))
    if requested == 0:
        raise Unknown("no metrics returned matched known pods")
    used = sum(values.values())
    utilization = used * 100 // requested
    return float(utilization) / float(target), utilization, used // len(values)


def _average(values: Mapping[str, int], target: int) -> tuple[float, int]:
    usage = sum(values.values()) // len(values)
    return float(usage) / float(target), usage


def _second(current: int, first: float, ratio: float, counted: int, tolerances: Tolerances) -> int:
    """Replicas by the ratio in which assumptions stand for what is not known.

    Assumptions may weaken a change. They never turn it round.
    """
    turned = (first < 1.0 < ratio) or (ratio < 1.0 < first)
    if turned or tolerances.holds(ratio):
        return current
    replicas = _ceil(ratio * counted)
    if (ratio < 1.0 and replicas > current) or (ratio > 1.0 and replicas < current):
        return current
    return replicas


def _ceil(number: float) -> int:
    return MOST if number > MOST else math.ceil(number)
