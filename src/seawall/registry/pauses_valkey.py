"""Pauses in a Valkey or Redis: one hash beside the registry's leases, which never runs out.

{NAMESPACE}:registry:pauses    hash: topic and group -> who paused it, when and why
"""

from collections.abc import Sequence
from contextlib import suppress

import msgspec

from seawall.registry.pauses import Pause, name_of, read_pause, written
from seawall.registry.resp import PATIENCE, Server

_READ = "return redis.call('HVALS', KEYS[1])"
_ADD = "return redis.call('HSETNX', KEYS[1], ARGV[1], ARGV[2])"
_REMOVE = "return redis.call('HDEL', KEYS[1], ARGV[1])"


class ValkeyPauses:
    """The pauses `namespace` of a server. See `seawall.registry.pauses.Pauses`."""

    def __init__(self, url: str, *, namespace: str = "seawall", patience: float = PATIENCE) -> None:
        self._server = Server(url, patience=patience)
        self._keys = (f"{{{namespace}}}:registry:pauses",)
        self._read = self._server.script(_READ)
        self._add = self._server.script(_ADD)
        self._remove = self._server.script(_REMOVE)

    async def read(self) -> Sequence[Pause]:
        found = []
        for record in await self._read(self._keys, ()):
            # What somebody else wrote there pauses nobody.
            with suppress(msgspec.MsgspecError, UnicodeDecodeError):
                found.append(read_pause(record))
        return found

    async def add(self, pause: Pause) -> bool:
        name = name_of(pause.topic, pause.group)
        return bool(await self._add(self._keys, (name, written(pause))))

    async def remove(self, topic: str, group: str) -> bool:
        return bool(await self._remove(self._keys, (name_of(topic, group),)))

    async def aclose(self) -> None:
        await self._server.aclose()

    def __repr__(self) -> str:
        return f"<ValkeyPauses {self._keys[0]} at {self._server.name}>"
