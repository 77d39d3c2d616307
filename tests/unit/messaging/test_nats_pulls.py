"""Which of a reader's requests a message of NATS belongs to, and what may still come."""

import pytest

from seawall.messaging.transports.nats_protocol import Msg
from seawall.messaging.transports.nats_pulls import LACKING, Pulls


def end(name: str, status: str, lacking: int | None = None) -> Msg:
    headers = {} if lacking is None else {LACKING: str(lacking)}
    return Msg(f"inbox.{name}", 1, "", headers, b"", status)


def test_a_pull_is_answered_when_it_is_full_or_ended() -> None:
    pulls = Pulls()
    pulls.pull("a", "1", 2)
    pulls.pull("b", "2", 2)
    pulls.arrived("a")
    assert not pulls.answered
    pulls.arrived("a")
    pulls.ended(end("7", "404"))  # of an earlier one
    assert not pulls.answered
    pulls.ended(end("2", "404"))
    assert pulls.answered


@pytest.mark.parametrize(("came", "lacking"), [(0, None), (0, 10), (3, 7), (9, 1)])
@pytest.mark.parametrize("early", [True, False])
def test_what_a_wait_brought_is_its_own_though_the_pull_ended_later(
    came: int, lacking: int | None, early: bool
) -> None:
    pulls = Pulls()
    pulls.pull("a", "1", 10)
    pulls.wait("a", "2", until=5.0)
    for _ in range(came + early):
        pulls.arrived("a")
    pulls.ended(end("1", "408", lacking))
    assert pulls.waits_for("a", 1.0) is not early
    if not early:
        pulls.arrived("a")
    assert not pulls.waiting(1.0)
    assert pulls.answered


def test_a_wait_ends_with_its_message_its_answer_or_its_time() -> None:
    for ending in (lambda p: p.arrived("a"), lambda p: p.ended(end("1", "408"))):
        pulls = Pulls()
        pulls.wait("a", "1", until=5.0)
        assert pulls.waits_for("a", 5.0)
        assert not pulls.waits_for("b", 5.0)
        assert not pulls.waiting(5.1)
        ending(pulls)
        assert not pulls.waiting(5.0)


def test_a_lost_connection_takes_all_with_it() -> None:
    pulls = Pulls()
    pulls.pull("a", "1", 1)
    pulls.wait("a", "2", until=5.0)
    pulls.ended(end("1", "503"))
    assert pulls.ended_with("503")
    pulls.clear()
    assert pulls.answered
    assert not pulls.waiting(0.0)
    assert not pulls.ended_with("503")
