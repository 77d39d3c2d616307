from seawall.scaling.decision import Decision, Limit
from seawall.scaling.guards import (
    Machine,
    bounded_by_machine,
    held_unless_whole,
    sparing_the_busy,
)

OUT = Decision(6, "load", (), 6)
IN = Decision(1, "load", (), 1)


def test_more_processes_do_not_help_where_all_cores_work_for_them() -> None:
    bounded = bounded_by_machine(2, OUT, Machine(cores=2, busy=0.99, free=0.5, own=1.6))
    assert bounded.desired == 2
    assert bounded.limits == (Limit.CAPACITY,)
    assert bounded.reason == "load; capacity-limited: all 2 cores are busy"


def test_replicas_that_wait_are_helped_by_more_of_them() -> None:
    assert bounded_by_machine(2, OUT, Machine(cores=2, busy=0.99, free=0.5, own=0.2)) == OUT
    assert bounded_by_machine(2, OUT, Machine(cores=2, busy=0.6, free=0.5, own=1.2)) == OUT
    assert bounded_by_machine(2, OUT, Machine(cores=2)) == OUT


def test_a_machine_without_memory_takes_no_more() -> None:
    bounded = bounded_by_machine(2, OUT, Machine(cores=2, free=0.03))
    assert bounded.desired == 2
    assert "3% of memory is free" in bounded.reason


def test_a_machine_never_holds_back_scaling_in() -> None:
    assert bounded_by_machine(2, IN, Machine(cores=2, busy=1.0, free=0.0, own=2.0)) == IN


def test_half_of_the_figures_scale_out_but_not_in() -> None:
    assert held_unless_whole(2, OUT, {"orders-1"}) == OUT
    assert held_unless_whole(2, IN, ()) == IN
    held = held_unless_whole(2, IN, {"orders-1"})
    assert (held.desired, held.limits) == (2, (Limit.METRIC_FAILED,))
    assert "orders-1 did not tell" in held.reason


def test_only_replicas_without_a_message_in_their_hands_leave() -> None:
    assert sparing_the_busy(4, IN, idle=3) == IN
    assert sparing_the_busy(4, IN, idle=2).desired == 2
    held = sparing_the_busy(4, IN, idle=0)
    assert (held.desired, held.limits) == (4, (Limit.VETO,))
    assert sparing_the_busy(2, OUT, idle=0) == OUT
