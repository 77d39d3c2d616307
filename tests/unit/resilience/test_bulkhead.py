import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from seawall.errors import Full, Misconfigured
from seawall.resilience.bulkhead import Bulkhead, BulkheadSnapshot


def test_has_as_many_slots_as_it_says() -> None:
    bulkhead = Bulkhead(2)
    assert [bulkhead.try_acquire() for _ in range(3)] == [True, True, False]
    bulkhead.release()
    assert bulkhead.try_acquire()


def test_a_slot_is_held_for_the_block_and_given_back_however_it_ends() -> None:
    bulkhead = Bulkhead(1)
    taken = []

    def work() -> None:
        with bulkhead.slot():
            taken.append(bulkhead.snapshot().taken)
            raise KeyError

    with pytest.raises(KeyError):
        work()
    assert taken == [1]
    assert bulkhead.snapshot().taken == 0


def test_full_is_said_at_once_and_takes_nothing() -> None:
    bulkhead = Bulkhead(1)
    with bulkhead.slot():
        with pytest.raises(Full, match="all 1 slots are taken"), bulkhead.slot():
            pytest.fail("there was no slot")
        assert bulkhead.snapshot() == BulkheadSnapshot(limit=1, taken=1, refused=1)
    assert bulkhead.try_acquire()


def test_giving_back_what_was_not_taken_is_an_error() -> None:
    bulkhead = Bulkhead(1)
    with pytest.raises(RuntimeError, match="released twice"):
        bulkhead.release()
    assert bulkhead.try_acquire()
    assert not bulkhead.try_acquire()


def test_no_slots_at_all_is_refused() -> None:
    with pytest.raises(Misconfigured):
        Bulkhead(0)


def test_says_what_it_holds() -> None:
    bulkhead = Bulkhead(3)
    bulkhead.try_acquire()
    assert repr(bulkhead) == "<Bulkhead 1 of 3 taken>"


class AnyUse(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.bulkhead = Bulkhead(3)
        self.held = 0

    @rule()
    def take(self) -> None:
        taken = self.bulkhead.try_acquire()
        assert taken == (self.held < 3)
        self.held += taken

    @rule(fails=st.booleans())
    def block(self, fails: bool) -> None:
        try:
            with self.bulkhead.slot():
                if fails:
                    raise KeyError
        except (KeyError, Full):
            pass

    @rule()
    def give_back(self) -> None:
        if self.held:
            self.bulkhead.release()
            self.held -= 1

    @invariant()
    def slots_add_up(self) -> None:
        assert self.bulkhead.snapshot().taken == self.held <= 3


TestAnyUse = AnyUse.TestCase
TestAnyUse.settings = settings(max_examples=40)
