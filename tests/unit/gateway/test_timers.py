from random import Random

from hypothesis import given
from hypothesis import strategies as st

from seawall.gateway.timers import NEVER, Timed, Wheel


class Item(Timed):
    def __init__(self) -> None:
        super().__init__()
        self.expired: list[float] = []
        self.again: float | None = None

    def expire(self, now: float) -> None:
        self.expired.append(now)
        if self.again is not None:
            self.deadline, self.again = self.again, None


def test_a_deadline_passes_once_and_at_most_a_tick_late() -> None:
    wheel, item = Wheel(0.1, 0.0), Item()
    wheel.watch(item, 1.0)
    wheel.turn(0.9)
    assert item.expired == []
    wheel.turn(1.1)
    assert item.expired == [1.1]
    wheel.turn(9.0)
    assert item.expired == [1.1]


def test_a_deadline_that_is_moved_back_waits() -> None:
    wheel, item = Wheel(0.1, 0.0), Item()
    wheel.watch(item, 1.0)
    item.deadline = 3.0
    wheel.turn(1.5)
    assert item.expired == []
    wheel.turn(3.2)
    assert item.expired == [3.2]


def test_a_deadline_that_comes_closer_is_met() -> None:
    wheel, item = Wheel(0.1, 0.0), Item()
    wheel.watch(item, 60.0)
    wheel.watch(item, 1.0)
    wheel.turn(1.2)
    assert item.expired == [1.2]
    wheel.turn(61.0)
    assert item.expired == [1.2]


def test_a_deadline_that_is_taken_away_does_not_pass() -> None:
    wheel, item = Wheel(0.1, 0.0), Item()
    wheel.watch(item, 1.0)
    wheel.watch(item, NEVER)
    wheel.turn(100.0)
    assert item.expired == []


def test_what_expires_may_set_another_deadline() -> None:
    wheel, item = Wheel(0.1, 0.0), Item()
    item.again = 2.0
    wheel.watch(item, 1.0)
    wheel.turn(1.2)
    wheel.turn(2.2)
    assert item.expired == [1.2, 2.2]


def test_a_busy_connection_does_not_fill_the_wheel() -> None:
    wheel, item = Wheel(0.1, 0.0), Item()
    now = 0.0
    for _ in range(10_000):
        now += 0.001
        wheel.watch(item, now + 15.0)  # a request
        item.deadline = now + 75.0  # and idle again
        wheel.turn(now)
    assert sum(len(slot) for slot in wheel._slots.values()) < 5


@given(st.integers(0, 2**32))
def test_nothing_expires_early_or_is_forgotten(seed: int) -> None:
    rng = Random(seed)
    wheel, items = Wheel(0.1, 0.0), [Item() for _ in range(5)]
    now = 0.0
    for _ in range(60):
        now += rng.choice([0.01, 0.05, 0.3, 5.0])
        due = [item for item in items if item.deadline <= now - 0.2]
        counts = [len(item.expired) for item in items]
        wheel.turn(now)
        for item, count in zip(items, counts, strict=True):
            if item in due:
                assert len(item.expired) == count + 1
            assert all(deadline <= now for deadline in item.expired)
        for item in items:
            if rng.random() < 0.5:
                deadline = now + rng.choice([0.05, 1.0, 7.0])
                wheel.watch(item, deadline)
                assert item.deadline == deadline
