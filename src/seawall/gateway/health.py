"""Active health checks: asks instances whether they are well, and pushes the verdicts.

One task looks what is due; each check is a task and a connection of its own, and ends in time.
What a row of checks means is `seawall.resilience.rise_fall`'s business, and what comes of it the
clusters': here is only the asking.
"""

import asyncio
import ssl
from random import Random

from seawall.clock import Clock
from seawall.concurrency.tasks import Tasks
from seawall.errors import Refused
from seawall.gateway.balance import HealthCheck
from seawall.gateway.clusters import Clusters
from seawall.gateway.upstream import ALWAYS, Endpoint
from seawall.transport.tls import explained

# How late a check may begin.
TICK = 0.1  # seconds

# Checks under way at once. With instances that all hang for a second, and are asked every five,
# that is enough for 320 of them; with more each is asked less often.
MAX_CHECKS = 64

# Checks of one instance are that much apart, of the interval: gateways that were started together
# must not ask together for ever.
_JITTER = (0.9, 1.1)

_UNHEARD = (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError)


class Checker:
    """Checks the instances of those services that want it while `run` is under way."""

    def __init__(self, clusters: Clusters, clock: Clock, rng: Random) -> None:
        self._clusters = clusters
        self._clock = clock
        self._rng = rng
        self._asked: set[Endpoint] = set()

    async def run(self) -> None:
        """Check until cancelled."""
        async with Tasks() as tasks:
            while True:
                for endpoint, check in self.due(self._clock.now()):
                    self._asked.add(endpoint)
                    tasks.start(self._check(endpoint, check), name=f"check {endpoint.key}")
                await self._clock.sleep(TICK)

    def due(self, now: float) -> list[tuple[Endpoint, HealthCheck]]:
        """Who is to be asked now. A newcomer's first check is anywhere in its first interval."""
        found: list[tuple[Endpoint, HealthCheck]] = []
        for endpoint in self._clusters.endpoints:
            if endpoint.health is None:
                continue
            check = endpoint.config.health
            if check is None:
                continue
            if endpoint.check_at == ALWAYS:
                endpoint.check_at = now + self._rng.uniform(0.0, check.interval)
            room = len(self._asked) + len(found) < MAX_CHECKS
            if endpoint.check_at <= now and room and endpoint not in self._asked:
                endpoint.check_at = now + check.interval * self._rng.uniform(*_JITTER)
                found.append((endpoint, check))
        return found

    async def _check(self, endpoint: Endpoint, check: HealthCheck) -> None:
        try:
            reason = await self._ask(endpoint, check)
            self._clusters.checked(endpoint, not reason, reason, self._clock.now())
        finally:
            self._asked.discard(endpoint)

    async def _ask(self, endpoint: Endpoint, check: HealthCheck) -> str:
        """Why the instance is not well; nothing if it is."""
        try:
            async with self._clock.timeout(check.timeout):
                status = await _status(endpoint, check)
        except TimeoutError:
            return f"no answer within {check.timeout:g} s"
        except ssl.SSLError as exc:
            return explained(exc)
        except Refused as exc:
            return str(exc)
        except (*_UNHEARD, UnicodeError) as exc:  # a host name may be none
            return f"{type(exc).__name__}: {exc}"
        return "" if status in check.expect else f"status {status}"

    def __repr__(self) -> str:
        return f"<Checker {len(self._asked)} under way>"


async def _status(endpoint: Endpoint, check: HealthCheck) -> int:
    """The status of an answer; 0 if that is not HTTP. What answers on a port of its own is asked
    in plain text: certificates are for the port that is registered."""
    address = endpoint.instance.address
    tls = None if check.port else endpoint.tls
    reader, writer = await asyncio.open_connection(
        address.host, check.port or address.port, ssl=None if tls is None else tls.context
    )
    try:
        if tls is not None:
            tls.check(writer.get_extra_info("peercert"))
        writer.write(
            f"GET {check.path} HTTP/1.1\r\nhost: {endpoint.instance.service}\r\n"
            f"user-agent: seawall-gateway\r\nconnection: close\r\n\r\n".encode("ascii")
        )
        version, _, rest = (await reader.readuntil(b"\r\n")).partition(b" ")
        return int(rest[:3]) if version.startswith(b"HTTP/1.") and rest[:3].isdigit() else 0
    finally:
        writer.close()
