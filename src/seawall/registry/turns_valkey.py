"""Turns in Valkey or Redis (7 or later), beside the registry.

{NAMESPACE}:turn:NAME holds the holder and ends by the key's own expiry, on the server's clock;
{NAMESPACE}:mark:NAME holds the latest mark, in seconds since 1970.
"""

from seawall.registry.resp import PATIENCE, Server

# A mark is needed until the next one; the rarest schedule is once a year.
KEPT = 400 * 86_400  # seconds

_TAKE = """
local held = redis.call('GET', KEYS[1])
if held and held ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 1
"""

_GIVE = """
if redis.call('GET', KEYS[1]) == ARGV[1] then redis.call('DEL', KEYS[1]) end
return 1
"""

_MARK = """
local last = tonumber(redis.call('GET', KEYS[1]) or '-inf')
if not last or tonumber(ARGV[1]) > last then redis.call('SET', KEYS[1], ARGV[1], 'EX', ARGV[2]) end
return 1
"""

_MARKED = "return redis.call('GET', KEYS[1])"


class ValkeyTurns:
    """The turns of `namespace` on a server. See `seawall.registry.turns.Turns`."""

    def __init__(self, url: str, *, namespace: str = "seawall", patience: float = PATIENCE) -> None:
        self._server = Server(url, patience=patience)
        self._prefix = f"{{{namespace}}}:"
        self._take = self._server.script(_TAKE)
        self._give = self._server.script(_GIVE)
        self._mark = self._server.script(_MARK)
        self._marked = self._server.script(_MARKED)

    async def take(self, name: str, holder: str, seconds: float) -> bool:
        milliseconds = max(1, round(seconds * 1000))
        return bool(await self._take([f"{self._prefix}turn:{name}"], [holder, milliseconds]))

    async def give(self, name: str, holder: str) -> None:
        await self._give([f"{self._prefix}turn:{name}"], [holder])

    async def mark(self, name: str, at: float) -> None:
        await self._mark([f"{self._prefix}mark:{name}"], [repr(at), KEPT])

    async def marked(self, name: str) -> float | None:
        found = await self._marked([f"{self._prefix}mark:{name}"], [])
        return None if found is None else float(found)

    async def aclose(self) -> None:
        await self._server.aclose()

    def __repr__(self) -> str:
        return f"<ValkeyTurns {self._prefix} at {self._server.name}>"
