import pytest

from seawall.clock import SYSTEM
from seawall.concurrency.tasks import Tasks
from seawall.errors import Full
from shop.users.app import Credentials
from shop.users.passwords import AT_ONCE, WAITING, Passwords


async def test_a_password_matches_its_hash_alone() -> None:
    passwords = Passwords()
    hashed = await passwords.hash("correct horse")
    assert hashed.startswith("$argon2id$")
    assert await passwords.matches(hashed, "correct horse")
    assert not await passwords.matches(hashed, "battery staple")
    assert not await passwords.matches(None, "nobody has this password")
    assert not await passwords.matches("not a hash", "correct horse")


async def test_a_flood_is_told_to_come_back() -> None:
    passwords = Passwords()
    async with Tasks() as flood:
        for _ in range(AT_ONCE + WAITING):
            flood.start(passwords.hash("x"))
        await SYSTEM.sleep(0)  # let them take their places
        with pytest.raises(Full):
            await passwords.hash("one too many")
    assert await passwords.hash("now there is room")


@pytest.mark.parametrize("email", ["a", "a@b", "a b@c.d", "a@b.c\r\nBcc: x@y.z", "<a@b.c>", ""])
def test_what_is_no_address_is_refused(email: str) -> None:
    with pytest.raises(ValueError, match="email"):
        Credentials(email=email, password="long enough")
