"""Which groups an operator has paused: a switch that every replica reads.

It is kept beside the registry's leases and not with the messages: every deployment has a registry,
and only some brokers have a place for it. It has no lease, so it outlives every process, until
somebody resumes.
"""

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol
from urllib.parse import urlsplit
from weakref import WeakValueDictionary

import msgspec

from seawall.errors import Misconfigured
from seawall.registry.connect import RESP_SCHEMES, split_namespace


@dataclass(frozen=True, slots=True)
class Pause:
    """A group that takes no messages for now."""

    topic: str
    group: str
    since: float  # wall clock, seconds since 1970
    by: str = ""
    why: str = ""


class Pauses(Protocol):
    """The groups that are paused.

    What was written is read by everybody who asks later; nobody is told, so who has to know asks
    again and again. Every method raises `Unavailable` when the registry cannot be reached.
    """

    async def read(self) -> Sequence[Pause]: ...

    async def add(self, pause: Pause) -> bool:
        """Pause a group; False if it was paused already, which keeps who did it and when."""

    async def remove(self, topic: str, group: str) -> bool:
        """Let a group go on; False if it was not paused."""

    async def aclose(self) -> None:
        """Give back connections. Calling it twice is fine."""


def open_pauses(url: str) -> Pauses:
    """The pauses beside the registry at `url`; connects when first asked."""
    scheme = urlsplit(url).scheme
    if scheme == "memory":
        return MemoryPauses(urlsplit(url).netloc or "default")
    if scheme in RESP_SCHEMES:
        # Loading the library takes 0.5 s, which those who only use memory need not wait for.
        from seawall.registry.pauses_valkey import ValkeyPauses

        address, namespace = split_namespace(url)
        return ValkeyPauses(address, namespace=namespace)
    raise Misconfigured(
        f"{scheme or url!r} is no kind of registry",
        fix="redis://HOST:6379/0, valkey://…, rediss://… or unix:///PATH.sock?db=0",
    )


def written(pause: Pause) -> bytes:
    return msgspec.json.encode(pause)


def name_of(topic: str, group: str) -> bytes:
    return msgspec.json.encode((topic, group))


read_pause = msgspec.json.Decoder(Pause).decode


class _Board:
    """What the holders of one name share, from whatever thread."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.pauses: dict[tuple[str, str], Pause] = {}


_BOARDS: WeakValueDictionary[str, _Board] = WeakValueDictionary()
_OPENING = threading.Lock()


class MemoryPauses:
    """The pauses `name` of this process; gone with whoever holds them last."""

    def __init__(self, name: str = "default") -> None:
        self.name = name
        with _OPENING:
            self._board = _BOARDS.setdefault(name, _Board())

    async def read(self) -> Sequence[Pause]:
        with self._board.lock:
            return tuple(self._board.pauses.values())

    async def add(self, pause: Pause) -> bool:
        with self._board.lock:
            return self._board.pauses.setdefault((pause.topic, pause.group), pause) is pause

    async def remove(self, topic: str, group: str) -> bool:
        with self._board.lock:
            return self._board.pauses.pop((topic, group), None) is not None

    async def aclose(self) -> None:
        """Nothing to give back."""

    def __repr__(self) -> str:
        return f"<MemoryPauses {self.name} {len(self._board.pauses)} paused>"
