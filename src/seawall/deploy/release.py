"""A release: compare, apply, watch the rollout and the error budget, and go back by itself.

It talks to a `Cluster` and waits on a `Clock`, and so is tested without either. To go back is to
apply what was applied before: configuration, policies and autoscalers go back as well as images.
"""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from seawall.clock import Clock
from seawall.deploy.error_budget import Counted, ErrorBudget, counted
from seawall.deploy.naming import Object
from seawall.deploy.rollout import Rollout, rollout
from seawall.errors import NotSent, Refused, Unavailable
from seawall.facts import Observer


class Stage(StrEnum):
    COMPARING = "comparing"
    APPLYING = "applying"
    ROLLING = "rolling out"
    OBSERVING = "observing"
    RESTORING = "restoring"
    UNCHANGED = "unchanged"
    RELEASED = "released"
    RESTORED = "restored"
    STUCK = "stuck"


class Event(StrEnum):
    SAME = "same"
    DONE = "done"
    FAILED = "failed"


TRANSITIONS: Mapping[tuple[Stage, Event], Stage] = {
    (Stage.COMPARING, Event.SAME): Stage.UNCHANGED,
    (Stage.COMPARING, Event.DONE): Stage.APPLYING,
    (Stage.APPLYING, Event.DONE): Stage.ROLLING,
    (Stage.APPLYING, Event.FAILED): Stage.RESTORING,
    (Stage.ROLLING, Event.DONE): Stage.OBSERVING,
    (Stage.ROLLING, Event.FAILED): Stage.RESTORING,
    (Stage.OBSERVING, Event.DONE): Stage.RELEASED,
    (Stage.OBSERVING, Event.FAILED): Stage.RESTORING,
    (Stage.RESTORING, Event.DONE): Stage.RESTORED,
    (Stage.RESTORING, Event.FAILED): Stage.STUCK,
}

ENDS = frozenset({Stage.UNCHANGED, Stage.RELEASED, Stage.RESTORED, Stage.STUCK})


class Cluster(Protocol):
    """Where objects are kept. Every method raises `Unavailable` when it cannot be asked now, and
    `Refused` where it says no."""

    async def diff(self, objects: Sequence[Object]) -> str:
        """What applying them would change, as text; "" for nothing."""

    async def before(self, objects: Sequence[Object]) -> Sequence[Object]:
        """Of those that exist, each as it was last applied."""

    async def apply(self, objects: Sequence[Object]) -> None: ...

    async def deployments(self) -> Sequence[Object]: ...

    async def pods(self) -> Sequence[Object]: ...

    async def metrics(self, pod: str) -> str | None:
        """What a gateway's pod counts; None if it does not tell."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ReleaseConfig:
    within: float = 600.0  # seconds for the rollout, and again for going back
    observe: float = 60.0  # seconds in which the error budget is watched after it
    every: float = 2.0  # seconds between two looks
    allowed: float = 0.01  # share of requests that may fail
    least: int = 50  # requests; of fewer a share says nothing


@dataclass(frozen=True, slots=True)
class StageBegan:
    stage: Stage
    why: str


@dataclass(frozen=True, slots=True)
class Compared:
    """What applying will change, as the cluster tells it."""

    difference: str


@dataclass(frozen=True, slots=True)
class RolloutMoved:
    rollout: Rollout


@dataclass(frozen=True, slots=True)
class Report:
    """How it ended: `why`, and what was counted; `created` are objects that were not there
    before, which going back leaves. `is_counted` says whether a gateway told its requests."""

    stage: Stage
    why: str
    requests: int
    errors: int
    is_counted: bool
    created: tuple[str, ...] = ()


class Release:
    """One release of `objects`. Run it once."""

    def __init__(
        self,
        cluster: Cluster,
        objects: Sequence[Object],
        config: ReleaseConfig,
        *,
        gateway: str,
        observer: Observer,
        clock: Clock,
    ) -> None:
        self._cluster = cluster
        self._objects = objects
        self._config = config
        self._gateway = gateway
        self._observer = observer
        self._clock = clock
        self._names = {o["metadata"]["name"] for o in objects if o["kind"] == "Deployment"}
        self._budget = ErrorBudget(config.allowed, config.least)
        self._before: Sequence[Object] = ()
        self._old: set[str] = set()
        self._is_counted = False
        self._stage = Stage.COMPARING
        self._said = ""
        self._steps = {
            Stage.COMPARING: self._compare,
            Stage.APPLYING: self._apply,
            Stage.ROLLING: self._roll,
            Stage.OBSERVING: self._observe,
            Stage.RESTORING: self._restore,
        }

    async def run(self) -> Report:
        """Until it is released, or all is as it was. Raises what the cluster raises before
        anything was changed."""
        self._observer(StageBegan(self._stage, ""))
        why, failure = "", ""
        while self._stage not in ENDS:
            event, why = await self._steps[self._stage]()
            if event is Event.FAILED and not failure:
                failure = why
            self._stage = TRANSITIONS[self._stage, event]
            self._observer(StageBegan(self._stage, why))
        there = {_name(each) for each in self._before}
        created = tuple(_name(o) for o in self._objects if _name(o) not in there)
        return Report(
            self._stage,
            "; ".join(filter(None, (failure, why if why != failure else ""))),
            int(self._budget.requests),
            int(self._budget.errors),
            self._is_counted,
            created if self._stage is not Stage.UNCHANGED else (),
        )

    async def _compare(self) -> tuple[Event, str]:
        difference = await self._cluster.diff(self._objects)
        if not difference:
            return Event.SAME, "the cluster is as declared"
        self._observer(Compared(difference))
        self._before = await self._cluster.before(self._objects)
        await self._cluster.deployments()  # who may not look must not begin
        pods = await self._cluster.pods()
        self._old = {pod["metadata"]["name"] for pod in pods}
        self._budget.begin(await self._counts(pods))
        return Event.DONE, ""

    async def _apply(self) -> tuple[Event, str]:
        try:
            await self._cluster.apply(self._objects)
        except (Unavailable, Refused) as exc:
            return Event.FAILED, str(exc)
        return Event.DONE, ""

    async def _roll(self) -> tuple[Event, str]:
        return await self._rolled_out(self._names, watched=True)

    async def _observe(self) -> tuple[Event, str]:
        until = self._clock.now() + self._config.observe
        while self._clock.now() < until:
            await self._clock.sleep(self._config.every)
            if (seen := await self._look(self._names)) is not None and seen.broken:
                return Event.FAILED, "; ".join(seen.broken)
            if self._budget.is_spent:
                return Event.FAILED, str(self._budget)
        return Event.DONE, str(self._budget)

    async def _restore(self) -> tuple[Event, str]:
        """What was applied before, once more; pods that broke are none of its business."""
        if not self._before:
            return Event.FAILED, "nothing was applied before that one could go back to"
        try:
            await self._cluster.apply(self._before)
            self._old = {pod["metadata"]["name"] for pod in await self._cluster.pods()}
        except (Unavailable, Refused) as exc:
            return Event.FAILED, str(exc)
        names = {o["metadata"]["name"] for o in self._before if o["kind"] == "Deployment"}
        return await self._rolled_out(names, watched=False)

    async def _rolled_out(self, names: set[str], *, watched: bool) -> tuple[Event, str]:
        until = self._clock.now() + self._config.within
        seen: Rollout | None = None
        while self._clock.now() < until:
            await self._clock.sleep(self._config.every)
            seen = await self._look(names) or seen
            if seen is None:
                continue
            if seen.broken:
                return Event.FAILED, "; ".join(seen.broken)
            if watched and self._budget.is_spent:
                return Event.FAILED, str(self._budget)
            if seen.is_done:
                return Event.DONE, ""
        waited = f"not rolled out within {self._config.within:g} s"
        return Event.FAILED, f"{waited}: {seen}" if seen else f"{waited}: nothing was seen of it"

    async def _look(self, names: set[str]) -> Rollout | None:
        """None where the cluster cannot be asked now: that is no reason to go back."""
        try:
            pods = await self._cluster.pods()
            seen = rollout(await self._cluster.deployments(), pods, names, self._old)
            self._budget.note(await self._counts(pods))
        except (NotSent, Refused):
            return None
        if str(seen) != self._said:
            self._said = str(seen)
            self._observer(RolloutMoved(seen))
        return seen

    async def _counts(self, pods: Sequence[Object]) -> dict[str, Counted]:
        names = [pod["metadata"]["name"] for pod in pods if self._is_gateway(pod)]
        texts = await asyncio.gather(*map(self._cluster.metrics, names))
        told = zip(names, texts, strict=True)
        found = {name: counted(text) for name, text in told if text is not None}
        self._is_counted = self._is_counted or bool(found)
        return found

    def _is_gateway(self, pod: Object) -> bool:
        """One that runs, so that it can be asked."""
        name = pod["metadata"].get("labels", {}).get("app.kubernetes.io/name")
        return bool(name == self._gateway and pod.get("status", {}).get("phase") == "Running")


def _name(made: Object) -> str:
    return f"{made['kind']}/{made['metadata']['name']}"
