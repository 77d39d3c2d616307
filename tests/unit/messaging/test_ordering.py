"""One of a key at a time: the kernel, whatever the order of events."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seawall.errors import Misconfigured
from seawall.messaging import ordering
from seawall.messaging.ordering import Lanes, Ordered


@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("add"), st.sampled_from("abc")),
            st.tuples(st.sampled_from(["finish", "fail"]), st.integers(0, 10)),
        ),
        max_size=60,
    )
)
def test_each_key_is_handled_in_its_order_one_at_a_time(events: list[tuple[str, object]]) -> None:
    lanes: Lanes[int] = Lanes(Ordered())
    added: dict[str, list[int]] = {}
    started: dict[str, list[int]] = {}
    running: list[str] = []  # keys whose head is under way
    for serial, (what, about) in enumerate(events):
        if what == "add":
            key = str(about)
            added.setdefault(key, []).append(serial)
            if lanes.add(key, serial):
                assert key not in running
                running.append(key)
                started.setdefault(key, []).append(serial)
        elif running:
            assert isinstance(about, int)
            key = running[about % len(running)]
            if what == "fail":  # it waits, and its key with it
                assert lanes.may_block(key, 0.0, 0.0)
                continue
            following = lanes.finished(key)
            if following is None:
                running.remove(key)
                assert started[key] == added[key]
            else:
                started[key].append(following)
        assert len(lanes) == sum(map(len, added.values())) - sum(map(len, started.values()))
        assert len(set(running)) == len(running)
        assert all(started[key] == added[key][: len(started[key])] for key in started)
    assert sorted([*lanes, *(n for s in started.values() for n in s)]) == sorted(
        n for a in added.values() for n in a
    )


def test_a_key_blocks_from_its_first_failure_for_so_long() -> None:
    lanes: Lanes[str] = Lanes(Ordered(max_block=60))
    lanes.add("k", "one")
    lanes.add("k", "two")
    assert lanes.may_block("k", 10, now=100)
    assert lanes.may_block("k", 10, now=150)
    assert not lanes.may_block("k", 11, now=150)
    lanes.finished("k")
    assert lanes.may_block("k", 11, now=150)  # the next message has its own time


def test_a_parked_key_takes_its_followers_along_until_its_message_comes_again() -> None:
    lanes: Lanes[str] = Lanes(Ordered())
    for name in ("one", "two", "three"):
        lanes.add("k", name)
    assert lanes.parks
    assert lanes.park("k", "one") == ["two", "three"]
    assert lanes.finished("k") is None
    assert len(lanes) == 0
    assert lanes.is_parked("k", "four")
    assert not lanes.is_parked("other", "four")
    assert not lanes.is_parked(None, "four")
    assert not lanes.is_parked("k", "one")  # redriven
    assert not lanes.is_parked("k", "two")


def test_parked_keys_are_bounded() -> None:
    lanes: Lanes[str] = Lanes(Ordered())
    for number in range(ordering.PARKED + 1):
        lanes.add(str(number), "m")
        lanes.park(str(number), "m")
        lanes.finished(str(number))
    assert not lanes.is_parked("0", "x")
    assert lanes.is_parked("1", "x")
    assert repr(lanes) == f"<Lanes 0 keys, 0 wait, {ordering.PARKED} parked>"


def test_what_others_have_is_forgotten_and_all_can_be_given_up() -> None:
    lanes: Lanes[object] = Lanes(Ordered(then="skip"))
    assert not lanes.parks
    head, second, third = object(), object(), object()
    for item in (head, second, third):
        lanes.add("k", item)
    lanes.drop({id(second)})
    assert list(lanes) == [third]
    assert lanes.clear() == [third]
    assert lanes.finished("k") is None


@pytest.mark.parametrize("wrong", [{"max_block": -1}, {"then": "stop"}])
def test_nonsense_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(Misconfigured):
        Ordered(**wrong)  # type: ignore[arg-type]
