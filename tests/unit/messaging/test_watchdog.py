"""When a consumer counts as stalled."""

from seawall.messaging.watchdog import Watchdog


def test_stalled_after_a_backlog_was_seen_often_enough_and_long_enough() -> None:
    dog = Watchdog(after=30)
    assert [dog.look(5, now) for now in (0, 10, 20)] == [0.0, 0.0, 0.0]
    assert dog.look(7, 30) == 30
    assert dog.stalled == 7
    assert repr(dog) == "<Watchdog stalled>"
    # Asked to connect anew once in that time, not at each look.
    assert [dog.look(7, now) for now in (40, 50, 60)] == [0.0, 0.0, 0.0]
    assert dog.look(7, 70) == 30


def test_two_looks_prove_nothing_however_far_apart() -> None:
    dog = Watchdog(after=30)
    assert dog.look(5, 0) == dog.look(5, 1000) == 0.0
    assert dog.look(5, 1001) == 1001


def test_a_delivery_or_an_empty_queue_ends_it() -> None:
    for end in (Watchdog.delivered, lambda dog: dog.look(0, 35)):
        dog = Watchdog(after=30)
        for now in (0, 10, 20, 30):
            dog.look(5, now)
        end(dog)
        assert not dog.stalled
        assert [dog.look(5, now) for now in (40, 50, 60)] == [0.0, 0.0, 0.0]


def test_what_is_not_known_counts_neither_way() -> None:
    dog = Watchdog(after=30)
    for now in (0, 10, 20):
        dog.look(5, now)
    dog.unknown()
    assert dog.look(5, 30) == 0.0
    assert not dog.stalled
