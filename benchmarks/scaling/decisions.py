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
    cases: dict[str, Step] = {f"{name}, as simulated": _pilot(name) for name in PILOTS}
    cases |= {f"{name}, as it runs": _controller(name) for name in CONTROLLERS}
    cases["predictive"] = _predictive()
    return [_timed(name, step, rounds, looks) for name, step in cases.items()]


def _timed(name: str, step: Step, rounds: int, looks: int) -> Row:
    taken, now = [], 0.0
    for _ in range(rounds):
        began = time.process_time()
        for _ in range(looks):
            now += 1.0
            step(now)
        taken.append((time.process_time() - began) / looks * 1e6)
    return {"decision": name, "us": median(taken), "least": min(taken), "most": max(taken)}


def _pilot(name: str) -> Step:
    """What is offered rises and falls, so that no decision is always the same."""
    pilot, rng, totals = PILOTS[name](Model(), 1), Random(1), Totals()
    seen = Seen(Fleet([0.0] * READY), totals, 0.0)

    def step(now: float) -> object:
        offered = 70.0 * READY * rng.uniform(0.5, 1.5)
        totals.offered += offered
        totals.served += offered
        totals.busy += offered / 100.0
        totals.ready += READY
        totals.inside += offered * 0.05
        return pilot.look(seen, now)

    return step


def _controller(name: str) -> Step:
    controller = CONTROLLERS[name]([Target("requests", 70.0)], Bounds(minimum=1, maximum=200))
    rng = Random(1)

    def step(now: float) -> object:
        offered = 70.0 * READY * rng.uniform(0.5, 1.5)
        return controller.look(Look(READY, READY, (offered,)), now)

    return step


def _predictive() -> Step:
    kernel, rng = Predictive(each=70.0, maximum=200), Random(1)
    state = kernel.begin()

    def step(now: float) -> object:
        nonlocal state
        state, decision = kernel.decide(state, 70.0 * READY * rng.uniform(0.5, 1.5), now * 60.0)
        return decision

    return step
