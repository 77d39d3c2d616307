"""One controller of one service: the same declaration, carried out by any of the kernels.

A figure is a total of all replicas together and a target for each of them, which every kernel
understands: so a policy is changed by one word, and figures need not be declared anew.
"""

import math
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from seawall.scaling.combine import highest
from seawall.scaling.decision import Decision
from seawall.scaling.hpa import Hpa, HpaSamples, Kind, Metric
from seawall.scaling.hpa_behavior import Behavior
from seawall.scaling.keda import Keda, KedaSamples, Trigger
from seawall.scaling.kpa import Kpa, KpaSamples
from seawall.scaling.surge import Surge, SurgeSamples, SurgeState
from seawall.scaling.tracking import TargetTracking, TrackingSamples

# What Kubernetes, KEDA and AWS wait before they scale in.
WINDOW = 300.0  # seconds

# What surge looks back: it knows what is offered, and needs no figure to settle.
SURGE_WINDOW = 150.0  # seconds

# Knative's own target is 70 % of what a replica bears.
KPA_UTILIZATION = 0.7


@dataclass(frozen=True, slots=True)
class Target:
    """`each` is what one replica is to have of it."""

    name: str
    each: float


@dataclass(frozen=True, slots=True)
class Look:
    """What there is now: `totals` of all replicas together, in the order of the targets; None for
    what is not known."""

    replicas: int  # wanted until now, starting ones among them
    ready: int
    totals: tuple[float | None, ...]

    @property
    def known(self) -> tuple[float | None, ...]:
        """The totals, of which one that no service can have is as good as none."""
        sane = (0 <= total < math.inf if total is not None else False for total in self.totals)
        return tuple(t if ok else None for t, ok in zip(self.totals, sane, strict=True))


@dataclass(frozen=True, kw_only=True, slots=True)
class Bounds:
    minimum: int
    maximum: int
    window: float | None = None  # seconds of less before scaling in; None: the policy's own


# A glance is at a quarter of a second: what is new in that is new, and not only by a quarter.
QUICK = 0.2  # seconds


class Controller(Protocol):
    """Remembers what it saw, and says how many replicas there should be."""

    every: float  # seconds between two looks

    def look(self, look: Look, now: float) -> Decision: ...


class SurgeController:
    """Ours, for each figure; whoever wants most is heard."""

    # Twice a second was simulated; a live look asks every replica for its metrics, which costs it
    # some milliseconds.
    every = 1.0

    def __init__(self, targets: Sequence[Target], bounds: Bounds) -> None:
        window = SURGE_WINDOW if bounds.window is None else bounds.window
        self._targets = tuple(targets)
        self._kernels = [
            Surge(
                capacity=target.each,
                utilization=1.0,  # a target is what is to be used
                learns=False,  # and is kept to
                minimum=bounds.minimum,
                maximum=bounds.maximum,
                lead=1.0 + self.every,
                window=window,
                calm=window,
                idle=min(60.0, window),
                pace=min(30.0, window / 2),
            )
            for target in targets
        ]
        self._states = [kernel.begin() for kernel in self._kernels]
        self._quick = [replace(kernel, fast=QUICK) for kernel in self._kernels]

    def look(self, look: Look, now: float) -> Decision:
        self._states, decision = self._decided(self._kernels, self._states, look, now)
        return decision

    def glance(self, look: Look, now: float, over: float) -> Decision:
        """At figures of the last `over` seconds, which may only ask for more. What is usual is
        what looks have seen: by a glance of which a part was before a step, the step would be
        usual for the next one."""
        states = [s if s.at is None else s._replace(at=now - over) for s in self._states]
        _, decision = self._decided(self._quick, states, look, now)
        if decision.desired > look.replicas:
            self._states = [state._replace(out_at=now) for state in self._states]
        return decision

    def hurries(self, look: Look) -> bool:
        """Whether more is offered than the replicas are for: the next glance is not to wait."""
        known = zip(look.known, self._targets, strict=True)
        return any(t is not None and t > target.each * look.replicas for t, target in known)

    def _decided(
        self, kernels: Sequence[Surge], states: Sequence[SurgeState], look: Look, now: float
    ) -> tuple[list[SurgeState], Decision]:
        after, decisions = [], {}
        for target, kernel, state, total in zip(
            self._targets, kernels, states, look.known, strict=True
        ):
            samples = SurgeSamples(look.replicas, look.ready, total)
            then, decisions[target.name] = kernel.decide(state, samples, now)
            after.append(then)
        return after, highest(look.replicas, decisions)


class HpaController:
    """Kubernetes', with each figure as an external metric of type AverageValue."""

    every = 15.0

    def __init__(self, targets: Sequence[Target], bounds: Bounds) -> None:
        behavior = Behavior()
        if bounds.window is not None:
            behavior = Behavior(down=replace(behavior.down, window=bounds.window))
        self._hpa = Hpa(
            tuple(Metric(t.name, Kind.AVERAGE, max(1, round(1000 * t.each))) for t in targets),
            minimum=bounds.minimum,
            maximum=bounds.maximum,
            behavior=behavior,
        )
        self._state = self._hpa.begin()

    def look(self, look: Look, now: float) -> Decision:
        readings = tuple(None if t is None else (round(1000 * t),) for t in look.known)
        samples = HpaSamples(look.replicas, (), readings)
        self._state, decision = self._hpa.decide(self._state, samples, now)
        return decision


class KedaController:
    """KEDA's, with each figure as a trigger. It polls as often as its HPA looks."""

    every = 15.0

    def __init__(self, targets: Sequence[Target], bounds: Bounds) -> None:
        self._keda = Keda(
            triggers=tuple(Trigger(t.name, t.each) for t in targets),
            minimum=bounds.minimum,
            maximum=bounds.maximum,
            cooldown=WINDOW if bounds.window is None else bounds.window,
        )
        self._state = self._keda.begin()

    def look(self, look: Look, now: float) -> Decision:
        samples = KedaSamples(look.replicas, look.known)
        self._state, decision = self._keda.decide(self._state, samples, now)
        return decision


class KpaController:
    """Knative's, of one figure, whose means in both windows it keeps."""

    every = 2.0

    def __init__(self, targets: Sequence[Target], bounds: Bounds) -> None:
        (target,) = targets
        self._kpa = Kpa(
            target=target.each,
            capacity=target.each / KPA_UTILIZATION,
            minimum=bounds.minimum,
            maximum=bounds.maximum,
            stable_window=60.0 if bounds.window is None else max(6.0, bounds.window),
        )
        self._state = self._kpa.begin()
        # One for each look in the stable window.
        most = 1 + int(self._kpa.stable_window / self.every)
        self._seen: deque[tuple[float, float]] = deque(maxlen=most)

    def look(self, look: Look, now: float) -> Decision:
        (total,) = look.known
        if total is not None:
            self._seen.append((now, total))
        known = total is not None
        samples = KpaSamples(
            look.ready,
            self._mean(now - self._kpa.stable_window) if known else None,
            self._mean(now - self._kpa.stable_window / 10) if known else None,
        )
        self._state, decision = self._kpa.decide(self._state, samples, now)
        return replace(decision, desired=look.replicas) if decision.is_held else decision

    def _mean(self, since: float) -> float:
        values = [value for at, value in self._seen if at > since]
        return sum(values) / len(values)


class TrackingController:
    """AWS's target tracking; of several figures any scales out, and all must agree to scale in."""

    every = 60.0

    def __init__(self, targets: Sequence[Target], bounds: Bounds) -> None:
        self._names = [target.name for target in targets]
        self._kernels = [
            TargetTracking(
                target=target.each,
                minimum=bounds.minimum,
                maximum=bounds.maximum,
                cooldown_in=WINDOW if bounds.window is None else bounds.window,
            )
            for target in targets
        ]
        self._states = [kernel.begin() for kernel in self._kernels]

    def look(self, look: Look, now: float) -> Decision:
        decisions = {}
        warming = max(0, look.replicas - look.ready)
        for place, (name, kernel) in enumerate(zip(self._names, self._kernels, strict=True)):
            total = look.known[place]
            each = None if total is None or look.ready == 0 else total / look.ready
            samples = TrackingSamples(look.replicas, each, warming)
            self._states[place], decision = kernel.decide(self._states[place], samples, now)
            decisions[name] = decision
        return highest(look.replicas, decisions)


CONTROLLERS: dict[str, Callable[[Sequence[Target], Bounds], Controller]] = {
    "surge": SurgeController,
    "hpa": HpaController,
    "keda": KedaController,
    "kpa": KpaController,
    "tracking": TrackingController,
}
