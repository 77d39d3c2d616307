"""The embedded Valkey, which is registry and broker, goes away under load."""

import os
import signal

from seawall.clock import SYSTEM
from tests.faults.conftest import Notes
from tests.support.waiting import eventually_sync


def test_killed_it_costs_no_read_and_no_message(notes: Notes) -> None:
    with notes.load() as load:
        for _ in range(3):
            goal = load.posts[202] + 50
            eventually_sync(lambda goal=goal: load.posts[202] >= goal, within=15)
            notes.kill("valkey")

    assert (set(load.reads), load.broken) == ({200}, 0)
    # Refused, or unknown where it died with the answer: never said to be taken and lost.
    assert set(load.posts) <= {202, 502, 503}
    assert len(notes.confirmed) >= 150
    assert notes.lost() == set()
    assert notes.project.said().count("valkey killed by SIGKILL") == 3


def test_paused_it_holds_up_no_read_and_messages_resume(notes: Notes) -> None:
    with notes.load() as load:
        eventually_sync(lambda: load.posts[202] >= 50, within=15)
        os.kill(notes.pid("valkey"), signal.SIGSTOP)
        try:
            # Posts are given up after some seconds; reads wait for nothing.
            eventually_sync(lambda: load.posts[502] + load.posts[503] >= 1, within=10)
            before = SYSTEM.now()
            for _ in range(50):
                assert notes.http.get("/hello").status_code == 200
            assert SYSTEM.now() - before < 10.0  # not 50 times those seconds
        finally:
            os.kill(notes.pid("valkey"), signal.SIGCONT)
        goal = load.posts[202] + 50
        eventually_sync(lambda: load.posts[202] >= goal, within=15)

    assert (set(load.reads), load.broken) == ({200}, 0)
    assert notes.lost() == set()


def test_kill_9_of_everything_in_turn_loses_nothing(notes: Notes) -> None:
    with notes.load() as load:
        for victim in ("notes-1", "valkey", "notes-2"):
            goal = load.posts[202] + 30
            eventually_sync(lambda goal=goal: load.posts[202] >= goal, within=15)
            notes.kill(victim)

    assert notes.lost() == set()
    # The supervisor itself: what it started goes on under the next one, with all that was taken.
    taken = set(notes.confirmed)
    for _ in range(20):
        notes.post()
    notes.project.supervisor.kill()
    notes.project.supervisor.wait()
    notes.project.up()
    notes.http.base_url = notes.project.status()["url"]
    assert taken < notes.confirmed
    assert notes.lost() == set()
