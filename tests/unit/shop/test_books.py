"""The demo's audit finds every way in which books can be wrong."""

from dataclasses import replace

import pytest

from shop.demo.books import Accepted, Charge, Ledgers, Order, Reservation, Stock, audit

ACCEPTED = [Accepted("a", "key-a"), Accepted("a", "key-a"), Accepted("b", "key-b")]
CLEAN = Ledgers(
    orders=[Order("a", "completed", 500), Order("b", "cancelled", 700)],
    charges=[Charge("a", 500, taken=1, returned=0), Charge("b", 700, taken=0, returned=0)],
    reservations=[
        Reservation("a", "sold", {"mug": 2}),
        Reservation("b", "released", {"mug": 1, "kettle": 1}),
    ],
    stock=[Stock("mug", 10, 8), Stock("kettle", 10, 10)],
    mails=["a", "b"],
)


def test_clean_books() -> None:
    books = audit(ACCEPTED, CLEAN)
    assert books.clean
    assert (books.accepted, books.completed, books.declined, books.compensated) == (2, 1, 1, 1)
    assert (books.lost, books.charged_twice, books.mails) == (0, 0, 2)


def test_an_accepted_order_that_nobody_knows_is_lost() -> None:
    books = audit([*ACCEPTED, Accepted("c", "key-c")], CLEAN)
    assert books.lost == 1
    assert not books.clean


def test_an_order_that_never_ends_is_lost() -> None:
    books = audit([], replace(CLEAN, orders=[*CLEAN.orders, Order("c", "reserving", 1)]))
    assert books.lost == 1


def test_money_taken_twice() -> None:
    twice = [Charge("a", 500, taken=2, returned=0), CLEAN.charges[1]]
    books = audit(ACCEPTED, replace(CLEAN, charges=twice))
    assert books.charged_twice == 1
    assert not books.clean


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"charges": CLEAN.charges[1:]}, "not paid once"),
        ({"charges": [replace(CLEAN.charges[0], cents=1)]}, "was paid 1"),
        ({"charges": [*CLEAN.charges, Charge("c", 5, 1, 0)]}, "its money was kept"),
        ({"reservations": [replace(CLEAN.reservations[0], state="held")]}, "still holds stock"),
        ({"reservations": CLEAN.reservations[1:]}, "not sold"),
        ({"stock": [Stock("mug", 10, 7)]}, "3 missing from the shelf, 2 sold"),
        ({"mails": ["a"]}, "order b ended without a mail"),
        ({"mails": ["a", "b", "c"]}, "order c, which has not ended"),
    ],
)
def test_what_does_not_add_up_is_said(wrong: dict[str, object], said: str) -> None:
    books = audit(ACCEPTED, replace(CLEAN, **wrong))
    assert not books.clean
    assert any(said in problem for problem in books.problems)


def test_one_key_that_made_two_orders() -> None:
    books = audit([Accepted("a", "key"), Accepted("b", "key")], CLEAN)
    assert "key key made two orders" in books.problems


def test_a_second_copy_of_a_mail_is_counted_and_forgiven() -> None:
    books = audit(ACCEPTED, replace(CLEAN, mails=["a", "a", "b"]))
    assert books.clean
    assert books.mails == 3
