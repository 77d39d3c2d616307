"""Sessions in Valkey or Redis (7 or later).

Each is a hash under {NAMESPACE}:session:HASH-OF-THE-NAME with `data` (JSON), `version` and `end`
(milliseconds since 1970 by the server's clock: its life ends then, however busy it is). Loading
moves the expiry of the key and writes nothing else.
"""

import json
from collections.abc import Mapping
from typing import Any

from seawall.errors import Unavailable
from seawall.identity.sessions import (
    Session,
    SessionConflict,
    SessionLost,
    SessionRules,
    new_session_id,
    stored_name,
    written,
)
from seawall.registry.resp import PATIENCE, Server

_COMMON = """
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local function touch(key, idle, ends)
  redis.call('PEXPIREAT', key, math.min(now + idle, ends))
end
"""

_CREATE = (
    _COMMON
    + """
local idle, lifetime, data = tonumber(ARGV[1]), tonumber(ARGV[2]), ARGV[3]
redis.call('HSET', KEYS[1], 'data', data, 'version', 1, 'end', now + lifetime)
touch(KEYS[1], idle, now + lifetime)
return 1
"""
)

_LOAD = (
    _COMMON
    + """
local kept = redis.call('HMGET', KEYS[1], 'data', 'version', 'end')
if not kept[1] then return false end
touch(KEYS[1], tonumber(ARGV[1]), tonumber(kept[3]))
return {kept[1], tonumber(kept[2])}
"""
)

# Returns the new version, 0 if the session is lost, -1 if another version is there.
_SAVE = (
    _COMMON
    + """
local idle, version, data = tonumber(ARGV[1]), tonumber(ARGV[2]), ARGV[3]
local kept = redis.call('HMGET', KEYS[1], 'version', 'end')
if not kept[1] then return 0 end
if tonumber(kept[1]) ~= version then return -1 end
local ends, name = tonumber(kept[2]), KEYS[2] or KEYS[1]
if KEYS[2] then redis.call('DEL', KEYS[1]) end
redis.call('HSET', name, 'data', data, 'version', version + 1, 'end', kept[2])
touch(name, idle, ends)
return version + 1
"""
)

_END = "return redis.call('DEL', KEYS[1])"


class ValkeySessions:
    """The sessions of `namespace` on a server. See `seawall.identity.sessions.Sessions`."""

    def __init__(
        self,
        url: str,
        rules: SessionRules | None = None,
        *,
        namespace: str = "seawall",
        patience: float = PATIENCE,
    ) -> None:
        rules = rules or SessionRules()
        self._idle = max(1, round(rules.idle * 1000))
        self._lifetime = max(1, round(rules.lifetime * 1000))
        self._prefix = f"{{{namespace}}}:session:"
        self._server = Server(url, patience=patience)
        self._create = self._server.script(_CREATE)
        self._load = self._server.script(_LOAD)
        self._save = self._server.script(_SAVE)
        self._end = self._server.script(_END)

    async def create(self, data: Mapping[str, Any]) -> Session:
        session_id, document = new_session_id(), written(data)
        await self._create([self._key(session_id)], [self._idle, self._lifetime, document])
        return Session(session_id, json.loads(document))

    async def load(self, session_id: str) -> Session | None:
        if stored_name(session_id) is None:
            return None
        found = await self._load([self._key(session_id)], [self._idle])
        if found is None:
            return None
        try:
            return Session(session_id, json.loads(found[0]), found[1])
        except ValueError as exc:
            raise Unavailable(f"{self._server.name} holds no session there: {exc}") from exc

    async def save(self, session: Session, data: Mapping[str, Any]) -> Session:
        return await self._replace(session, session.session_id, data)

    async def rotate(self, session: Session, data: Mapping[str, Any]) -> Session:
        return await self._replace(session, new_session_id(), data)

    async def _replace(self, session: Session, name: str, data: Mapping[str, Any]) -> Session:
        document = written(data)
        keys = list(dict.fromkeys([self._key(session.session_id), self._key(name)]))
        version = await self._save(keys, [self._idle, session.version, document])
        if version == 0:
            raise SessionLost("there is no such session any more")
        if version < 0:
            raise SessionConflict("somebody else saved this session")
        return Session(name, json.loads(document), version)

    async def end(self, session_id: str) -> None:
        if stored_name(session_id) is not None:
            await self._end([self._key(session_id)], [])

    async def aclose(self) -> None:
        await self._server.aclose()

    def _key(self, session_id: str) -> str:
        return f"{self._prefix}{stored_name(session_id)}"

    def __repr__(self) -> str:
        return f"<ValkeySessions {self._prefix} at {self._server.name}>"
