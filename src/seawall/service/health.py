"""Liveness, readiness, health.

Liveness never looks at a dependency: a restart heals none. Readiness looks only at what this
replica alone has to say (its own state, and checks declared `needed`), since a shared
dependency that fails would otherwise take every replica out at once. `/health` shows all.
"""

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from seawall.clock import SYSTEM, Clock
from seawall.errors import SeawallError

# Many probes a second cost one check a second.
CACHED_FOR = 1.0  # seconds

Probe = Callable[[], Awaitable[object] | object]


class Status(StrEnum):
    PASS = "pass"
    WARN = "warn"
    FAIL = "fail"


@dataclass(frozen=True, slots=True)
class CheckResult:
    name: str
    status: Status
    output: str  # why not, for people; empty if it passed
    seconds: float
    needed: bool


class Check:
    """One named check: passes if it returns anything but False and does not raise."""

    def __init__(
        self, name: str, probe: Probe, *, needed: bool, within: float, clock: Clock = SYSTEM
    ) -> None:
        self.name = name
        self.needed = needed
        self._probe = probe
        self._within = within
        self._clock = clock
        self._last: CheckResult | None = None
        self._checked_at = float("-inf")
        self._running: asyncio.Lock | None = None

    async def result(self) -> CheckResult:
        """The result, at most `CACHED_FOR` seconds old."""
        self._running = self._running or asyncio.Lock()
        async with self._running:  # those who come meanwhile share the result
            if self._last is None or self._clock.now() - self._checked_at > CACHED_FOR:
                self._last = await self._run()
                self._checked_at = self._clock.now()
            return self._last

    async def _run(self) -> CheckResult:
        start = self._clock.now()
        fault = await self._fault()
        status = Status.PASS if fault is None else Status.FAIL if self.needed else Status.WARN
        return CheckResult(self.name, status, fault or "", self._clock.now() - start, self.needed)

    async def _fault(self) -> str | None:
        try:
            async with asyncio.timeout(self._within):
                outcome = self._probe()
                if inspect.isawaitable(outcome):
                    outcome = await outcome
        except TimeoutError:
            return f"no answer within {self._within} s"
        except SeawallError as exc:
            return str(exc)
        except Exception as exc:  # noqa: BLE001 - a check is somebody else's code; failing is its answer
            return f"{type(exc).__name__}: {exc}"
        return "the check returned False" if outcome is False else None


class Health:
    """The checks of one service."""

    def __init__(self) -> None:
        self._checks: dict[str, Check] = {}

    def add(self, check: Check) -> None:
        """A later check of the same name takes its place."""
        self._checks[check.name] = check

    async def results(self) -> list[CheckResult]:
        return list(await asyncio.gather(*(check.result() for check in self._checks.values())))

    async def unready(self) -> list[str]:
        """Why this replica must get no requests now; empty if nothing speaks against it."""
        needed = [check for check in self._checks.values() if check.needed]
        results = await asyncio.gather(*(check.result() for check in needed))
        return [f"{r.name}: {r.output}" for r in results if r.status is Status.FAIL]


def overall(results: list[CheckResult]) -> Status:
    """The worst of them."""
    statuses = {result.status for result in results}
    return next((s for s in (Status.FAIL, Status.WARN) if s in statuses), Status.PASS)


class Unwell(SeawallError):
    """What a check of Seawall's own found."""


def raise_if(faults: Sequence[str]) -> None:
    """A check that fails with `faults`, if there are any."""
    if faults:
        raise Unwell("; ".join(faults))
