"""The model by what can be reckoned by hand, and the strategies by how they differ."""

from random import Random

import pytest

from seawall.errors import Misconfigured
from seawall.scaling.decision import Decision
from seawall.scaling.picture import sparkline, svg
from seawall.scaling.pilots import PILOTS, FixedPilot, SurgePilot
from seawall.scaling.predictive import Predictive
from seawall.scaling.simulate import Fleet, Model, Run, Seen, play
from seawall.scaling.trace import SHAPES, Trace

QUIET = Model(noise=False, spread=0.0)
FLAT = Trace("flat", 60.0, (700.0,) * 10)


def flies(name: str, trace: Trace, model: Model = QUIET, step: float = 1.0) -> Run:
    return play(trace, model, PILOTS[name](model, 1), Random(1), step)


class Plan:
    """Wants what it was told to, look after look."""

    every = 60.0

    def __init__(self, *wanted: int) -> None:
        self._wanted = list(wanted)

    def look(self, seen: Seen, now: float) -> Decision:
        wanted = self._wanted.pop(0) if self._wanted else seen.fleet.wanted
        return Decision(wanted, "planned", (), wanted)


def test_enough_replicas_fail_nobody() -> None:
    score = play(FLAT, QUIET, FixedPilot(10), Random(1), begin=10).score
    assert score.hours == pytest.approx(10 * 600 / 3600)
    assert (score.under_time, score.shed, score.violations, score.over_share) == (0, 0, 0, 0)
    assert score.p99 == pytest.approx(0.05)


def test_too_few_shed_what_they_cannot_do() -> None:
    score = play(FLAT, QUIET, FixedPilot(5), Random(1), begin=5).score
    assert score.under_time == 1.0
    assert score.under_share == pytest.approx(0.5)
    # 500 of 700 are served; the queue takes 250 once.
    assert score.shed == pytest.approx((200 * 600 - 250) / (700 * 600))
    assert score.longest_under == 600.0


def test_a_replica_serves_after_its_start_and_is_paid_from_the_first_moment() -> None:
    model = Model(noise=False, spread=0.0, start=30.0)
    run = play(FLAT, model, Plan(10), Random(1), begin=5)
    assert run.score.longest_under == pytest.approx(90.0, abs=1.0)
    assert run.score.hours == pytest.approx((5 * 60 + 10 * 540) / 3600, abs=0.01)


def test_changes_and_turns_are_counted() -> None:
    score = play(FLAT, QUIET, Plan(12, 14, 11, 11, 13), Random(1), begin=10).score
    assert score.changes == pytest.approx(4 * 6)
    assert score.reversals == pytest.approx(2 * 6)
    assert score.peak == 14


def test_those_that_leave_are_first_those_that_have_not_begun() -> None:
    fleet = Fleet([0.0, 1.0], [])
    fleet.become(4, QUIET, Random(1), 10.0)
    assert len(fleet.starting) == 2
    fleet.become(3, QUIET, Random(1), 11.0)
    assert (len(fleet.ready), len(fleet.starting)) == (2, 1)
    fleet.become(1, QUIET, Random(1), 12.0)
    assert (fleet.ready, fleet.starting) == ([0.0], [])


def test_what_comes_while_nobody_is_there_waits_up_to_a_bound() -> None:
    model = Model(noise=False, spread=0.0, parked=100.0)
    trace = Trace("t", 60.0, (10.0,))
    score = play(trace, model, Plan(), Random(1), begin=1).score
    assert score.shed == 0
    run = play(Trace("t", 60.0, (10.0,) * 3), model, Plan(0), Random(1), begin=1)
    assert run.score.shed == pytest.approx((1200 - 100) / 1800)


def test_a_picture_shows_the_most_of_each_part() -> None:
    trace = Trace("t", 1.0, (700.0,) * 900 + (1400.0,) + (700.0,) * 299)  # in parts of three
    run = play(trace, QUIET, Plan(12, 9), Random(1), begin=10)
    assert len(run.needed) == len(run.ready) == 400
    assert [run.needed[part] for part in (0, 299, 300, 301, 399)] == [10, 10, 15, 10, 10]
    # Asked for after 60 s, two more are ready after 70; of the part from 120 s on they are gone.
    assert [run.ready[part] for part in (0, 22, 23, 39, 40, 399)] == [10, 10, 12, 12, 9, 9]


def test_who_waits_is_told_of_all_steps() -> None:
    told: list[int] = []
    play(Trace("t", 60.0, (10.0,) * 17), QUIET, Plan(), Random(1), 0.5, 1, told.append)
    assert sum(told) == 2040
    assert len(told) > 300


def test_the_same_seed_gives_the_same_figures() -> None:
    model, trace = Model(), SHAPES["flash"](300.0, 5.0, 600.0)
    runs = [play(trace, model, SurgePilot(model), Random(seed)).score for seed in (3, 3, 4)]
    assert runs[0] == runs[1]
    assert runs[0] != runs[2]


@pytest.mark.parametrize("name", PILOTS)
def test_every_strategy_keeps_a_constant_load(name: str) -> None:
    score = flies(name, Trace("flat", 60.0, (710.0,) * 20)).score
    assert score.shed == 0
    assert score.reversals <= 3


def test_a_tenfold_step_is_borne_best_by_what_sees_the_load() -> None:
    trace = SHAPES["step"](700.0, 10.0, 1200.0)
    model = Model(noise=False, spread=0.0, start=0.3)
    runs = {name: flies(name, trace, model, 0.5).score for name in PILOTS}
    assert runs["surge"].longest_under <= 2.0
    assert runs["surge"].shed < runs["kpa"].shed < runs["keda"].shed < runs["hpa-cpu"].shed
    assert runs["hpa-cpu"].longest_under > 40 * runs["surge"].longest_under


def test_a_forecast_is_there_before_the_rush() -> None:
    day = Trace("day", 60.0, ((70.0,) * 10 + (2100.0,) * 5) * 3)
    model = Model(noise=False, spread=0.0, start=60.0)
    forecast = Predictive(each=70.0, maximum=100, season=900.0, slot=60.0, lead=60.0, buffer=60.0)
    alone = play(day, model, SurgePilot(model, every=2.0), Random(1)).score
    helped = play(day, model, SurgePilot(model, every=2.0, forecast=forecast), Random(1)).score
    assert helped.under_share < alone.under_share * 0.6


@pytest.mark.parametrize("step", [0.0, -1.0])
def test_time_goes_forward(step: float) -> None:
    with pytest.raises(Misconfigured):
        play(FLAT, QUIET, FixedPilot(1), Random(1), step)


def test_what_nobody_could_run_is_refused() -> None:
    with pytest.raises(Misconfigured, match="more than 10000 replicas"):
        play(Trace("t", 1.0, (1e9,)), QUIET, FixedPilot(1), Random(1))
    with pytest.raises(Misconfigured, match="in steps of"):
        play(FLAT, QUIET, FixedPilot(1), Random(1), step=1e-6)


@pytest.mark.parametrize(
    "said", [{"capacity": 0.0}, {"utilization": 1.5}, {"start": -1.0}, {"spread": 2.0}]
)
def test_a_model_that_makes_no_sense_is_refused(said: dict[str, float]) -> None:
    with pytest.raises(Misconfigured):
        Model(**said)


def test_a_row_of_bars_is_as_high_as_its_values() -> None:
    assert sparkline([0, 1, 2, 4], 4) == " ▂▄█"
    assert sparkline([1] * 100, 10) == "█" * 10
    assert sparkline([]) == ""


def test_a_picture_names_every_run_and_escapes_names() -> None:
    run = flies("surge", FLAT)
    drawn = svg("a <b>", {"surge": run, "kpa": run})
    assert drawn.startswith("<svg ")
    assert drawn.endswith("</svg>\n")
    assert "a &lt;b&gt;" in drawn
    assert "surge: 1.8 replica-hours" in drawn
