"""Keeps as many replicas of each service as its figures ask for, and remembers why.

For each service with a `scale` in the spec: look, decide, and have the fleet carry it out. The
deciding is `seawall.scaling`'s; what is here waits, and keeps every decision with its inputs for
whoever asks. A person who scales by hand is left alone until `seawall scale SVC=auto`.
"""

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from seawall.clock import Clock
from seawall.concurrency.tasks import Tasks, running
from seawall.errors import Misconfigured
from seawall.facts import Observer
from seawall.runtime.admin import Answer, Answerer, Question
from seawall.runtime.autoscaler_figures import Figures, busy, held_by
from seawall.runtime.autoscaler_samples import Sample, Sampler
from seawall.runtime.door import Door
from seawall.runtime.fleet import Fleet
from seawall.runtime.registration import Registrar
from seawall.runtime.restart import State
from seawall.scaling.controller import CONTROLLERS, Bounds, Look, SurgeController, Target
from seawall.scaling.decision import Decision
from seawall.scaling.guards import bounded_by_machine, held_unless_whole, sparing_the_busy
from seawall.spec.project import ServiceSpec
from seawall.spec.scaling import WAKING

# Ten minutes of looks at one a second; some 0.5 KB each.
KEPT = 600

# Beside the looks gateways are asked so often what was offered in as long a time: they count for
# themselves, and no replica is asked.
GLANCE = 0.25  # seconds

# So often where that was more than the replicas are for. A glance is at a part of a step; the
# next one is at more of it.
HURRY = 0.1  # seconds

# Looks that changed something are what is asked about later; this is a busy day of them.
KEPT_CHANGES = 200


@dataclass(frozen=True, slots=True)
class Decided:
    """One look of a controller: what it knew, what it said, and what was done."""

    at: float  # wall clock, seconds since 1970
    was: int
    ready: int
    totals: tuple[float | None, ...]
    unheard: tuple[str, ...]  # replicas that did not tell
    decision: Decision
    shed: float | None = None  # requests a second that were refused for overload


@dataclass(frozen=True, slots=True)
class Scaled:
    """The autoscaler changed how many replicas a service has."""

    service: str
    was: int
    now: int
    reason: str


class ServiceScaler:
    """The controller of one service and what it remembers."""

    def __init__(
        self,
        fleet: Fleet,
        spec: ServiceSpec,
        sampler: Sampler,
        door: Door,
        *,
        observer: Observer,
        clock: Clock,
    ) -> None:
        self.fleet = fleet
        self._door = door
        self.policy = spec.scale[0].policy
        self.bounds = Bounds(
            minimum=spec.replicas.min,
            maximum=spec.replicas.max,
            window=max((e.window for e in spec.scale if e.window is not None), default=None),
        )
        self.targets = tuple(Target(each.metric, each.target) for each in spec.scale)
        self.is_auto = True
        self.looks: deque[Decided] = deque(maxlen=KEPT)
        self.changes: deque[Decided] = deque(maxlen=KEPT_CHANGES)
        self._scale = spec.scale
        self._has_queue = any(each.metric in WAKING for each in spec.scale)
        self._sampler = sampler
        self._observer = observer
        self._clock = clock
        self._figures = Figures(spec.scale)
        self._glanced: deque[Sample] = deque()  # one that is older than a glance, then newer ones
        self._hurries = False
        self._controller = CONTROLLERS[self.policy](self.targets, self.bounds)
        self.every = self._controller.every

    def resume(self) -> None:
        """Begin anew, without what was remembered of before somebody scaled by hand."""
        self._controller = CONTROLLERS[self.policy](self.targets, self.bounds)
        self.is_auto = True

    async def run(self) -> None:
        name = self.fleet.name
        async with (
            running(self._answer_door(), name=f"door of {name}"),
            running(self._glance_on(), name=f"glances at {name}"),
        ):
            while True:
                await self._clock.sleep(self.every)
                # While it sleeps only a queue has figures that say more than the door does.
                if self.is_auto and (self._has_queue or not self.fleet.asleep):
                    await self._look()

    async def _glance_on(self) -> None:
        """A look waits for replicas that are busy, and glances do not wait for it."""
        while self._goes_by_requests:
            await self._clock.sleep(HURRY if self._hurries else GLANCE)
            if self.is_auto and not self.fleet.asleep:
                await self._glance()

    async def _answer_door(self) -> None:
        """Start a replica for who comes while nothing runs."""
        while True:
            await self._door.rang.wait()
            self._door.rang.clear()
            if self.fleet.asleep and self.is_auto:
                self.resume()  # what it knew of idleness is over
                decision = Decision(1, "somebody came while it slept")
                none = tuple(None for _ in self.targets)
                self.changes.append(Decided(self._clock.wall(), 0, 0, none, (), decision))
                self._observer(Scaled(self.fleet.name, 0, 1, decision.reason))
                await self.fleet.scale(1, {})

    @property
    def _goes_by_requests(self) -> bool:
        return any(target.name == "requests" for target in self.targets)

    async def _look(self) -> None:
        sample = await self._sampler.look(self.fleet, self._scale)
        _, decided = self._decided(sample, self._figures, self._controller.look)
        self.looks.append(decided)
        await self._carry_out(decided, sample)

    async def _glance(self) -> None:
        """Out, if gateways alone say so; all else is for the next look."""
        controller = self._controller
        if not isinstance(controller, SurgeController):
            return
        sample = await self._sampler.glance(self.fleet)
        seen = self._glanced
        if seen and sample.at <= seen[-1].at:
            return  # what was said then says no more now
        seen.append(sample)
        while len(seen) > 2 and sample.at - seen[1].at >= GLANCE:
            seen.popleft()
        over = sample.at - seen[0].at
        figures = Figures(self._scale)
        figures.totals(seen[0].heard, seen[0].at)
        look, decided = self._decided(sample, figures, partial(controller.glance, over=over))
        self._hurries = decided.decision.desired < self.bounds.maximum and controller.hurries(look)
        if decided.decision.desired > decided.was:
            self.looks.append(decided)
            await self._carry_out(decided, sample)

    async def _carry_out(self, decided: Decided, sample: Sample) -> None:
        wanted = decided.decision.desired
        # Asked for by hand while we looked: that is a person's word.
        if wanted == decided.was or self.fleet.desired != decided.was or not self.is_auto:
            return
        self.changes.append(decided)
        self._observer(Scaled(self.fleet.name, decided.was, wanted, decided.decision.reason))
        heard = sample.heard.replicas
        busiest = {name: busy(told) for name, told in heard.items()}
        await self.fleet.scale(wanted, busiest, self._door)

    def _decided(
        self, sample: Sample, figures: Figures, decide: Callable[[Look, float], Decision]
    ) -> tuple[Look, Decided]:
        heard, now = sample.heard, sample.at
        current = self.fleet.desired
        totals = figures.totals(heard, now)
        look = Look(current, heard.ready, totals)
        decision = decide(look, now)
        decision = bounded_by_machine(current, decision, sample.machine)
        decision = held_unless_whole(current, decision, sample.unheard)
        idle = current - sum(held_by(told) > 0 for told in heard.replicas.values())
        decision = sparing_the_busy(current, decision, idle)
        unheard = tuple(sorted(sample.unheard))
        shed = figures.shed(heard, now)
        return look, Decided(
            self._clock.wall(), current, heard.ready, totals, unheard, decision, shed
        )


class Autoscaler:
    """All controllers of a project."""

    def __init__(
        self,
        fleets: Mapping[str, Fleet],
        specs: Mapping[str, ServiceSpec],
        sampler: Sampler,
        registrar: Registrar,
        *,
        observer: Observer,
        clock: Clock,
    ) -> None:
        self._services = frozenset(fleets)
        self._scalers = {
            name: ServiceScaler(
                *(fleet, specs[name], sampler, Door(registrar)), observer=observer, clock=clock
            )
            for name, fleet in fleets.items()
            if specs[name].scale
        }

    async def run(self) -> None:
        """Look and decide, until cancelled; one service's slow look holds up no other."""
        async with Tasks() as tasks:
            for name, scaler in self._scalers.items():
                tasks.start(scaler.run(), name=f"autoscaler of {name}")
            await tasks.join()

    def by_hand(self, service: str) -> bool:
        """Somebody scaled it: leave it alone from now on. Whether that changes anything."""
        scaler = self._scalers.get(service)
        changes = scaler is not None and scaler.is_auto
        if scaler is not None:
            scaler.is_auto = False
        return changes

    def resume(self, service: str) -> None:
        """Decide again, after somebody scaled by hand. Raises `Misconfigured`."""
        self._scaler(service).resume()

    def seen(self, service: str) -> Decided | None:
        """The last look at a service that scales by itself."""
        scaler = self._scalers.get(service)
        return scaler.looks[-1] if scaler is not None and scaler.looks else None

    def routes(self) -> Mapping[tuple[str, str], Answerer]:
        return {("GET", "/v1/scale/explain"): self.explain}

    async def explain(self, question: Question) -> Answer:
        """The last `n` decisions of the service `name`, and the last `n` that changed it."""
        scaler = self._scaler(question.one("name"))
        number = question.one("n", "20")
        if not number.isdecimal() or not 1 <= int(number) <= KEPT:
            raise Misconfigured(f"n is 1 to {KEPT}, not {number!r}")
        return explanation(scaler, int(number))

    def _scaler(self, service: str) -> ServiceScaler:
        scaler = self._scalers.get(service)
        if scaler is not None:
            return scaler
        if service not in self._services:
            known = ", ".join(sorted(self._services))
            raise Misconfigured(f"there is no service {service!r}", fix=f"one of {known}")
        raise Misconfigured(
            f"{service} is not scaled by itself",
            fix=f"declare [[services.{service}.scale]] with a metric and a target",
        )


def explanation(scaler: ServiceScaler, number: int) -> dict[str, Any]:
    """What `seawall scale explain` shows; the newest decision last."""
    return {
        "schema": "seawall.scale-explain/1",
        "service": scaler.fleet.name,
        "mode": "auto" if scaler.is_auto else "by hand",
        "policy": scaler.policy,
        "minimum": scaler.bounds.minimum,
        "maximum": scaler.bounds.maximum,
        "every_s": scaler.every,
        "replicas": scaler.fleet.desired,
        "ready": sum(replica.state is State.READY for replica in scaler.fleet.replicas),
        "targets": [{"metric": t.name, "each": t.each} for t in scaler.targets],
        "decisions": [decision_row(each, scaler.targets) for each in list(scaler.looks)[-number:]],
        "changes": [decision_row(each, scaler.targets) for each in list(scaler.changes)[-number:]],
    }


def decision_row(decided: Decided, targets: tuple[Target, ...]) -> dict[str, Any]:
    decision = decided.decision
    return {
        "at": round(decided.at, 3),
        "was": decided.was,
        "ready": decided.ready,
        "desired": decision.desired,
        "proposed": decision.proposed,
        "reason": decision.reason,
        "limits": [str(limit) for limit in decision.limits],
        "unheard": list(decided.unheard),
        "shed": None if decided.shed is None else round(decided.shed, 3),
        "metrics": {
            target.name: None if total is None else round(total, 3)
            for target, total in zip(targets, decided.totals, strict=True)
        },
    }
