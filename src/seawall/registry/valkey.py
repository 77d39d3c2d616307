"""A registry in Valkey or Redis (7 or later), shared by everybody who reaches the server.

Two keys and a channel, all under one hash tag, so that they live in one slot of a cluster:

    {NAMESPACE}:registry:leases    sorted set: place -> when its lease ends, in the server's time
    {NAMESPACE}:registry:records   hash: place -> the record
    {NAMESPACE}:registry:changes   channel: "+" and a record that changed, "-" and one that left

A record is two lines of JSON: what lasts, and the measurements of the last heartbeat. Every write
is one script, so record, lease and notice are never apart, and only the server's clock counts.
The rules are those of `seawall.registry.lease`.
"""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace

import msgspec

from seawall.facts import Observer, ignore
from seawall.registry.base import DEFAULT_TTL
from seawall.registry.lease import REMEMBER_GONE, place
from seawall.registry.resp import PATIENCE, Server
from seawall.topology import Instance, InstanceState

# What all scripts begin with. KEYS: leases, records. ARGV[1]: the channel.
_COMMON = """
local leases, records, channel = KEYS[1], KEYS[2], ARGV[1]
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

local function lasting(record)
  return string.match(record, '^[^\\n]*')
end

-- What is known of a record, or nil if somebody wrote rubbish there.
local function known(record)
  local fine, about = pcall(cjson.decode, lasting(record))
  if fine and type(about) == 'table' then return about end
end

-- Drop leases that ran out, and say so. When most of them end at once, it is rather the
-- registry that was away (paused, moved to another machine, its clock set): nobody is told
-- then; watchers find out by reading, and judge for themselves.
local function sweep()
  local over = redis.call('ZRANGEBYSCORE', leases, '-inf', now, 'LIMIT', 0, 1000)
  if #over == 0 then return end
  local mass = #over > 1 and #over * 2 > redis.call('ZCARD', leases)
  for _, place in ipairs(over) do
    local record = redis.call('HGET', records, place)
    redis.call('ZREM', leases, place)
    redis.call('HDEL', records, place)
    local about = record and known(record)
    if about and about.state ~= 'gone' and not mass then
      redis.call('PUBLISH', channel, '-' .. record)
    end
  end
end

-- A project that is gone for good leaves nothing on the server for longer than a day.
local function keep()
  redis.call('PEXPIRE', leases, 86400000)
  redis.call('PEXPIRE', records, 86400000)
end
"""

_RENEW = (
    _COMMON
    + """
local place, ttl, record = ARGV[2], tonumber(ARGV[3]), ARGV[4]
local rank = {starting = 0, ready = 1, draining = 2, gone = 3}
sweep()
local held = redis.call('HGET', records, place)
local about = held and redis.call('ZSCORE', leases, place) and known(held)
if about then
  local news = cjson.decode(lasting(record))
  if about.incarnation ~= news.incarnation then
    if news.started_at < about.started_at then return 0 end
  elseif rank[news.state] < rank[about.state] then
    return 0
  end
end
redis.call('HSET', records, place, record)
redis.call('ZADD', leases, now + ttl, place)
keep()
if not about or lasting(held) ~= lasting(record) then
  redis.call('PUBLISH', channel, '+' .. record)
end
return 1
"""
)

_DEREGISTER = (
    _COMMON
    + """
local place, incarnation, remember, record = ARGV[2], ARGV[3], tonumber(ARGV[4]), ARGV[5]
sweep()
local held = redis.call('HGET', records, place)
local about = held and known(held)
if not about or about.incarnation ~= incarnation or about.state == 'gone' then return 0 end
redis.call('HSET', records, place, record)
redis.call('ZADD', leases, now + remember, place)
keep()
redis.call('PUBLISH', channel, '-' .. held)
return 1
"""
)

_READ = (
    _COMMON
    + """
sweep()
-- A server short of memory may have evicted one key and not the other.
if redis.call('ZCARD', leases) ~= redis.call('HLEN', records) then
  for _, place in ipairs(redis.call('HKEYS', records)) do
    if not redis.call('ZSCORE', leases, place) then redis.call('HDEL', records, place) end
  end
end
return redis.call('HVALS', records)
"""
)


@dataclass(frozen=True, slots=True)
class RecordUnreadable:
    """A record in the registry was not written by any Seawall we know, and is left out."""

    record: str  # its first 200 characters
    reason: str


_RECORD = msgspec.json.Decoder(Instance)
_MEASURED = msgspec.json.Decoder(tuple[float, int])


def _written(instance: Instance) -> bytes:
    lasting = msgspec.json.encode(replace(instance, loop_lag=0.0, in_flight=0))
    return lasting + b"\n" + msgspec.json.encode((instance.loop_lag, instance.in_flight))


def _read(record: bytes) -> Instance:
    lasting, _, measured = record.partition(b"\n")
    loop_lag, in_flight = _MEASURED.decode(measured)
    return replace(_RECORD.decode(lasting), loop_lag=loop_lag, in_flight=in_flight)


class ValkeyRegistry:
    """The registry `namespace` of a server. See `seawall.registry.base.Registry`."""

    def __init__(
        self,
        url: str,
        *,
        namespace: str = "seawall",
        patience: float = PATIENCE,
        observer: Observer = ignore,
    ) -> None:
        self._server = Server(url, patience=patience)
        self._observer = observer
        prefix = f"{{{namespace}}}:registry:"
        self._keys = (prefix + "leases", prefix + "records")
        self._channel = prefix + "changes"
        self._renew = self._server.script(_RENEW)
        self._deregister = self._server.script(_DEREGISTER)
        self._read = self._server.script(_READ)

    async def renew(self, instance: Instance, ttl: float = DEFAULT_TTL) -> bool:
        name = "/".join(place(instance))
        milliseconds = max(1, round(ttl * 1000))
        return bool(
            await self._renew(self._keys, (self._channel, name, milliseconds, _written(instance)))
        )

    async def deregister(self, instance: Instance) -> bool:
        gone = _written(instance.moved(InstanceState.GONE))
        remember = round(REMEMBER_GONE * 1000)
        name = "/".join(place(instance))
        return bool(
            await self._deregister(
                self._keys, (self._channel, name, instance.incarnation, remember, gone)
            )
        )

    async def read(self) -> Sequence[Instance]:
        records = await self._read(self._keys, (self._channel,))
        instances = (self._decoded(record) for record in records)
        return tuple(i for i in instances if i is not None and i.state is not InstanceState.GONE)

    @asynccontextmanager
    async def changes(self) -> AsyncIterator[AsyncIterator[Instance]]:
        async with self._server.subscribed(self._channel) as published:
            yield self._announced(published)

    async def _announced(self, published: AsyncIterator[bytes]) -> AsyncIterator[Instance]:
        async for notice in published:
            if (instance := self._decoded(notice[1:])) is not None:
                yield instance.moved(InstanceState.GONE) if notice[:1] == b"-" else instance

    def _decoded(self, record: bytes) -> Instance | None:
        try:
            return _read(record)
        except (msgspec.MsgspecError, UnicodeDecodeError) as exc:
            shown = record[:200].decode(errors="replace")
            self._observer(RecordUnreadable(shown, str(exc)))
            return None

    async def aclose(self) -> None:
        await self._server.aclose()

    def __repr__(self) -> str:
        return f"<ValkeyRegistry {self._keys[0]} at {self._server.name}>"
