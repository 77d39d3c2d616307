from dataclasses import replace

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from seawall.registry.lease import REMEMBER_GONE, Leases, Renewal, follows
from seawall.topology import Instance, InstanceState
from tests.unit.registry.instances import instance

STATES = list(InstanceState)


@pytest.mark.parametrize("was", STATES)
@pytest.mark.parametrize("now", STATES)
def test_within_an_incarnation_states_only_move_forward(
    was: InstanceState, now: InstanceState
) -> None:
    forward = STATES.index(now) >= STATES.index(was)
    assert follows(instance(state=now), instance(state=was)) is forward


@pytest.mark.parametrize(("started_at", "expected"), [(99.0, False), (100.0, True), (101.0, True)])
def test_another_incarnation_follows_if_it_did_not_start_earlier(
    started_at: float, expected: bool
) -> None:
    other = instance(incarnation="other", started_at=started_at, state=InstanceState.STARTING)
    assert follows(other, instance(state=InstanceState.DRAINING)) is expected


def test_only_what_lasts_is_announced() -> None:
    leases = Leases()
    assert leases.renew(instance(), 10, 0.0) == Renewal(True, (instance(),))
    assert leases.renew(instance(loop_lag=1.0, in_flight=5), 10, 1.0) == Renewal(True)
    assert [one.in_flight for one in leases] == [5]
    for change in (
        {"version": "1.5.0"},
        {"weight": 1},
        {"zone": "b"},
        {"priority": 1},
        {"metadata": {"a": "b"}},
    ):
        changed = replace(instance(), **change)  # type: ignore[arg-type]
        assert leases.renew(changed, 10, 2.0).changes == (changed,)


def test_an_expired_lease_protects_nobody() -> None:
    leases = Leases()
    leases.renew(instance(incarnation="new", started_at=200.0), 10, 0.0)
    assert not leases.renew(instance(), 10, 9.9).accepted
    assert leases.renew(instance(), 10, 10.0).accepted


def test_a_deregistered_incarnation_is_remembered_for_a_while() -> None:
    leases = Leases()
    leases.renew(instance(), 10, 0.0)
    assert leases.deregister(instance(), 1.0) == (instance(state=InstanceState.GONE),)
    assert leases.deregister(instance(), 1.0) == ()
    assert not leases.renew(instance(), 10, 1.0 + REMEMBER_GONE - 0.1).accepted
    assert leases.expire(1.0 + REMEMBER_GONE) == ()  # it was announced when it left
    assert leases.renew(instance(), 10, 1.0 + REMEMBER_GONE).accepted


class LeaseMachine(RuleBasedStateMachine):
    """Whatever happens, in whatever order, the table keeps its promises."""

    def __init__(self) -> None:
        super().__init__()
        self.leases = Leases()
        self.now = 0.0
        self.announced: dict[str, Instance] = {}  # what a watcher that misses nothing believes

    def hear(self, changes: tuple[Instance, ...]) -> None:
        for change in changes:
            if change.state is InstanceState.GONE:
                assert self.announced.pop(change.instance_id).incarnation == change.incarnation
            else:
                self.announced[change.instance_id] = change

    @rule(
        name=st.sampled_from(["a", "b"]),
        generation=st.integers(1, 3),
        state=st.sampled_from(STATES[:3]),
        lag=st.sampled_from([0.0, 1.0]),
    )
    def renew(self, name: str, generation: int, state: InstanceState, lag: float) -> None:
        self.hear(self.leases.expire(self.now))
        one = instance(
            name,
            incarnation=str(generation),
            started_at=float(generation),
            state=state,
            loop_lag=lag,
        )
        before = {i.instance_id: i for i in self.leases}.get(name)
        renewal = self.leases.renew(one, 10.0, self.now)
        self.hear(renewal.changes)
        if before is not None and before.started_at > generation:
            assert not renewal.accepted
        assert renewal.accepted == (one in list(self.leases))

    @rule(name=st.sampled_from(["a", "b"]), generation=st.integers(1, 3))
    def deregister(self, name: str, generation: int) -> None:
        self.hear(self.leases.expire(self.now))
        one = instance(name, incarnation=str(generation), started_at=float(generation))
        holds = any(i.instance_id == name and i.incarnation == one.incarnation for i in self.leases)
        gone = self.leases.deregister(one, self.now)
        self.hear(gone)
        assert bool(gone) is holds

    @rule(seconds=st.sampled_from([1.0, 5.0, 10.0, 61.0]))
    def wait(self, seconds: float) -> None:
        self.now += seconds
        self.hear(self.leases.expire(self.now))

    @invariant()
    def who_listens_knows_what_who_reads_knows(self) -> None:
        read = {i.instance_id: (i.incarnation, i.state) for i in self.leases}
        heard = {name: (i.incarnation, i.state) for name, i in self.announced.items()}
        assert read == heard


TestLeases = LeaseMachine.TestCase
TestLeases.settings = settings(max_examples=60, stateful_step_count=20, deadline=None)
