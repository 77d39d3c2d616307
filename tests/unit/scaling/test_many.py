"""Many services at once score what each of them scores alone, to the bit."""

from collections.abc import Sequence
from random import Random

import numpy as np
import pytest

from seawall.errors import Misconfigured
from seawall.scaling.helms import HELMS
from seawall.scaling.many import Counts, Drawn, Floats, play_many
from seawall.scaling.pilots import PILOTS
from seawall.scaling.simulate import Model, play
from seawall.scaling.trace import SHAPES, Trace


class Apart:
    """The chance that each service has alone."""

    def __init__(self, seeds: Sequence[int]) -> None:
        self._rngs = [Random(seed) for seed in seeds]

    def normal(self, means: Floats) -> Floats:
        pairs = zip(self._rngs, means, strict=True)
        return np.array([rng.gauss(0.0, 1.0) if mean > 0 else 0.0 for rng, mean in pairs])

    def uniform(self, counts: Counts) -> Floats:
        pairs = zip(self._rngs, counts, strict=True)
        return np.array([rng.uniform(-1, 1) for rng, count in pairs for _ in range(count)])


def wild(seed: int, rows: int = 60, step: float = 10.0) -> Trace:
    """Ten minutes of steps, pauses and floods."""
    rng = Random(seed)
    kinds = (lambda: 0.0, lambda: rng.uniform(1, 300), lambda: rng.uniform(300, 9000))
    rates: list[float] = []
    while len(rates) < rows:
        rates += [rng.choice(kinds)()] * rng.randint(1, 12)
    return Trace(f"wild {seed}", step, tuple(rates[:rows]))


MODELS = {
    "pods": Model(),
    "replicas": Model(start=0.3, queue=2.0),
    "at once": Model(start=0.0, spread=0.0, noise=False),
    "slow": Model(start=45.0, spread=1.0, capacity=37.0, utilization=0.6, took=0.3),
}


@pytest.mark.parametrize("model", MODELS.values(), ids=MODELS)
@pytest.mark.parametrize("name", HELMS)
def test_each_scores_what_it_scores_alone(name: str, model: Model) -> None:
    seeds = range(6)
    traces = [wild(seed) for seed in seeds]
    step = 0.5 if model.start < 1 else 1.0
    together = play_many(traces, model, HELMS[name](model, 1), Apart(seeds), step)
    for seed, trace, score in zip(seeds, traces, together, strict=True):
        alone = play(trace, model, PILOTS[name](model, 1), Random(seed), step).score
        assert score == alone


@pytest.mark.parametrize("name", HELMS)
def test_so_does_one_under_a_made_up_load_with_a_minimum(name: str) -> None:
    model, trace = Model(), SHAPES["step"](500.0, 10.0, 600.0)
    (score,) = play_many([trace], model, HELMS[name](model, 3), Apart([1]))
    assert score == play(trace, model, PILOTS[name](model, 3), Random(1)).score


def test_the_same_seed_gives_the_same_figures() -> None:
    model, traces = Model(), [wild(seed, rows=12) for seed in range(3)]
    one, other = (play_many(traces, model, HELMS["surge"](model, 1), Drawn(7)) for _ in "12")
    assert one == other
    assert len({score.p99 + score.hours for score in one}) > 1


def test_services_of_different_days_are_not_played_together() -> None:
    model, helm = Model(), HELMS["surge"](Model(), 1)
    with pytest.raises(Misconfigured, match="different lengths"):
        play_many([wild(1, rows=5), wild(2, rows=6)], model, helm, Drawn(1))
    with pytest.raises(Misconfigured, match=r"steps of 0\.3"):
        play_many([wild(1)], model, helm, Drawn(1), 0.3)
    with pytest.raises(Misconfigured, match="0 services"):
        play_many([], model, helm, Drawn(1))
