from random import Random

from hypothesis import given
from hypothesis import strategies as st

from seawall.gateway.timers import NEVER, Timed, Wheel


def due(wheel: Wheel, now: float) -> list[Timed]:
    return list(wheel.turn(now))


def test_a_deadline_passes_once_and_at_most_a_tick_late() -> None:
    wheel, item = Wheel(0.1, 0.0), Timed()
    wheel.watch(item, 1.0)
    assert due(wheel, 0.9) == []
    assert due(wheel, 1.1) == [item]
    assert due(wheel, 9.0) == []


def test_a_deadline_that_is_moved_back_waits() -> None:
    wheel, item = Wheel(0.1, 0.0), Timed()
    wheel.watch(item, 1.0)
    item.deadline = 3.0
    assert due(wheel, 1.5) == []
    assert due(wheel, 3.2) == [item]


def test_a_deadline_that_comes_closer_is_met() -> None:
    wheel, item = Wheel(0.1, 0.0), Timed()
    wheel.watch(item, 60.0)
    wheel.watch(item, 1.0)
    assert due(wheel, 1.2) == [item]
    assert due(wheel, 61.0) == []


def test_a_deadline_that_is_taken_away_does_not_pass() -> None:
    wheel, item = Wheel(0.1, 0.0), Timed()
    wheel.watch(item, 1.0)
    wheel.watch(item, NEVER)
    assert due(wheel, 100.0) == []


def test_what_expires_may_set_another_deadline() -> None:
    wheel, item = Wheel(0.1, 0.0), Timed()
    wheel.watch(item, 1.0)
    for expired in wheel.turn(1.2):
        expired.deadline = 2.0
    assert due(wheel, 2.2) == [item]


def test_what_expires_may_save_another() -> None:
    wheel, items = Wheel(0.1, 0.0), [Timed(), Timed()]
    for item in items:
        wheel.watch(item, 1.0)
    expired = []
    for item in wheel.turn(1.2):
        expired.append(item)
        items[1].deadline = 5.0
    assert expired == items[:1]
    assert due(wheel, 5.2) == items[1:]


def test_a_busy_connection_does_not_fill_the_wheel() -> None:
    wheel, item = Wheel(0.1, 0.0), Timed()
    now = 0.0
    for _ in range(10_000):
        now += 0.001
        wheel.watch(item, now + 15.0)  # a request
        item.deadline = now + 75.0  # and idle again
        assert due(wheel, now) == []
    assert sum(len(slot) for slot in wheel._slots.values()) < 5


@given(st.integers(0, 2**32))
def test_nothing_expires_early_or_is_forgotten(seed: int) -> None:
    rng = Random(seed)
    wheel, items = Wheel(0.1, 0.0), [Timed() for _ in range(5)]
    now = 0.0
    for _ in range(60):
        now += rng.choice([0.01, 0.05, 0.3, 5.0])
        deadlines = {item: item.deadline for item in items}
        expired = due(wheel, now)
        assert len(set(expired)) == len(expired)
        assert all(deadlines[item] <= now for item in expired)
        late = [item for item in items if deadlines[item] <= now - 0.2]
        assert set(late) <= set(expired)
        for item in items:
            if rng.random() < 0.5:
                deadline = now + rng.choice([0.05, 1.0, 7.0])
                wheel.watch(item, deadline)
                assert item.deadline == deadline
