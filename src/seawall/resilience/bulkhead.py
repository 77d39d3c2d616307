"""Bulkhead: at most so many calls to one destination at once.

A slow destination then holds its own places, not every connection, task and byte of the process.
It never waits: a queue in front of a slow destination only makes it slower for all.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from seawall.errors import Full, Misconfigured


@dataclass(frozen=True, slots=True)
class BulkheadSnapshot:
    limit: int
    taken: int
    refused: int


class Bulkhead:
    """`limit` slots. For one event loop; it is not thread-safe."""

    __slots__ = ("_refused", "_taken", "limit")

    def __init__(self, limit: int) -> None:
        if limit < 1:
            raise Misconfigured(f"a bulkhead has 1 slot or more, not {limit}")
        self.limit: int = limit
        self._taken: int = 0
        self._refused: int = 0

    def try_acquire(self) -> bool:
        """Take a slot; False if there is none. Give it back with `release`."""
        if self._taken >= self.limit:
            self._refused += 1
            return False
        self._taken += 1
        return True

    def release(self) -> None:
        """Give a slot back. Raises `RuntimeError` if none is taken: a slot was given back twice."""
        if not self._taken:
            raise RuntimeError("a bulkhead's slot was released twice")
        self._taken -= 1

    @contextmanager
    def slot(self) -> Iterator[None]:
        """Hold a slot for the block. Raises `Full` at once if there is none."""
        if not self.try_acquire():
            raise Full(f"all {self.limit} slots are taken")
        try:
            yield
        finally:
            self.release()

    def snapshot(self) -> BulkheadSnapshot:
        return BulkheadSnapshot(self.limit, self._taken, self._refused)

    def __repr__(self) -> str:
        return f"<Bulkhead {self._taken} of {self.limit} taken>"
