"""One metric's proposal, by the test cases of Kubernetes' replica calculator."""

import json
from pathlib import Path
from typing import Any

import pytest

from seawall.errors import Misconfigured
from seawall.scaling.hpa import Hpa, HpaSamples, Kind, Metric, PodReadings, Reading
from seawall.scaling.hpa_metrics import (
    Phase,
    Pod,
    Proposal,
    Readiness,
    Tolerances,
    Unknown,
    Usage,
    group,
)

UPSTREAM = json.loads((Path(__file__).parent / "data" / "hpa_metrics.json").read_text())
NOW = 1e9
READINESS = Readiness(cpu_initialization=120.0, initial_delay=10.0)  # as in their tests
PHASES = {"R": Phase.RUNNING, "P": Phase.PENDING, "F": Phase.FAILED}
STARTED = {"-": 0.0, "c": NOW - 180.0, "h": NOW - 30.0}
Row = dict[str, Any]


def letters(row: Row, key: str, default: str, count: int) -> str:
    text: str = row.get(key, "")
    return text + default * (count - len(text))


def pods_of(row: Row) -> tuple[Pod, ...]:
    count = max(row["current"], len(row.get("phase", "")), len(row.get("deleted", "")))
    columns = zip(
        letters(row, "phase", "R", count),
        letters(row, "deleted", "-", count),
        letters(row, "ready", "T", count),
        letters(row, "age", "-", count),
        strict=True,
    )
    return tuple(
        Pod(f"pod-{n}", PHASES[phase], deleted == "D", ready == "T", 0.0, STARTED[age])
        for n, (phase, deleted, ready, age) in enumerate(columns)
    )


def proposal(row: Row, kind: Kind) -> Proposal:
    containers = row.get("containers", 2)
    pods = pods_of(row)
    reading: Reading = tuple(row["levels"])
    if kind in (Kind.UTILIZATION, Kind.PODS):
        each = containers if kind is Kind.UTILIZATION else 1
        names = row.get("names", [f"pod-{n}" for n in range(len(row["levels"]))])
        usages = {
            name: Usage(level * each, at=0.0)
            for name, level in zip(names, row["levels"], strict=True)
        }
        requests = row.get("requests", [])
        reading = PodReadings(
            usages, {f"pod-{n}": value * each for n, value in enumerate(requests)}
        )
    hpa = Hpa(
        (Metric("cpu" if kind is Kind.UTILIZATION else "qps", kind, row["target"]),),
        maximum=1000,
        tolerances=Tolerances(*row.get("tolerances", (0.1, 0.1))),
        readiness=READINESS,
    )
    return hpa.propose(hpa.metrics[0], reading, HpaSamples(row["current"], pods, ()), NOW)


def rows(key: str) -> list[Any]:
    return [pytest.param(row, id=row["name"]) for row in UPSTREAM[key]]


@pytest.mark.parametrize("row", rows("utilization"))
def test_utilization(row: Row) -> None:
    if "error" in row:
        with pytest.raises(Unknown, match=row["error"]):
            proposal(row, Kind.UTILIZATION)
        return
    got = proposal(row, Kind.UTILIZATION)
    assert [got.replicas, got.usage, got.raw] == row["want"]


@pytest.mark.parametrize("row", rows("pods"))
def test_metric_of_pods(row: Row) -> None:
    got = proposal(row, Kind.PODS)
    assert [got.replicas, got.usage] == row["want"]


@pytest.mark.parametrize("row", rows("value"))
def test_value(row: Row) -> None:
    got = proposal(row, Kind.VALUE)
    assert [got.replicas, got.usage] == row["want"]


@pytest.mark.parametrize("row", rows("average"))
def test_value_for_each_replica(row: Row) -> None:
    got = proposal(row, Kind.AVERAGE)
    assert [got.replicas, got.usage] == row["want"]


@pytest.mark.parametrize("row", rows("groups"))
def test_groups(row: Row) -> None:
    pods = [
        Pod(
            pod["name"],
            Phase[pod["phase"]],
            pod.get("deleted", False),
            pod.get("ready", True),
            pod.get("ready_changed", 0),
            pod.get("started", 0),
        )
        for pod in row["pods"]
    ]
    usages = {name: Usage(1, **said) for name, said in row["usages"].items()}
    got = group(pods, usages, 0.0, READINESS, row["cpu"])
    want = row["want"]
    assert got.ready == want["ready"]
    for key in ("unready", "missing", "ignored"):
        assert getattr(got, key) == set(want.get(key, []))


def test_from_zero_the_ratio_alone_counts() -> None:
    row = {"current": 0, "levels": [20000], "target": 15000}
    assert proposal(row, Kind.VALUE).replicas == 2
    assert proposal(row, Kind.AVERAGE).replicas == 2


def test_without_pods_only_a_change_is_unknown() -> None:
    hpa = Hpa((Metric("qps", Kind.VALUE, 1000),), maximum=10)
    nobody = HpaSamples(3, (), ())
    assert hpa.propose(hpa.metrics[0], (1000,), nobody, NOW).replicas == 3
    with pytest.raises(Unknown, match="no pods"):
        hpa.propose(hpa.metrics[0], (2000,), nobody, NOW)


def test_a_tolerance_is_not_negative() -> None:
    with pytest.raises(Misconfigured):
        Tolerances(up=-0.1)
