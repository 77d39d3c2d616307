import os

from seawall.runtime.admin_rows import instance_row, service_row
from seawall.runtime.autoscaler import Decided
from seawall.runtime.cost import Cost, Meter
from seawall.runtime.replica import Kind, Place, ReplicaSnapshot
from seawall.runtime.restart import State
from seawall.scaling.combine import capped
from seawall.scaling.decision import Decision
from seawall.topology import Address, Instance, InstanceState

PLACE = Place(
    service="orders", instance_id="orders-1", kind=Kind.SERVICE, address=Address("127.0.0.1", 81)
)


def _snapshot(state: State, pid: int | None = 7) -> ReplicaSnapshot:
    return ReplicaSnapshot(
        place=PLACE,
        state=state,
        incarnation="a",
        pid=pid,
        age=1.26,
        restarts=2,
        reason="",
        last_exit="killed by SIGKILL",
        last_words=("so long",),
        next_start=None if pid else 0.123,
    )


def test_a_row_puts_together_what_is_known() -> None:
    registered = Instance(
        service="orders",
        version="1.2.0",
        instance_id="orders-1",
        incarnation="a",
        address=Address("127.0.0.1", 81),
        state=InstanceState.READY,
        in_flight=3,
        loop_lag=0.00123456,
    )
    row = instance_row(_snapshot(State.READY), {7: Cost(1000, 0.1234)}, {"orders-1": registered})
    assert row["version"] == "1.2.0"
    assert (row["memory_bytes"], row["cpu"], row["in_flight"]) == (1000, 0.123, 3)
    assert (row["address"], row["uptime_s"], row["loop_lag_s"]) == ("127.0.0.1:81", 1.3, 0.0012)
    assert row["last_words"] == ["so long"]


def test_what_is_not_known_is_null() -> None:
    row = instance_row(_snapshot(State.WAITING, pid=None), {}, {})
    assert (row["pid"], row["version"], row["memory_bytes"], row["cpu"]) == (None,) * 4
    assert row["next_start_s"] == 0.12


def test_a_service_counts_its_replicas() -> None:
    states = (State.READY, State.WAITING, State.STOPPING)
    row = service_row("orders", Kind.SERVICE, 2, [_snapshot(state) for state in states])
    assert (row["desired"], row["ready"], row["restarts"]) == (2, 1, 6)
    assert service_row("orders", Kind.SERVICE, 0, [])["desired"] == 0


def test_a_service_says_what_it_refuses_and_why_more_would_not_help() -> None:
    limited = capped(Decision(4, "load: 90/s", (), 4), 2, "all 2 cores are busy")
    looked = Decided(0.0, 2, 2, (90.0,), (), limited, 12.34567)
    row = service_row("orders", Kind.SERVICE, 2, [], looked)
    assert row["shed"] == 12.346
    assert row["capacity_limited"].endswith("capacity-limited: all 2 cores are busy")
    calm = Decided(0.0, 2, 2, (90.0,), (), Decision(2, "load: 90/s", (), 2), None)
    row = service_row("orders", Kind.SERVICE, 2, [], calm)
    assert (row["shed"], row["capacity_limited"]) == (None, None)


def test_a_meter_measures_what_lives_and_forgets_the_rest() -> None:
    meter = Meter()
    looked = meter.look([os.getpid(), 2**22 + 1])
    assert set(looked) == {os.getpid()}
    assert looked[os.getpid()].memory > 5_000_000
    assert meter.look([]) == {}
    assert not meter._seen
