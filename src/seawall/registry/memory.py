"""A registry inside this process: the reference of the contract, and the default of tests.

Everybody who opens the same name shares one table, from whatever thread: heartbeats come from
threads of their own.
"""

import asyncio
import threading
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from weakref import WeakValueDictionary

from seawall.clock import SYSTEM, Clock
from seawall.errors import Unavailable
from seawall.registry.base import DEFAULT_TTL
from seawall.registry.lease import Leases
from seawall.topology import Instance

# Changes a watcher may be behind before its stream breaks. It then reads everything again,
# which costs less than working through more changes than there are instances.
MAX_BEHIND = 10_000


class _Stream:
    """One open stream of changes, filled from any thread, read on the loop that opened it."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._changes: asyncio.Queue[Instance] = asyncio.Queue()
        self._broken = False

    def tell(self, changes: Iterable[Instance]) -> None:
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._add, tuple(changes))

    def _add(self, changes: tuple[Instance, ...]) -> None:
        if self._changes.qsize() + len(changes) > MAX_BEHIND:
            self._broken = True
        else:
            for change in changes:
                self._changes.put_nowait(change)

    async def read(self) -> AsyncIterator[Instance]:
        while not self._broken:
            yield await self._changes.get()
        raise Unavailable(f"more than {MAX_BEHIND} changes behind")


class _Board:
    """What the holders of one name share."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.leases = Leases()
        self.streams: set[_Stream] = set()

    def tell(self, changes: Sequence[Instance]) -> None:
        if changes:
            for stream in self.streams:
                stream.tell(changes)


# A board lives as long as somebody holds it, so names of finished tests cost nothing.
_BOARDS: WeakValueDictionary[str, _Board] = WeakValueDictionary()
_OPENING = threading.Lock()


class MemoryRegistry:
    """The registry `name` of this process. See `seawall.registry.base.Registry`."""

    def __init__(self, name: str = "default", *, clock: Clock = SYSTEM) -> None:
        self.name = name
        self._clock = clock
        with _OPENING:
            self._board = _BOARDS.setdefault(name, _Board())

    async def renew(self, instance: Instance, ttl: float = DEFAULT_TTL) -> bool:
        now = self._clock.now()
        with self._board.lock:
            expired = self._board.leases.expire(now)
            renewal = self._board.leases.renew(instance, ttl, now)
            self._board.tell((*expired, *renewal.changes))
        return renewal.accepted

    async def deregister(self, instance: Instance) -> bool:
        now = self._clock.now()
        with self._board.lock:
            expired = self._board.leases.expire(now)
            removed = self._board.leases.deregister(instance, now)
            self._board.tell((*expired, *removed))
        return bool(removed)

    async def read(self) -> Sequence[Instance]:
        with self._board.lock:
            self._board.tell(self._board.leases.expire(self._clock.now()))
            return tuple(self._board.leases)

    @asynccontextmanager
    async def changes(self) -> AsyncIterator[AsyncIterator[Instance]]:
        stream = _Stream()
        with self._board.lock:
            self._board.streams.add(stream)
        try:
            yield stream.read()
        finally:
            with self._board.lock:
                self._board.streams.discard(stream)

    async def aclose(self) -> None:
        """Nothing to give back."""

    def __repr__(self) -> str:
        return f"<MemoryRegistry {self.name} {self._board.leases!r}>"
