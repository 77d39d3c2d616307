"""Passwords: hashed with argon2id, off the event loop, a few at a time.

Hashing is slow on purpose. In a thread it does not hold up other requests; more than a few at
once would only share the same cores and use up memory, so who does not get a place soon is told
to come back, and a flood of logins cannot take the rest of the service down.
"""

import asyncio

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerifyMismatchError

from seawall.resilience.bulkhead import Bulkhead

# OWASP's second recommendation (2024): 19 MiB, 2 passes, 1 lane; about 20 ms of one core.
_HASHER = PasswordHasher(time_cost=2, memory_cost=19 * 1024, parallelism=1)

AT_ONCE = 2  # the cores a small machine has
WAITING = 50  # about half a second of work

# Compared with when nobody has that address, so that the time taken does not tell who has.
_NOBODY = _HASHER.hash("nobody has this password")


class Passwords:
    """Makes and checks hashes. Raises `Full` if too many wait."""

    def __init__(self) -> None:
        self._waiting = Bulkhead(AT_ONCE + WAITING)
        self._places = asyncio.Semaphore(AT_ONCE)

    async def hash(self, password: str) -> str:
        with self._waiting.slot():
            async with self._places:
                return await asyncio.to_thread(_HASHER.hash, password)

    async def matches(self, hashed: str | None, password: str) -> bool:
        """Is it that password? `hashed` is None where there is no account."""
        with self._waiting.slot():
            async with self._places:
                return await asyncio.to_thread(_matches, hashed, password)


def _matches(hashed: str | None, password: str) -> bool:
    try:
        return _HASHER.verify(hashed or _NOBODY, password) and hashed is not None
    except (VerifyMismatchError, InvalidHashError):
        return False
