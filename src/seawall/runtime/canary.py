"""A new version beside the old one: given a part of the requests, watched, then promoted or ended.

The processes of the trial are a fleet of their own, from a warm parent that has imported the code
as it is now; those of the service stay as they are. It goes on to its end when nobody listens.
"""

import asyncio
import math
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass

from seawall.concurrency.tasks import Tasks
from seawall.errors import Misconfigured, Refused, SeawallError
from seawall.runtime import canary_routes
from seawall.runtime.autoscaler_figures import Series
from seawall.runtime.canary_routes import CANARY, STABLE, Trial
from seawall.runtime.canary_verdict import NOTHING, Outcome, Verdict, judge
from seawall.runtime.counted import outcome
from seawall.runtime.fleet import Fleet, ready_again
from seawall.runtime.fleets import Fleets
from seawall.runtime.gateway_fleet import reload_all
from seawall.runtime.layout import Layout
from seawall.runtime.recipes import Recipe, canary_recipe
from seawall.runtime.registration import Registrar
from seawall.runtime.restart import State
from seawall.runtime.workshop import Workshop
from seawall.spec.project import Spec

# Between two looks: what a bad version fails meanwhile is lost.
_LOOK = 0.25  # seconds

# A process that is ready is registered within a heartbeat.
_REGISTERED_WITHIN = 10.0  # seconds

# A day; what is to be watched longer is no trial any more.
LONGEST = 86_400.0  # seconds

Gateways = Callable[[], Awaitable[Mapping[str, Series]]]


@dataclass(frozen=True, slots=True)
class Step:
    """How far a trial is: `verdict` so far, and why."""

    service: str
    version: str
    verdict: Verdict
    after: float  # seconds since it was asked for
    reason: str = ""
    stable: Outcome = NOTHING
    canary: Outcome = NOTHING
    last_words: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class TrialEnded:
    """A new version was promoted or rolled back."""

    service: str
    version: str
    verdict: Verdict
    reason: str


class _Ends(Exception):
    """The trial goes no further; it is rolled back for this reason."""


class Canaries:
    """The trials of a project, at most one of each service."""

    def __init__(
        self,
        spec: Spec,
        fleets: Fleets,
        workshop: Workshop,
        make: Callable[[str, Recipe], Fleet],
        registrar: Registrar,
        gateways: Gateways,
        tasks: Tasks,
    ) -> None:
        self._spec = spec
        self._fleets = fleets
        self._workshop = workshop
        self._make = make
        self._registrar = registrar
        self._gateways = gateways
        self._tasks = tasks
        self._observer = workshop.observer
        self._clock = workshop.clock
        self._layout: Layout = workshop.layout
        self._trials: dict[str, Trial] = {}
        self._running: set[str] = set()
        canary_routes.write(self._layout.canaries, {})  # of a supervisor that was killed

    async def run(self, service: str, share: float, watch: float) -> AsyncIterator[Step]:
        """Give the code as it is now `share` of the requests to `service` for `watch` seconds.

        Raises `Misconfigured` or `Refused` before anything was touched.
        """
        if not (0 < share < 1 and 0 < watch <= LONGEST):
            raise Misconfigured(
                f"a weight of {share:.0%} for {watch:g} s",
                fix=f"above 0 % and below 100 %, for at most {LONGEST:g} s",
            )
        if service not in self._fleets.services:
            raise Misconfigured(f"there is no service {service!r}", fix="seawall ps")
        if not self._fleets.gateway.replicas:
            raise Misconfigured("there is no gateway to share out requests", fix="seawall reload")
        canary_routes.check(self._spec, service)
        if service in self._running:
            raise Refused(f"a new version of {service} is on trial already")
        self._running.add(service)
        steps: asyncio.Queue[Step] = asyncio.Queue(8)  # at most three are told
        self._tasks.start(self._trial(service, share, watch, steps.put_nowait), name="canary")
        while (step := await steps.get()).verdict is Verdict.WATCH:
            yield step
        yield step

    async def _trial(
        self, service: str, share: float, watch: float, tell: Callable[[Step], None]
    ) -> None:
        began = self._clock.now()
        recipe = canary_recipe(service, self._spec.services[service], self._workshop)
        fleet = self._fleets.canaries[service] = self._make(f"{service}-{CANARY}", recipe)
        step = Step(service, "", Verdict.ROLL_BACK, 0.0)
        try:
            step = await self._watched(service, fleet, share, watch, tell)
            if step.verdict is Verdict.PROMOTE:
                await self._promote(service)
        except _Ends as why:
            words = fleet.snapshot()[0].last_words if fleet.replicas else ()
            step = Step(service, step.version, Verdict.ROLL_BACK, 0.0, str(why), last_words=words)
        finally:
            await self._end(service, fleet, recipe)
            after = self._clock.now() - began
            told = (step.version, step.verdict, after, step.reason, step.stable, step.canary)
            tell(Step(service, *told, step.last_words))
            self._observer(TrialEnded(service, step.version, step.verdict, step.reason))

    async def _watched(
        self,
        service: str,
        fleet: Fleet,
        share: float,
        watch: float,
        tell: Callable[[Step], None],
    ) -> Step:
        """The last step: whether it is promoted or rolled back."""
        version = await self._started(service, fleet, share)
        self._trials[service] = Trial(version, share)
        await self._share_out()
        began = self._clock.now()
        tell(Step(service, version, Verdict.WATCH, 0.0, f"{share:.1%} of the requests"))
        first = await self._outcomes(service)
        while True:
            await self._clock.sleep(_LOOK)
            now = await self._outcomes(service)
            old, new = now[0].since(first[0]), now[1].since(first[1])
            verdict, why = judge(old, new, self._clock.now() - began, watch)
            if any(replica.state is not State.READY for replica in fleet.replicas):
                verdict, why = Verdict.ROLL_BACK, "a process of it died"
            if verdict is not Verdict.WATCH:
                words = fleet.snapshot()[0].last_words
                return Step(service, version, verdict, 0.0, why, old, new, words)

    async def _started(self, service: str, fleet: Fleet, share: float) -> str:
        """Its version, once its processes are ready and registered."""
        for _ in range(max(1, math.ceil(share * self._fleets.services[service].desired))):
            fleet.add()
        fleet.run()
        for replica in fleet.replicas:
            if not await ready_again(replica, 0):
                told = replica.snapshot()
                raise _Ends(f"it did not become ready: {told.last_exit or told.reason}")
        names = {replica.place.instance_id for replica in fleet.replicas}
        until = self._clock.now() + _REGISTERED_WITHIN
        while self._clock.now() < until:
            here = [one for one in await self._registrar.read() if one.instance_id in names]
            if len(here) == len(names):
                return here[0].version
            await self._clock.sleep(_LOOK)
        raise _Ends(f"it was not registered within {_REGISTERED_WITHIN:g} s")

    async def _promote(self, service: str) -> None:
        """The service's own processes get the code, one after another, beside those on trial."""
        try:
            async for step in self._fleets.services[service].reload():
                if step.failed:
                    raise _Ends(f"{step.instance_id} did not become ready: {step.failed}")
        except Refused as refused:
            raise _Ends(str(refused)) from refused

    async def _end(self, service: str, fleet: Fleet, recipe: Recipe) -> None:
        """Nobody is sent to it any more; what it has begun, it ends."""
        self._trials.pop(service, None)
        # A gateway that does not answer finds that the arm has no instance.
        with suppress(_Ends, SeawallError):
            await self._share_out()
        await fleet.stop()
        recipe.end()
        self._fleets.canaries.pop(service, None)
        self._running.discard(service)

    async def _share_out(self) -> None:
        """Have every gateway do as the trials say."""
        await asyncio.to_thread(canary_routes.write, self._layout.canaries, self._trials)
        ready = [r for r in self._fleets.gateway.replicas if r.state is State.READY]
        names = [replica.place.instance_id for replica in ready]
        sockets = {name: self._layout.gateway_socket(name) for name in names}
        for row in await reload_all(sockets, dry_run=False):
            if not row["ok"]:
                raise _Ends(f"{row['instance']} did not follow: {row['error']['message']}")

    async def _outcomes(self, service: str) -> tuple[Outcome, Outcome]:
        """Of the old version and the new one, as all gateways have counted."""
        told = (await self._gateways()).values()
        mine = f'service="{service}"'
        arms = (f'arm="{STABLE}"', f'arm="{CANARY}"')
        return outcome(told, mine, arms[0]), outcome(told, mine, arms[1])
