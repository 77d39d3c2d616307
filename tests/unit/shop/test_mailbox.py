from pathlib import Path

from shop.mailbox.store import Mails


def mail(number: int, to: str = "ann@example.org") -> bytes:
    return (
        f"Message-ID: <{number}@shop>\r\nTo: {to}\r\nSubject: Order {number}\r\n\r\nThanks\r\n"
    ).encode()


def test_a_mail_is_listed_and_kept_as_it_came(tmp_path: Path) -> None:
    mails = Mails(tmp_path)
    kept = mails.add(mail(1))
    assert (kept.message_id, kept.subject) == ("<1@shop>", "Order 1")
    assert mails.listed() == [kept]
    assert mails.content(kept.number) == mail(1)


def test_mails_survive_a_restart_and_an_unfinished_one_does_not(tmp_path: Path) -> None:
    first = Mails(tmp_path)
    first.add(mail(1))
    first.add(mail(2))
    (tmp_path / "00000003.part").write_bytes(b"Message-ID: half")
    again = Mails(tmp_path)
    assert [found.message_id for found in again.listed()] == ["<1@shop>", "<2@shop>"]
    assert again.add(mail(3)).number == 3


def test_the_same_mail_twice_can_be_seen_twice(tmp_path: Path) -> None:
    mails = Mails(tmp_path)
    mails.add(mail(1))
    mails.add(mail(1))
    assert [found.message_id for found in mails.listed()] == ["<1@shop>", "<1@shop>"]


def test_lists_can_be_cut_and_filtered(tmp_path: Path) -> None:
    mails = Mails(tmp_path)
    for number in range(1, 4):
        mails.add(mail(number, to="ann@example.org" if number != 2 else "bob@example.org"))
    assert [found.number for found in mails.listed(after=1)] == [2, 3]
    assert [found.number for found in mails.listed(limit=2)] == [1, 2]
    assert [found.number for found in mails.listed(recipient="bob@example.org")] == [2]
    assert mails.content(99) is None


def test_what_is_encoded_or_folded_is_listed_as_people_read_it(tmp_path: Path) -> None:
    kept = Mails(tmp_path).add(
        b"Message-ID:\r\n <long@shop>\r\nTo: ann@example.org\r\n"
        b"Subject: =?utf-8?b?w4RwZmVs?= and\r\n pears\r\n\r\nThanks\r\n"
    )
    assert (kept.message_id, kept.subject) == ("<long@shop>", "Äpfel and pears")
    odd = Mails(tmp_path).add(b"Subject: =?no-such?b?w4RwZmVs?=\r\nTo: a\xff\r\n\r\n")
    assert odd.subject == "=?no-such?b?w4RwZmVs?="
