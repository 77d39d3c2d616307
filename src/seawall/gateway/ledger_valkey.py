"""The ledger of shared limits in Valkey or Redis (7 or later).

All keys are under one hash tag, so that they live in one slot of a cluster:

    {NAMESPACE}:limits:processes   sorted set: process -> when it stops to count
    {NAMESPACE}:limits:NAME        hash: process -> its share, its weight, when its lease ends

One script reads, divides and writes, with the server's clock; the rules are those of
`seawall.resilience.shares`. A key lives as long as the last lease of it.
"""

from collections.abc import Sequence

from seawall.gateway.ledger import Claim, Grant
from seawall.registry.resp import Server
from seawall.resilience.shares import IDLE

# A claim that takes longer is not worth waiting for: the next is due.
PATIENCE = 1.0  # seconds

# KEYS: processes, one for each claim. ARGV: process, lease in ms, IDLE, then rate and demand of
# each claim.
_CLAIM = """
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local process, lease, idle = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local ends = string.format('%.0f', now + lease)
redis.call('ZADD', KEYS[1], ends, process)
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now)
redis.call('PEXPIRE', KEYS[1], lease)
local answers = {redis.call('ZCARD', KEYS[1])}
for i = 2, #KEYS do
  local rate, demand = tonumber(ARGV[2 * i]), tonumber(ARGV[2 * i + 1])
  local own, others, taken = math.min(math.max(demand, idle * rate), rate), 0, 0
  local held = redis.call('HGETALL', KEYS[i])
  for j = 1, #held, 2 do
    if held[j] ~= process then
      local share, weight, till = string.match(held[j + 1], '^(%S+) (%S+) (%S+)$')
      if tonumber(till) <= now then
        redis.call('HDEL', KEYS[i], held[j])
      else
        taken, others = taken + tonumber(share), others + tonumber(weight)
      end
    end
  end
  local share = math.max(0, math.min(rate * own / (own + others), rate - taken))
  local record = string.format('%.17g %.17g %s', share, own, ends)
  redis.call('HSET', KEYS[i], process, record)
  redis.call('PEXPIRE', KEYS[i], lease)
  answers[i] = string.format('%.17g', share)
end
return answers
"""

_LEAVE = "return redis.call('ZREM', KEYS[1], ARGV[1])"


class ValkeyLedger:
    """The shares of `namespace` on a server. See `seawall.gateway.ledger.Ledger`."""

    def __init__(self, url: str, *, namespace: str = "seawall", patience: float = PATIENCE) -> None:
        self._server = Server(url, patience=patience)
        self._prefix = f"{{{namespace}}}:limits:"
        self._claim = self._server.script(_CLAIM)
        self._leave = self._server.script(_LEAVE)

    async def claim(self, process: str, claims: Sequence[Claim], lease: float) -> Grant:
        keys = [self._prefix + "processes"]
        arguments: list[str | bytes | int] = [process, max(1, round(lease * 1000)), repr(IDLE)]
        for claim in claims:
            keys.append(self._prefix + claim.name)
            arguments += (repr(claim.rate), repr(claim.demand))
        processes, *shares = await self._claim(keys, arguments)
        return Grant(int(processes), tuple(map(float, shares)))

    async def leave(self, process: str) -> None:
        await self._leave([self._prefix + "processes"], [process])

    async def aclose(self) -> None:
        await self._server.aclose()

    def __repr__(self) -> str:
        return f"<ValkeyLedger {self._prefix} at {self._server.name}>"
