"""Microseconds of a decision: of each strategy with what it measures, and of kernels alone."""

import time
from collections.abc import Callable
from random import Random
from statistics import median

from benchmarks.report import Row
from seawall.scaling.controller import CONTROLLERS, Bounds, Look, Target
from seawall.scaling.pilots import PILOTS
from seawall.scaling.predictive import Predictive
from seawall.scaling.simulate import Fleet, Model, Seen, Totals

ROUNDS = 7
LOOKS = 2_000

READY = 50  # replicas: a HorizontalPodAutoscaler looks at each

Step = Callable[[float], object]


def measure(rounds: int = ROUNDS, looks: int = LOOKS) -> list[Row]:
    """`us` of CPU a look: the median of the rounds, with the least and the most."""
    cases = {f"{name}, as simulated": _pilot(name) for name in PILOTS}
    cases |= {f"{name}, as it runs": _controller(name) for name in CONTROLLERS}
    cases["predictive"] = (_predictive(), 1.0)
    return [_timed(name, step, every, rounds, looks) for name, (step, every) in cases.items()]


def _timed(name: str, step: Step, every: float, rounds: int, looks: int) -> Row:
    """Looks as far apart as they are: so long are the histories that are looked at."""
    taken, now = [], 0.0
    for _ in range(rounds):
        began = time.process_time()
        for _ in range(looks):
            now += every
            step(now)
        taken.append((time.process_time() - began) / looks * 1e6)
    return {"decision": name, "us": median(taken), "least": min(taken), "most": max(taken)}


def _pilot(name: str) -> tuple[Step, float]:
    """What is offered rises and falls, so that no decision is always the same."""
    pilot, rng, totals = PILOTS[name](Model(), 1), Random(1), Totals()
    seen = Seen(Fleet([0.0] * READY), totals, 0.0)

    def step(now: float) -> object:
        offered = 70.0 * READY * rng.uniform(0.5, 1.5)
        totals.offered += offered * pilot.every
        totals.served += offered * pilot.every
        totals.busy += offered * pilot.every / 100.0
        totals.ready += READY * pilot.every
        totals.inside += offered * pilot.every * 0.05
        return pilot.look(seen, now)

    return step, pilot.every


def _controller(name: str) -> tuple[Step, float]:
    controller = CONTROLLERS[name]([Target("requests", 70.0)], Bounds(minimum=1, maximum=200))
    rng = Random(1)

    def step(now: float) -> object:
        offered = 70.0 * READY * rng.uniform(0.5, 1.5)
        return controller.look(Look(READY, READY, (offered,)), now)

    return step, controller.every


def _predictive() -> Step:
    kernel, rng = Predictive(each=70.0, maximum=200), Random(1)
    state = kernel.begin()

    def step(now: float) -> object:
        nonlocal state
        state, decision = kernel.decide(state, 70.0 * READY * rng.uniform(0.5, 1.5), now * 60.0)
        return decision

    return step
