"""Kubernetes' HorizontalPodAutoscaler (autoscaling/v2) as a kernel, to the bit.

What happens here happens in the cluster with the same numbers. Followed:
pkg/controller/podautoscaler/horizontal.go of Kubernetes (reconcileAutoscaler,
computeReplicasForMetrics, normalizeDesiredReplicas); the numbers of one metric are in
`hpa_metrics`, windows and policies in `hpa_behavior`. The controller's own test cases are data in
tests/unit/scaling.

Whoever calls it decides how often: Kubernetes looks each 15 seconds.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import Enum

from seawall.errors import Misconfigured
from seawall.scaling.decision import Decision, Limit
from seawall.scaling.hpa_behavior import (
    Behavior,
    History,
    bounded,
    highest,
    longest_period,
    paced,
    remembered,
    stabilized,
)
from seawall.scaling.hpa_metrics import (
    Phase,
    Pod,
    Proposal,
    Readiness,
    Tolerances,
    Unknown,
    Usage,
    by_average,
    by_utilization,
    by_value,
    by_value_each,
    group,
    total,
)

TOLERANCES = Tolerances()
READINESS = Readiness()


class Kind(Enum):
    """What a target means."""

    UTILIZATION = "per cent of what pods requested"
    RESOURCE = "mean amount of a resource"
    PODS = "mean of a metric of pods"
    VALUE = "value of an object's or an external metric"
    AVERAGE = "value of an object's or an external metric, for each replica"


OF_PODS = frozenset({Kind.UTILIZATION, Kind.RESOURCE, Kind.PODS})


@dataclass(frozen=True, slots=True)
class Metric:
    """One target: per cent for `UTILIZATION`, thousandths of the unit otherwise."""

    name: str
    kind: Kind
    target: int

    def __post_init__(self) -> None:
        if self.target <= 0:
            raise Misconfigured(f"the target of {self.name} is above 0, not {self.target}")


@dataclass(frozen=True, slots=True)
class PodReadings:
    """A metric of pods, and for a utilisation what each of them requested."""

    usages: Mapping[str, Usage]
    requests: Mapping[str, int] = field(default_factory=dict)


# What was read of a metric: of pods, the series of an object's or external one, or nothing.
Reading = PodReadings | tuple[int, ...] | None


@dataclass(frozen=True, slots=True)
class HpaSamples:
    """What there is now; `readings` stand in the order of the metrics."""

    replicas: int  # wanted until now
    pods: tuple[Pod, ...]
    readings: tuple[Reading, ...]
    existing: int | None = None  # pods that exist, where that differs from `replicas`


@dataclass(frozen=True, slots=True)
class HpaState:
    """What it remembers: proposals, and changes up and down, each with its time."""

    proposals: History | None = None  # None before the first look
    ups: History = ()
    downs: History = ()


@dataclass(frozen=True, slots=True)
class Hpa:
    """One HorizontalPodAutoscaler. Without `behavior` the old fixed rule limits steps up."""

    metrics: tuple[Metric, ...]
    maximum: int
    minimum: int = 1
    behavior: Behavior | None = None
    tolerances: Tolerances = TOLERANCES
    readiness: Readiness = READINESS
    down_window: float = 300.0  # seconds, where behavior says nothing

    def __post_init__(self) -> None:
        if not 0 <= self.minimum <= self.maximum or self.maximum < 1:
            raise Misconfigured(
                f"between {self.minimum} and {self.maximum} replicas",
                fix="0 <= minimum <= maximum, and maximum at least 1",
            )
        if not self.metrics:
            raise Misconfigured(
                "an autoscaler without a metric has nothing to go by",
                fix='Metric("cpu", Kind.UTILIZATION, 80)',
            )

    def begin(self) -> HpaState:
        return HpaState()

    def decide(self, state: HpaState, samples: HpaSamples, now: float) -> tuple[HpaState, Decision]:
        current = samples.replicas
        if state.proposals is None:
            # What there is counts as the first proposal: a restart does not scale in at once.
            state = replace(state, proposals=((current, now),))
        decision = self._outside(current)
        if decision is None:
            state, decision = self._by_metrics(state, samples, now)
        if decision.desired != current and not decision.is_held:
            state = self._noted(state, current, decision.desired, now)
        return state, decision

    def _outside(self, current: int) -> Decision | None:
        """What holds whatever the metrics say."""
        if current == 0 and self.minimum != 0:
            return Decision(0, "somebody scaled to zero: no scaling", (Limit.DISABLED,))
        if current > self.maximum:
            reason = f"{current} replicas are above the maximum"
            return Decision(self.maximum, reason, (Limit.TOO_MANY,), self.maximum)
        if current < self.minimum:
            reason = f"{current} replicas are below the minimum"
            return Decision(self.minimum, reason, (Limit.TOO_FEW,), self.minimum)
        return None

    def _by_metrics(
        self, state: HpaState, samples: HpaSamples, now: float
    ) -> tuple[HpaState, Decision]:
        current = samples.replicas
        proposed, reason, failed = self._proposed(samples, now)
        if proposed is None or (failed is not None and proposed < current):
            # One that cannot be read might ask for more: it only holds back scaling in.
            return state, Decision(current, f"no scaling: {failed}", (Limit.METRIC_FAILED,))
        limits: tuple[Limit, ...] = () if failed is None else (Limit.METRIC_FAILED,)
        steady, window = self._stabilized(state, current, proposed, now)
        if steady != proposed:
            limits += (window,)
        desired, limit = self._limited(state, current, steady, now)
        if limit is not Limit.WITHIN_RANGE:
            limits += (limit,)
        return self._remembering(state, proposed, now), Decision(desired, reason, limits, proposed)

    def _proposed(self, samples: HpaSamples, now: float) -> tuple[int | None, str, str | None]:
        """The most that a metric asks for, with the reason, and what the first failed one said."""
        best: int | None = None
        reason, failed = "", None
        for metric, reading in zip(self.metrics, samples.readings, strict=True):
            try:
                proposal = self.propose(metric, reading, samples, now)
            except Unknown as exc:
                failed = failed or f"{metric.name}: {exc}"
                continue
            if best is None or proposal.replicas > best:
                best = proposal.replicas
                reason = _told(metric, proposal)
        return best, reason, failed

    def propose(
        self, metric: Metric, reading: Reading, samples: HpaSamples, now: float
    ) -> Proposal:
        """How many replicas one metric asks for; `Unknown` is raised where it cannot say."""
        if metric.kind in OF_PODS:
            if not isinstance(reading, PodReadings) or not reading.usages:
                raise Unknown("no metrics returned of pods")
            return self._of_pods(metric, reading, samples, now)
        if not isinstance(reading, tuple):
            raise Unknown("no value returned")
        usage = total(reading)
        if metric.kind is Kind.AVERAGE:
            existing = samples.replicas if samples.existing is None else samples.existing
            return by_value_each(existing, metric.target, usage, self.tolerances)
        ready = sum(1 for pod in samples.pods if pod.phase is Phase.RUNNING and pod.ready)
        known = ready if samples.pods else None
        return by_value(samples.replicas, metric.target, usage, known, self.tolerances)

    def _of_pods(
        self, metric: Metric, reading: PodReadings, samples: HpaSamples, now: float
    ) -> Proposal:
        if not samples.pods:
            raise Unknown("no pods returned by selector while calculating replica count")
        cpu = metric.name == "cpu" and metric.kind is not Kind.PODS
        groups = group(samples.pods, reading.usages, now, self.readiness, cpu)
        if metric.kind is not Kind.UTILIZATION:
            return by_average(
                samples.replicas, metric.target, groups, reading.usages, self.tolerances
            )
        requests = reading.requests
        for pod in samples.pods:
            if pod.name not in requests:
                raise Unknown(f"missing request for {metric.name} in pod {pod.name}")
        return by_utilization(
            samples.replicas,
            metric.target,
            groups,
            reading.usages,
            requests,
            self.tolerances,
        )

    def _stabilized(
        self, state: HpaState, current: int, proposed: int, now: float
    ) -> tuple[int, Limit]:
        history = state.proposals or ()
        if self.behavior is None:
            steady = highest(history, proposed, self.down_window, now)
            return steady, Limit.SCALE_DOWN_STABILIZED
        steady = stabilized(history, current, proposed, self.behavior, now)
        up = proposed >= current
        return steady, Limit.SCALE_UP_STABILIZED if up else Limit.SCALE_DOWN_STABILIZED

    def _limited(self, state: HpaState, current: int, steady: int, now: float) -> tuple[int, Limit]:
        if self.behavior is None:
            return bounded(current, steady, self.minimum, self.maximum)
        bounds = (self.minimum, self.maximum)
        return paced(current, steady, bounds, self.behavior, (state.ups, state.downs), now)

    def _remembering(self, state: HpaState, proposed: int, now: float) -> HpaState:
        if self.behavior is None:
            window = self.down_window
        else:
            window = max(self.behavior.up.window, self.behavior.down.window)
        return replace(
            state, proposals=remembered(state.proposals or (), proposed, now - window, now)
        )

    def _noted(self, state: HpaState, was: int, desired: int, now: float) -> HpaState:
        """With the change remembered, since policies count changes."""
        if self.behavior is None:
            return state
        if desired > was:
            cutoff = now - longest_period(self.behavior.up)
            return replace(state, ups=remembered(state.ups, desired - was, cutoff, now))
        cutoff = now - longest_period(self.behavior.down)
        return replace(state, downs=remembered(state.downs, was - desired, cutoff, now))


def _told(metric: Metric, proposal: Proposal) -> str:
    if metric.kind is Kind.UTILIZATION:
        return f"{metric.name} at {proposal.usage} % of requests, target {metric.target} %"
    return f"{metric.name} at {proposal.usage / 1000:g}, target {metric.target / 1000:g}"
