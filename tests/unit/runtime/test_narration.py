from seawall.runtime.narration import tell
from seawall.runtime.process import Exit
from seawall.runtime.replica import Place, ReplicaDied, ReplicaReady
from seawall.runtime.restart import Verdict
from seawall.runtime.stages import ProjectReady, ProjectStopping, ProjectWaiting

PLACE = Place(service="orders", instance_id="orders-1")


def _died(verdict: Verdict, *, was_ready: bool) -> ReplicaDied:
    words = ("Traceback", "ValueError: no", "")
    return ReplicaDied(PLACE, "a", Exit(1), 0.25, was_ready, words, verdict, 0.0)


def test_a_start_ends_with_where_and_how_long() -> None:
    fact = ProjectReady(1.94, (("orders", 2), ("users", 1)), "http://127.0.0.1:8000")
    assert tell(fact) == [
        "gateway   http://127.0.0.1:8000",
        "ok  orders x2  users   ready in 1.9 s",
    ]
    assert tell(ProjectReady(0.5, (), None)) == ["ok  no services   ready in 0.5 s"]


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
    assert tell(object()) == []
