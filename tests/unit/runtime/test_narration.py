from seawall.runtime.narration import is_routine, tell
from seawall.runtime.process import Exit
from seawall.runtime.replica import Kind, Place, ReplicaDied, ReplicaReady
from seawall.runtime.restart import Verdict
from seawall.runtime.stages import (
    ProjectReady,
    ProjectStopped,
    ProjectStopping,
    ProjectWaiting,
    Stage,
)

PLACE = Place(service="orders", instance_id="orders-1")


def _died(verdict: Verdict, *, was_ready: bool) -> ReplicaDied:
    words = ("Traceback", "ValueError: no", "")
    return ReplicaDied(PLACE, "a", Exit(1), 0.25, was_ready, words, verdict, 0.0)


def test_a_start_ends_with_where_and_how_long() -> None:
    fact = ProjectReady(1.94, (("orders", 2), ("users", 1)), "http://127.0.0.1:8000")
    assert tell(fact) == [
        "ready in 1.9 s:  orders x2  users",
        "gateway  http://127.0.0.1:8000",
    ]
    assert tell(ProjectReady(0.5, (), None)) == ["ready in 0.5 s:  no services"]


def test_many_services_take_several_lines() -> None:
    lines = tell(ProjectReady(2.0, tuple((f"service-{n}", 2) for n in range(20)), None))
    assert len(lines) > 1
    assert max(map(len, lines)) <= 76
    assert all(line.endswith("x2") for line in lines)


def test_in_a_start_only_what_is_slow_is_news() -> None:
    quick, slow = (ReplicaReady(PLACE, "a", 1, after, 0.0) for after in (0.1, 7.0))
    assert is_routine(quick, Stage.STARTING)
    assert not is_routine(slow, Stage.STARTING)
    assert not is_routine(quick, Stage.RUNNING)
    assert not is_routine(_died(Verdict(0.0, 1, False), was_ready=False), Stage.STARTING)


def test_a_server_without_room_says_so() -> None:
    place = Place(service="valkey", instance_id="valkey", kind=Kind.SERVER)
    words = ("Short write while writing to the AOF file: (nwritten=1, expected=2)", "Exiting...")
    died = ReplicaDied(place, "a", Exit(1), 9.0, True, words, Verdict(0.1, 1, False), 0.0)
    assert tell(died)[0].endswith(
        "starting it again in 0.1 s: its disk is full; it goes on where it was once there is room"
    )


def test_a_slow_start_says_what_holds_it_up() -> None:
    fact = ProjectWaiting(10.0, (("users", "users-1: no database"),))
    assert tell(fact) == ["not ready after 10 s:", "  users-1: no database"]


def test_a_failed_start_says_its_last_words() -> None:
    assert tell(_died(Verdict(0.5, 5, True), was_ready=False)) == [
        "orders-1 exited with status 1 after 0.2 s, it keeps dying; "
        "starting it again in 0.5 s: ValueError: no"
    ]
    assert tell(_died(Verdict(0.0, 1, False), was_ready=True)) == [
        "orders-1 exited with status 1 after 0.2 s; starting it again"
    ]


def test_other_facts() -> None:
    assert tell(ProjectStopping("SIGINT")) == ["stopping (SIGINT); once more to stop at once"]
    assert tell(ReplicaReady(PLACE, "a", 1, 0.021, 0.0)) == ["orders-1 ready after 0.02 s"]
    assert tell(ProjectStopped(0.84)) == ["stopped in 0.8 s"]
    assert tell(object()) == []
