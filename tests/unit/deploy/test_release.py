"""A release: every stage and event, and a cluster on which each of them happens."""

from collections.abc import Callable, Sequence
from itertools import product
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seawall.clock import SYSTEM
from seawall.deploy.error_budget import Counted, ErrorBudget, counted
from seawall.deploy.naming import Object
from seawall.deploy.release import (
    ENDS,
    TRANSITIONS,
    Event,
    Release,
    ReleaseConfig,
    Report,
    Stage,
)
from seawall.deploy.rollout import progress, rollout
from seawall.errors import Refused, Unavailable


def deployment(name: str = "orders", wanted: int = 2, **status: Any) -> Object:
    whole = {"replicas": wanted, "updatedReplicas": wanted, "availableReplicas": wanted}
    return {
        "kind": "Deployment",
        "metadata": {"name": name, "generation": 3},
        "spec": {"replicas": wanted},
        "status": {"observedGeneration": 3, **whole, **status},
    }


def pod(name: str = "orders-new", reason: str = "", restarts: int = 0, **labels: str) -> Object:
    state = {"waiting": {"reason": reason}} if reason else {"running": {}}
    return {
        "metadata": {"name": name, "labels": labels},
        "status": {
            "phase": "Running",
            "containerStatuses": [{"state": state, "restartCount": restarts}],
        },
    }


def test_every_stage_that_is_no_end_has_somewhere_to_go() -> None:
    for stage, event in product(Stage, Event):
        assert not (stage in ENDS and (stage, event) in TRANSITIONS)
    begins = {stage for stage, _ in TRANSITIONS}
    assert begins == set(Stage) - ENDS
    # Whatever was changed is put back, or it is said that it is not.
    failed = {stage: to for (stage, event), to in TRANSITIONS.items() if event is Event.FAILED}
    assert failed == {
        Stage.APPLYING: Stage.RESTORING,
        Stage.ROLLING: Stage.RESTORING,
        Stage.OBSERVING: Stage.RESTORING,
        Stage.RESTORING: Stage.STUCK,
    }


@pytest.mark.parametrize(
    ("status", "done"),
    [
        ({}, True),
        ({"observedGeneration": 2}, False),  # the controller has not seen it yet
        ({"updatedReplicas": 1}, False),
        ({"replicas": 3}, False),  # an old one still ends
        ({"availableReplicas": 1}, False),
    ],
)
def test_done_is_what_kubectl_calls_so(status: dict[str, int], done: bool) -> None:
    assert progress(deployment(**status)).is_done is done


def test_one_that_sleeps_is_done() -> None:
    asleep = {"kind": "Deployment", "metadata": {"name": "mails"}, "spec": {"replicas": 0}}
    assert progress(asleep).is_done


def test_what_waiting_does_not_mend_is_told_at_once() -> None:
    def broken(*pods: Object) -> tuple[str, ...]:
        return rollout([deployment()], pods, {"orders"}, {"orders-old"}).broken

    assert broken(pod()) == ()
    assert broken(pod(reason="ImagePullBackOff")) == ("orders-new: ImagePullBackOff",)
    assert broken(pod(reason="CrashLoopBackOff", restarts=1)) == ()  # it may wait for something
    assert broken(pod(reason="CrashLoopBackOff", restarts=3)) != ()
    assert broken(pod("orders-old", reason="ImagePullBackOff")) == ()  # not this release's
    late = {"type": "Progressing", "reason": "ProgressDeadlineExceeded", "message": "too late"}
    made = rollout([deployment(conditions=[late])], [], {"orders"}, set())
    assert made.broken == ("orders: too late",)


def test_a_deployment_that_is_not_there_is_waited_for() -> None:
    seen = rollout([deployment("other")], [], {"orders"}, set())
    assert not seen.is_done
    assert str(seen) == "orders 0/1"


def test_only_servers_errors_count() -> None:
    text = "\n".join(
        [
            "# TYPE http_server_request_duration_seconds histogram",
            'http_server_request_duration_seconds_count{http_response_status_code="200"} 90',
            'http_server_request_duration_seconds_count{http_response_status_code="404"} 5',
            'http_server_request_duration_seconds_count{http_response_status_code="503"} 5',
            'http_server_request_duration_seconds_sum{http_response_status_code="503"} 9',
            "http_server_request_duration_seconds_count{broken",
        ]
    )
    assert counted(text) == Counted(100, 5)


def test_a_budget_counts_growth_of_gateways_that_come_and_go() -> None:
    budget = ErrorBudget(allowed=0.01, least=50)
    budget.begin({"old": Counted(1000, 900)})
    budget.note({"old": Counted(1040, 900), "new": Counted(5, 1)})
    assert (budget.requests, budget.errors, budget.is_spent) == (45, 1, False)  # too few to tell
    budget.note({"new": Counted(10, 1)})
    assert budget.is_spent
    budget.note({"new": Counted(2, 0)})  # begun anew
    assert budget.requests == 52


@given(st.lists(st.tuples(st.integers(0, 50), st.integers(0, 50)), max_size=20))
def test_a_budget_never_counts_more_errors_than_requests(steps: list[tuple[int, int]]) -> None:
    budget = ErrorBudget(allowed=0.5, least=1)
    requests = errors = 0
    for more, wrong in steps:
        requests, errors = requests + more + wrong, errors + wrong
        budget.note({"gateway": Counted(requests, errors)})
    assert (budget.requests, budget.errors) == (requests, errors)
    assert 0 <= budget.share <= 1


NEW = [deployment("orders"), {"kind": "ConfigMap", "metadata": {"name": "new"}}]
OLD = [deployment("orders")]


class InMemory:
    """A cluster in memory. Each kind of look is answered by a function of how often it came."""

    def __init__(
        self,
        *,
        pods: Callable[[int], list[Object]] = lambda look: [],
        deployments: Callable[[int], list[Object]] = lambda look: [deployment()],
        errors: Callable[[int], int] = lambda look: 0,
        same: bool = False,
        refuses: bool = False,
    ) -> None:
        self._pods, self._deployments, self._errors = pods, deployments, errors
        self._same, self._refuses = same, refuses
        self.previous: Sequence[Object] = OLD
        self.applied: list[Sequence[Object]] = []
        self.looks = self.told = 0

    async def diff(self, objects: Sequence[Object]) -> str:
        return "" if self._same else "+ image"

    async def before(self, objects: Sequence[Object]) -> Sequence[Object]:
        return self.previous

    async def apply(self, objects: Sequence[Object]) -> None:
        self.applied.append(objects)
        if self._refuses and objects is NEW:
            raise Refused("quota exceeded")

    async def deployments(self) -> Sequence[Object]:
        self.looks += 1
        return self._deployments(self.looks)

    async def pods(self) -> Sequence[Object]:
        return self._pods(self.looks)

    async def metrics(self, pod: str) -> str | None:
        self.told += 1
        name = "http_server_request_duration_seconds_count"
        wrong = self._errors(self.looks)
        return (
            f'{name}{{http_response_status_code="200"}} {100 * self.told - wrong}\n'
            f'{name}{{http_response_status_code="500"}} {wrong}'
        )


GATEWAY = pod("gateway-1", **{"app.kubernetes.io/name": "gateway"})


async def released(cluster: InMemory, **more: float) -> tuple[Report, list[object]]:
    config = ReleaseConfig(**{"within": 30.0, "observe": 0.05, "every": 0.005, **more})  # type: ignore[arg-type]
    facts: list[object] = []
    release = Release(cluster, NEW, config, gateway="gateway", observer=facts.append, clock=SYSTEM)
    return await release.run(), facts


async def test_what_is_as_declared_is_left_alone() -> None:
    cluster = InMemory(same=True)
    report, _ = await released(cluster)
    assert (report.stage, cluster.applied) == (Stage.UNCHANGED, [])


async def test_a_rollout_is_waited_for_and_observed() -> None:
    cluster = InMemory(
        deployments=lambda look: [deployment(availableReplicas=min(look - 1, 2))],
        pods=lambda look: [GATEWAY],
    )
    report, facts = await released(cluster)
    assert (report.stage, cluster.applied) == (Stage.RELEASED, [NEW])
    assert report.is_counted
    assert report.requests >= 100
    assert report.created == ("ConfigMap/new",)
    assert any("orders 1/2" in str(getattr(fact, "rollout", "")) for fact in facts)


async def test_a_broken_pod_sends_it_back() -> None:
    def pods(look: int) -> list[Object]:
        return [pod(reason="ImagePullBackOff")] if cluster.applied == [NEW] else []

    cluster = InMemory(pods=pods)
    report, _ = await released(cluster)
    assert (report.stage, cluster.applied) == (Stage.RESTORED, [NEW, OLD])
    assert report.why == "orders-new: ImagePullBackOff"


async def test_failing_requests_send_it_back_after_the_rollout() -> None:
    cluster = InMemory(pods=lambda look: [GATEWAY], errors=lambda look: 40 * look)
    report, _ = await released(cluster, observe=30)
    assert report.stage is Stage.RESTORED
    assert "requests failed" in report.why


async def test_what_does_not_come_in_time_is_sent_back_and_may_be_stuck() -> None:
    cluster = InMemory(deployments=lambda look: [deployment(updatedReplicas=0)])
    report, _ = await released(cluster, within=0.05)
    assert report.stage is Stage.STUCK  # the old one does not come either
    assert "not rolled out within 0.05 s: orders 0/2" in report.why
    assert cluster.applied == [NEW, OLD]


async def test_a_first_release_has_nothing_to_go_back_to() -> None:
    cluster = InMemory(refuses=True)
    cluster.previous = []
    report, _ = await released(cluster)
    assert report.stage is Stage.STUCK
    assert report.why == "quota exceeded; nothing was applied before that one could go back to"


async def test_what_is_refused_half_way_is_put_back() -> None:
    cluster = InMemory(refuses=True)
    report, _ = await released(cluster)
    assert (report.stage, report.why) == (Stage.RESTORED, "quota exceeded")


async def test_a_cluster_that_is_away_for_a_moment_is_no_reason_to_go_back() -> None:
    def deployments(look: int) -> list[Object]:
        if 1 < look < 5:  # the first is before anything was applied
            raise Unavailable("kubectl get: i/o timeout")
        return [deployment()]

    report, _ = await released(InMemory(deployments=deployments))
    assert report.stage is Stage.RELEASED
    assert not report.is_counted
