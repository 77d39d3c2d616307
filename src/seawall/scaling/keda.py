"""KEDA's ScaledObject as a kernel: it wakes and puts to sleep, and an HPA does what is between.

Followed, of kedacore/keda at 8b4f083c: pkg/scaling/executor/scale_scaledobjects.go (`RequestScale`,
`scaleToZeroOrIdle`, `scaleFromZeroOrIdle`) and pkg/fallback/fallback.go. Its test cases are data in
tests/unit/scaling. Whoever calls it decides how often: KEDA polls each 30 seconds.

The HPA gets every trigger as an external metric with a target for each replica, as KEDA's does.
Where both would act at once, waking and putting to sleep go first; the HPA acts at the next look.
"""

import math
from dataclasses import dataclass, field, replace
from enum import Enum

from seawall.errors import Misconfigured
from seawall.scaling.decision import Decision, Limit
from seawall.scaling.hpa import Hpa, HpaSamples, HpaState, Kind, Metric, Reading
from seawall.scaling.hpa_behavior import Behavior
from seawall.scaling.hpa_metrics import Pod


class FallbackBehavior(Enum):
    """How many replicas stand in for a trigger that cannot be read."""

    STATIC = "static"
    CURRENT = "currentReplicas"
    CURRENT_IF_HIGHER = "currentReplicasIfHigher"
    CURRENT_IF_LOWER = "currentReplicasIfLower"


@dataclass(frozen=True, slots=True)
class Fallback:
    """After more failures in a row than `failures`, this many replicas."""

    replicas: int
    failures: int = 3
    behavior: FallbackBehavior = FallbackBehavior.STATIC

    def __post_init__(self) -> None:
        if self.replicas < 0 or self.failures < 0:
            raise Misconfigured(f"a fallback to {self.replicas} after {self.failures} failures")

    def chosen(self, current: int) -> int:
        if self.behavior is FallbackBehavior.CURRENT:
            return current
        if self.behavior is FallbackBehavior.CURRENT_IF_HIGHER:
            return max(current, self.replicas)
        if self.behavior is FallbackBehavior.CURRENT_IF_LOWER:
            return min(current, self.replicas)
        return self.replicas


@dataclass(frozen=True, slots=True)
class Trigger:
    """A queue or whatever else makes work: `target` for each replica, active above `activation`."""

    name: str
    target: float
    activation: float = 0.0

    def __post_init__(self) -> None:
        if not self.target > 0:
            raise Misconfigured(f"the target of {self.name} is above 0, not {self.target}")


@dataclass(frozen=True, slots=True)
class KedaSamples:
    """The triggers' values in their order, None for one that cannot be read."""

    replicas: int
    values: tuple[float | None, ...]
    pods: tuple[Pod, ...] = ()


@dataclass(frozen=True, slots=True)
class KedaState:
    created_at: float | None = None
    active_at: float | None = None  # when a trigger was last active; None: never, or by hand
    failures: tuple[int, ...] = ()
    hpa: HpaState = field(default_factory=HpaState)


@dataclass(frozen=True, kw_only=True, slots=True)
class Keda:
    """One ScaledObject, with KEDA's defaults."""

    triggers: tuple[Trigger, ...]
    minimum: int = 0
    maximum: int = 100
    idle: int | None = None  # replicas while nothing is active, where that is below the minimum
    cooldown: float = 300.0  # seconds after the last activity
    initial_cooldown: float = 0.0  # seconds after it was created
    fallback: Fallback | None = None
    behavior: Behavior | None = None
    paused: bool = False
    paused_in: bool = False
    paused_out: bool = False
    forced: bool = False  # active whatever the triggers say
    hpa: Hpa = field(init=False, repr=False, compare=False)  # from the minimum to the maximum

    def __post_init__(self) -> None:
        if not self.triggers:
            raise Misconfigured("without a trigger nothing ever wakes", fix='Trigger("queue", 10)')
        if not 0 <= self.minimum <= self.maximum or self.maximum < 1:
            raise Misconfigured(f"between {self.minimum} and {self.maximum} replicas")
        if self.idle is not None and not 0 <= self.idle < self.minimum:
            raise Misconfigured(
                f"{self.idle} idle replicas with a minimum of {self.minimum}",
                fix="fewer idle ones than the minimum, or no idle",
            )
        hpa = Hpa(
            tuple(Metric(t.name, Kind.AVERAGE, int(t.target * 1000)) for t in self.triggers),
            maximum=self.maximum,
            minimum=max(1, self.minimum),
            behavior=self.behavior,
        )
        object.__setattr__(self, "hpa", hpa)

    def begin(self) -> KedaState:
        return KedaState()

    def decide(
        self, state: KedaState, samples: KedaSamples, now: float
    ) -> tuple[KedaState, Decision]:
        if state.created_at is None:
            state = replace(state, created_at=now, failures=(0,) * len(self.triggers))
        if self.paused:
            return state, _held(samples.replicas, "paused", Limit.PAUSED)
        samples = replace(samples, values=tuple(_sane(value) for value in samples.values))
        state = replace(state, failures=_failures(state.failures, samples.values))
        state, decision = self.activate(state, samples, now)
        if decision is not None:
            return state, decision
        return self._between(state, samples, now)

    def activate(
        self, state: KedaState, samples: KedaSamples, now: float
    ) -> tuple[KedaState, Decision | None]:
        """What KEDA itself does: None where it leaves it to the HPA."""
        names = [
            trigger.name
            for trigger, value in zip(self.triggers, samples.values, strict=True)
            if value is not None and value > trigger.activation
        ]
        failed = any(value is None for value in samples.values)
        if names or self.forced:
            return self._active(state, samples.replicas, names, failed, now)
        if failed and (self.fallback is None or self.fallback.replicas != 0):
            return state, None  # it may be active for all we know
        return state, self._inactive(state, samples.replicas, now)

    def value_for(self, index: int, samples: KedaSamples, failures: int) -> int | None:
        """What the HPA is told of a trigger, in thousandths; of a broken one, the fallback."""
        value, target = samples.values[index], self.triggers[index].target
        if value is not None:
            return int(value * 1000)
        if self.fallback is None or failures <= self.fallback.failures:
            return None
        return int(target * 1000 * self.fallback.chosen(samples.replicas))

    def _active(
        self, state: KedaState, current: int, names: list[str], failed: bool, now: float
    ) -> tuple[KedaState, Decision | None]:
        asleep = current == 0 or (self.idle is not None and current < self.minimum)
        if asleep:
            if self.paused_out:
                return state, _held(current, "scaling out is paused", Limit.PAUSED)
            wanted = max(1, self.minimum)
            reason = f"active: {', '.join(names)}" if names else "activation is forced"
            return replace(state, active_at=now), Decision(wanted, reason, (), wanted)
        return (state if failed else replace(state, active_at=now)), None

    def _inactive(self, state: KedaState, current: int, now: float) -> Decision | None:
        above_idle = self.idle is not None and current > self.idle
        if above_idle or (current > 0 and self.minimum == 0):
            return self._to_sleep(state, current, now)
        if self.idle is None and current < self.minimum:
            return Decision(self.minimum, "below the minimum", (Limit.TOO_FEW,), self.minimum)
        if current == 0 or (self.idle is not None and current <= self.idle):
            return Decision(current, "nothing is active", (), current)
        return None

    def _to_sleep(self, state: KedaState, current: int, now: float) -> Decision | None:
        if self.paused_in:
            return None
        if state.active_at is not None:
            cooled = state.active_at + self.cooldown < now
        else:
            # Never active: somebody scaled it by hand, and no cooldown protects that.
            cooled = (state.created_at or 0.0) + self.initial_cooldown < now
        if not cooled:
            return None
        wanted = self.minimum if self.idle is None else self.idle
        return Decision(wanted, "nothing was active for the whole cooldown", (), wanted)

    def _between(
        self, state: KedaState, samples: KedaSamples, now: float
    ) -> tuple[KedaState, Decision]:
        """From the minimum (or one) to the maximum: the HPA that KEDA makes."""
        known = [self.value_for(n, samples, f) for n, f in enumerate(state.failures)]
        readings: tuple[Reading, ...] = tuple(None if v is None else (v,) for v in known)
        seen = HpaSamples(samples.replicas, samples.pods, readings)
        hpa_state, decision = self.hpa.decide(state.hpa, seen, now)
        if None not in known and None in samples.values:
            decision = replace(decision, limits=(*decision.limits, Limit.FALLBACK))
        return replace(state, hpa=hpa_state), self._unpaused(decision, samples.replicas)

    def _unpaused(self, decision: Decision, current: int) -> Decision:
        out, back = decision.desired > current, decision.desired < current
        if (out and self.paused_out) or (back and self.paused_in):
            return replace(decision, desired=current, limits=(*decision.limits, Limit.PAUSED))
        return decision


def _held(current: int, reason: str, limit: Limit) -> Decision:
    return Decision(current, reason, (limit,))


def _sane(value: float | None) -> float | None:
    return value if value is not None and 0 <= value < math.inf else None


def _failures(before: tuple[int, ...], values: tuple[float | None, ...]) -> tuple[int, ...]:
    """Failures in a row of each trigger."""
    return tuple(
        count + 1 if value is None else 0 for count, value in zip(before, values, strict=True)
    )
