"""KEDA's ScaledJob by its own test cases, and by its laws."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seawall.errors import Misconfigured
from seawall.scaling.keda_jobs import Calculation, JobsSamples, Queue, ScaledJob, Strategy

# Few examples: each plays many looks, and the suite is to stay quick.
LAW = settings(max_examples=25, deadline=None)

UPSTREAM = json.loads((Path(__file__).parent / "data" / "keda.json").read_text())["jobs"]
Row = dict[str, Any]


@pytest.mark.parametrize("row", [pytest.param(row, id=row["name"]) for row in UPSTREAM])
def test_upstream(row: Row) -> None:
    job = ScaledJob(
        maximum=row["maximum"],
        minimum=row.get("minimum", 0),
        strategy=Strategy(row["strategy"]),
        deduction=row.get("deduction", 0),
        share=row.get("share", 0.0),
    )
    got = job.effective(row["most"], row["running"], row["pending"], row.get("up_to", 1))
    assert list(got) == row["want"]


# By reading IsScaledJobActive: what several triggers ask for together.
QUEUES = (Queue(20, 2), Queue(5, 1), Queue(9, 3), Queue(100, 1, is_active=False))


@pytest.mark.parametrize(
    ("calculation", "want"),
    [
        (Calculation.MAX, (True, 20, 10)),
        (Calculation.MIN, (True, 5, 5)),
        (Calculation.AVERAGE, (True, 12, 6)),
        (Calculation.SUM, (True, 34, 18)),
    ],
)
def test_several_triggers(calculation: Calculation, want: tuple[bool, int, int]) -> None:
    assert ScaledJob(calculation=calculation).wanted(QUEUES) == want


def test_no_trigger_wakes_nobody_unless_there_is_a_minimum() -> None:
    idle = (Queue(0, 1, is_active=False),)
    assert ScaledJob().decide(JobsSamples(idle, 0, 0)).begin == 0
    assert ScaledJob().wanted((Queue(0, 1),)) == (False, 0, 0)
    assert ScaledJob(minimum=2).decide(JobsSamples(idle, 0, 0)).begin == 2


def test_a_decision_says_what_it_saw() -> None:
    decision = ScaledJob().decide(JobsSamples((Queue(7, 2),), 1, 1))
    assert decision.begin == 3
    assert decision.reason == "7 waiting, 1 running, 1 of them pending"


@LAW
@given(
    st.sampled_from(Strategy),
    st.floats(0, 1000),
    st.integers(0, 50),
    st.integers(0, 50),
    st.integers(1, 50),
)
def test_never_more_than_the_queue_or_the_maximum_asks_for(
    strategy: Strategy, length: float, running: int, pending: int, maximum: int
) -> None:
    job = ScaledJob(maximum=maximum, strategy=strategy)
    begin = job.decide(JobsSamples((Queue(length, 1),), running, min(pending, running))).begin
    assert 0 <= begin <= min(maximum, length + 1)


def test_what_makes_no_sense_is_refused() -> None:
    with pytest.raises(Misconfigured):
        ScaledJob(minimum=2, maximum=1)
    with pytest.raises(Misconfigured):
        Queue(1, 0)
