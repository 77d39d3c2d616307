"""Servers that live as long as the run: several tests use one, and none of them stops it."""

from collections.abc import Callable, Iterator
from typing import Protocol, TypeVar

# Their processes, which are not left behind by any one test.
SHARED: set[int] = set()


class _Server(Protocol):
    @property
    def pids(self) -> tuple[int, ...]: ...

    def stop(self) -> None: ...


S = TypeVar("S", bound=_Server)


def shared(start: Callable[[], S]) -> Iterator[S]:
    """What a fixture of the whole run yields from."""
    server = start()
    SHARED.update(server.pids)
    try:
        yield server
    finally:
        server.stop()
