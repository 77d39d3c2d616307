import pytest
from hypothesis import given
from hypothesis import strategies as st

from seawall.errors import Misconfigured
from seawall.resilience.waiting import WaitingRoom

ORDER = ("critical", "normal")


def room(size: int = 10, **said: float) -> WaitingRoom[str]:
    return WaitingRoom(size, ORDER, **said)


def anyone(importance: str) -> bool:
    return True


class Places:
    def __init__(self) -> None:
        self.taken = 0

    def take(self, importance: str) -> bool:
        self.taken += 1
        return True


def test_the_most_important_first_and_of_those_who_came_first() -> None:
    waits = room()
    for who, importance in (("a", "normal"), ("b", "critical"), ("c", "normal"), ("d", "critical")):
        assert waits.enter(who, importance, 0.0) is None
    assert [waits.next(anyone, 0.0)[0] for _ in range(5)] == ["b", "d", "a", "c", None]


def test_who_cannot_have_a_place_lets_others_go_first() -> None:
    waits = room()
    waits.enter("a", "critical", 0.0)
    waits.enter("b", "normal", 0.0)
    assert waits.next(lambda importance: importance == "normal", 0.0) == ("b", [])
    assert len(waits) == 1


def test_where_it_is_full_the_least_important_goes() -> None:
    waits = room(2)
    waits.enter("a", "normal", 0.0)
    waits.enter("b", "normal", 0.0)
    assert waits.enter("c", "normal", 0.0) == "c"
    assert waits.enter("d", "critical", 0.0) == "b"
    assert waits.enter("e", "critical", 0.0) == "a"
    assert waits.enter("f", "critical", 0.0) == "f"
    assert room(0).enter("a", "critical", 0.0) == "a"


def test_nobody_passes_who_waits_and_is_as_important() -> None:
    waits = room()
    waits.enter("a", "normal", 0.0)
    assert waits.is_ahead("normal")
    assert not waits.is_ahead("critical")
    waits.leave("a")
    waits.leave("a")
    assert not waits.is_ahead("normal")


def test_a_line_that_does_not_get_short_again_loses_some() -> None:
    waits = room(100)
    let_in, dropped = [], []
    for number in range(200):  # ten a second come, five a second go
        now = number / 10
        waits.enter(str(number), "normal", now)
        if number % 2:
            who, lost = waits.next(anyone, now)
            let_in.append(who)
            dropped += lost
    assert len(let_in) == 100
    assert None not in let_in
    assert len(dropped) > 30
    assert len(waits) < 70
    assert set(let_in).isdisjoint(dropped)


def test_the_important_are_not_dropped_for_the_waits_of_others() -> None:
    waits = room(100)
    for number in range(100):
        now = number / 10
        waits.enter(f"n{number}", "normal", now)
        waits.enter(f"c{number}", "critical", now)
        assert waits.next(anyone, now) == (f"c{number}", [])


@given(
    st.lists(
        st.tuples(st.sampled_from(["enter", "next", "leave"]), st.sampled_from(ORDER)), max_size=60
    )
)
def test_nobody_is_lost_and_nobody_is_told_twice(steps: list[tuple[str, str]]) -> None:
    waits = room(5)
    inside: set[str] = set()
    for number, (step, importance) in enumerate(steps):
        now = number * 0.05
        gone: list[str | None] = []
        if step == "enter":
            inside.add(str(number))
            gone = [waits.enter(str(number), importance, now)]
        elif step == "next":
            places = Places()
            who, dropped = waits.next(places.take, now)
            gone = [who, *dropped]
            assert places.taken == (who is not None)  # one for whoever is next, and no other
        elif inside:
            gone = [min(inside)]
            waits.leave(min(inside))
        for each in gone:
            if each is not None:
                inside.remove(each)
        assert len(waits) == len(inside) <= 5


@pytest.mark.parametrize("said", [{"size": -1, "order": ORDER}, {"size": 1, "order": ()}])
def test_a_room_that_cannot_be_is_refused(said: dict[str, object]) -> None:
    with pytest.raises(Misconfigured):
        WaitingRoom(**said)  # type: ignore[arg-type]
