"""Strategies at the controls of the simulator: each measures as its platform would, then decides.

What a strategy sees and when is half of what it can do: a HorizontalPodAutoscaler looks each 15
seconds at CPU that is older than that, Knative each 2 seconds at what is inside, ours twice a
second at what is offered. The kernels are those of the autoscaler.
"""

from bisect import bisect_right
from collections import deque
from collections.abc import Callable
from operator import itemgetter
from typing import NamedTuple

from seawall.scaling.combine import with_floor
from seawall.scaling.decision import Decision
from seawall.scaling.hpa import Hpa, HpaSamples, Kind, Metric, PodReadings
from seawall.scaling.hpa_metrics import Phase, Pod, Usage
from seawall.scaling.keda import Keda, KedaSamples, Trigger
from seawall.scaling.kpa import Kpa, KpaSamples
from seawall.scaling.predictive import Predictive
from seawall.scaling.simulate import MOST_REPLICAS, Fleet, Model, Pilot, Seen, Totals
from seawall.scaling.surge import Surge, SurgeSamples
from seawall.scaling.tracking import TargetTracking, TrackingSamples

# From a container's use of CPU to the autoscaler, in kubernetes#110317: the kubelet's 10 s old
# figure is scraped each 30 s, as a mean of the time between.
KUBELET = 10.0
SCRAPE = 30.0

# Of the load, for which surge keeps room: a replica takes its time to start. A week of a real trace
# was short for a third less of the time, and took a fourth of a hundredth more of hours.
SPARE = 0.0025


class Window(NamedTuple):
    """The totals with which it began and ended."""

    seconds: float
    then: Totals
    later: Totals


class Meter:
    """Totals of the past, so that any window that ended a while ago has a mean."""

    def __init__(self, reach: float) -> None:
        self._reach = reach
        self._past: deque[tuple[float, Totals]] = deque([(0.0, Totals())])

    def note(self, totals: Totals, now: float) -> None:
        self._past.append((now, totals.copy()))
        while len(self._past) > 2 and self._past[1][0] <= now - self._reach:
            self._past.popleft()

    def at(self, when: float) -> tuple[float, Totals]:
        """The newest totals that are not younger."""
        newest = self._past[-1]
        if newest[0] <= when:
            return newest
        return self._past[max(0, bisect_right(self._past, when, key=itemgetter(0)) - 1)]

    def rate(self, of: Callable[[Totals], float], begin: float, end: float) -> float | None:
        """How fast something grew in between; None where nothing was seen."""
        found = self.between(begin, end)
        return None if found is None else (of(found.later) - of(found.then)) / found.seconds

    def between(self, begin: float, end: float) -> "Window | None":
        """None where nothing was seen."""
        first, then = self.at(begin)
        last, later = self.at(end)
        return Window(last - first, then, later) if last > first else None


def _busy(totals: Totals) -> float:
    return totals.busy


def _ready(totals: Totals) -> float:
    return totals.ready


def _offered(totals: Totals) -> float:
    return totals.offered


def _served(totals: Totals) -> float:
    return totals.served


def _inside(totals: Totals) -> float:
    return totals.inside


class Pods:
    """A fleet as a HorizontalPodAutoscaler sees it: made when it changed, not at each look."""

    def __init__(self) -> None:
        self._since: list[float] = []
        self.ready: tuple[Pod, ...] = ()
        self.starting: tuple[Pod, ...] = ()

    def follow(self, fleet: Fleet) -> tuple[Pod, ...]:
        """All of them, ready ones first."""
        if fleet.ready != self._since:
            self._since = fleet.ready.copy()
            self.ready = tuple(_pod(number, at) for number, at in enumerate(self._since))
        if len(fleet.starting) != len(self.starting):
            numbers = range(len(fleet.starting))
            self.starting = tuple(Pod(f"s{number}", Phase.PENDING) for number in numbers)
        return self.ready + self.starting


def _pod(number: int, at: float) -> Pod:
    return Pod(f"r{number}", Phase.RUNNING, False, True, at, at)


class HpaCpuPilot:
    """A HorizontalPodAutoscaler on CPU, whose figure stops at all of it."""

    every = 15.0

    def __init__(self, model: Model, minimum: int = 1) -> None:
        target = round(100 * model.utilization)
        self._hpa = Hpa(
            (Metric("cpu", Kind.UTILIZATION, target),), maximum=MOST_REPLICAS, minimum=minimum
        )
        self._state = self._hpa.begin()
        self._meter = Meter(KUBELET + 2 * SCRAPE)
        self._pods = Pods()

    def look(self, seen: Seen, now: float) -> Decision:
        self._meter.note(seen.totals, now)
        end = (now - KUBELET) // SCRAPE * SCRAPE
        busy = self._meter.rate(_busy, end - SCRAPE, end)
        ready = self._meter.rate(_ready, end - SCRAPE, end)
        each = 1000 * busy / ready if busy is not None and ready else None
        pods = self._pods.follow(seen.fleet)
        usages = {}
        if each is not None:
            usage = Usage(int(each), end, SCRAPE)  # load is spread perfectly
            usages = {pod.name: usage for pod in self._pods.ready if pod.ready_changed <= end}
        reading = PodReadings(usages, dict.fromkeys([pod.name for pod in pods], 1000))
        samples = HpaSamples(seen.fleet.wanted, pods, (reading,))
        self._state, decision = self._hpa.decide(self._state, samples, now)
        return decision


class HpaRatePilot:
    """A HorizontalPodAutoscaler on the requests that each pod served, scraped each 15 seconds."""

    every = 15.0

    def __init__(self, model: Model, minimum: int = 1) -> None:
        target = round(1000 * model.capacity * model.utilization)
        self._hpa = Hpa(
            (Metric("requests", Kind.PODS, target),), maximum=MOST_REPLICAS, minimum=minimum
        )
        self._state = self._hpa.begin()
        self._meter = Meter(45.0)
        self._pods = Pods()

    def look(self, seen: Seen, now: float) -> Decision:
        self._meter.note(seen.totals, now)
        served = self._meter.rate(_served, now - 15.0, now)
        ready = self._meter.rate(_ready, now - 15.0, now)
        pods = self._pods.follow(seen.fleet)
        usages = {}
        if served is not None and ready:
            each = Usage(int(1000 * served / ready), now)
            usages = {pod.name: each for pod in self._pods.ready}
        samples = HpaSamples(seen.fleet.wanted, pods, (PodReadings(usages),))
        self._state, decision = self._hpa.decide(self._state, samples, now)
        return decision


class KedaPilot:
    """KEDA on what is offered, as the gateway counts it."""

    every = 15.0

    def __init__(self, model: Model, minimum: int = 1) -> None:
        target = model.capacity * model.utilization
        self._keda = Keda(
            triggers=(Trigger("offered", target),), maximum=MOST_REPLICAS, minimum=minimum
        )
        self._state = self._keda.begin()
        self._meter = Meter(60.0)

    def look(self, seen: Seen, now: float) -> Decision:
        self._meter.note(seen.totals, now)
        offered = self._meter.rate(_offered, now - 15.0, now)
        samples = KedaSamples(seen.fleet.wanted, (offered,))
        self._state, decision = self._keda.decide(self._state, samples, now)
        return decision


class KpaPilot:
    """Knative's autoscaler on what is inside, waiting requests among it."""

    every = 2.0

    def __init__(self, model: Model, minimum: int = 1) -> None:
        bears = model.capacity * model.took  # at once, by Little's law
        self._kpa = Kpa(
            target=bears * model.utilization, capacity=bears, minimum=minimum, maximum=MOST_REPLICAS
        )
        self._state = self._kpa.begin()
        self._meter = Meter(self._kpa.stable_window + 2.0)

    def look(self, seen: Seen, now: float) -> Decision:
        self._meter.note(seen.totals, now)
        stable = self._meter.rate(_inside, now - self._kpa.stable_window, now)
        panic = self._meter.rate(_inside, now - self._kpa.stable_window / 10, now)
        samples = KpaSamples(len(seen.fleet.ready), stable, panic)
        self._state, decision = self._kpa.decide(self._state, samples, now)
        return decision


class TrackingPilot:
    """AWS's target tracking on requests for each replica, a point a minute."""

    every = 60.0

    def __init__(self, model: Model, minimum: int = 1) -> None:
        self._tracking = TargetTracking(
            target=model.capacity * model.utilization, minimum=minimum, maximum=MOST_REPLICAS
        )
        self._state = self._tracking.begin()
        self._meter = Meter(120.0)

    def look(self, seen: Seen, now: float) -> Decision:
        self._meter.note(seen.totals, now)
        offered = self._meter.rate(_offered, now - 60.0, now)
        ready = self._meter.rate(_ready, now - 60.0, now)
        each = offered / ready if offered is not None and ready else None
        starting = len(seen.fleet.starting)
        samples = TrackingSamples(seen.fleet.wanted, each, starting)
        self._state, decision = self._tracking.decide(self._state, samples, now)
        return decision


class SurgePilot:
    """Ours, on what is offered and what waits."""

    def __init__(
        self, model: Model, minimum: int = 1, every: float = 0.5, forecast: Predictive | None = None
    ) -> None:
        self.every = every
        self._surge = Surge(
            capacity=model.capacity,
            utilization=model.utilization,
            lead=model.start + every,
            spare=SPARE,
            minimum=minimum,
            maximum=MOST_REPLICAS,
        )
        self._state = self._surge.begin()
        self._meter = Meter(2 * every)
        self._forecast = forecast
        self._known = None if forecast is None else forecast.begin()

    def look(self, seen: Seen, now: float) -> Decision:
        self._meter.note(seen.totals, now)
        window = self._meter.between(now - self.every, now)
        offered = served = busy = None
        if window is not None:
            seconds, then, later = window
            offered = (later.offered - then.offered) / seconds
            served = (later.served - then.served) / seconds
            ready = (later.ready - then.ready) / seconds
            busy = (later.busy - then.busy) / seconds / ready if ready else None
        samples = SurgeSamples(
            *(seen.fleet.wanted, len(seen.fleet.ready), offered, seen.waiting, served, busy)
        )
        self._state, decision = self._surge.decide(self._state, samples, now)
        if self._forecast is None or self._known is None or offered is None:
            return decision
        self._known, floor = self._forecast.decide(self._known, offered, now)
        return with_floor(decision, floor.desired, floor.reason, MOST_REPLICAS)


class FixedPilot:
    """As many as ever, which is what there is without autoscaling."""

    every = 3600.0

    def __init__(self, replicas: int) -> None:
        self._decision = Decision(replicas, "fixed", (), replicas)

    def look(self, seen: Seen, now: float) -> Decision:
        return self._decision


PILOTS: dict[str, Callable[[Model, int], Pilot]] = {
    "hpa-cpu": HpaCpuPilot,
    "hpa-rps": HpaRatePilot,
    "keda": KedaPilot,
    "kpa": KpaPilot,
    "tracking": TrackingPilot,
    "surge": SurgePilot,
}
