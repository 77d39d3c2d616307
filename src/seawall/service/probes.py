"""Paths that every service answers itself, outside its routes and limits."""

import asyncio
from collections.abc import Iterable
from typing import Protocol

import msgspec
from starlette.types import Receive, Scope, Send

from seawall.service.edge import Probe
from seawall.service.gauges import Gauges
from seawall.service.health import Health, Status, overall
from seawall.service.life import Life
from seawall.telemetry.metrics import Metrics
from seawall.topology import InstanceState

_TEXT = b"text/plain; charset=utf-8"
_JSON = b"application/json"


class Probed(Protocol):
    """What the probes tell about."""

    name: str
    version: str
    health: Health
    metrics: Metrics
    gauges: Gauges
    draining: bool
    life: Life | None
    served_by: bytes


class Probes:
    """`/livez`, `/startupz`, `/readyz`, `/health`, `/metrics`."""

    def __init__(self, service: Probed) -> None:
        self._service = service
        self.by_path: dict[str, Probe] = {
            "/livez": self.livez,
            "/startupz": self.startupz,
            "/readyz": self.readyz,
            "/health": self.healthy,
            "/metrics": self.metrics,
        }

    async def livez(self, scope: Scope, receive: Receive, send: Send) -> None:
        """200 while this code runs at all; no dependency is looked at."""
        await self._answer(send, 200, _TEXT, b"ok\n")

    async def startupz(self, scope: Scope, receive: Receive, send: Send) -> None:
        started = self._state() is not InstanceState.STARTING
        await self._answer(send, 200 if started else 503, _TEXT, b"ok\n" if started else b"no\n")

    async def readyz(self, scope: Scope, receive: Receive, send: Send) -> None:
        """200 if this replica may get requests; otherwise 503, with the reasons.

        A group whose consumption is paused is told, and makes nothing unready: what its handlers
        lack, other replicas lack, too.
        """
        reasons = await self._unready()
        if not reasons:
            life = self._service.life
            lines = ["ok", *(life.paused if life is not None else ())]
            await self._answer(send, 200, _TEXT, "".join(f"{line}\n" for line in lines).encode())
            return
        body = "".join(f"{reason}\n" for reason in reasons).encode("utf-8", "replace")
        await self._answer(send, 503, _TEXT, body, [(b"retry-after", b"1")])

    async def _unready(self) -> list[str]:
        state = self._state()
        if state is not InstanceState.READY:
            return [state.value]
        if self._service.draining:
            return [InstanceState.DRAINING.value]
        life = self._service.life
        if life is not None and life.registering:
            return ["being registered"]  # whom it follows may leave only once it is known
        return await self._service.health.unready()

    async def healthy(self, scope: Scope, receive: Receive, send: Send) -> None:
        """All checks. 503 only if a needed one fails."""
        service = self._service
        results = await service.health.results()
        status = overall(results)
        life = service.life
        content = {
            "status": status.value,
            "service": service.name,
            "version": service.version,
            "instance": life.instance_id if life else "",
            "state": self._state().value,
            "checks": {
                result.name: {
                    "status": result.status.value,
                    "output": result.output,
                    "needed": result.needed,
                    "observedValue": round(result.seconds * 1000, 3),
                    "observedUnit": "ms",
                }
                for result in results
            },
        }
        code = 503 if status is Status.FAIL else 200
        await self._answer(send, code, _JSON, msgspec.json.encode(content))

    async def metrics(self, scope: Scope, receive: Receive, send: Send) -> None:
        accept = next((v for k, v in scope["headers"] if k == b"accept"), b"").decode("latin-1")
        await self._service.gauges.refresh()
        # In a thread: it reads /proc, and its text may be long.
        body, content_type = await asyncio.to_thread(self._service.metrics.render, accept)
        await self._answer(send, 200, content_type.encode(), body)

    def _state(self) -> InstanceState:
        life = self._service.life
        return InstanceState.STARTING if life is None else life.state

    async def _answer(
        self,
        send: Send,
        status: int,
        content_type: bytes,
        body: bytes,
        more: Iterable[tuple[bytes, bytes]] = (),
    ) -> None:
        headers = [
            (b"content-type", content_type),
            (b"content-length", str(len(body)).encode()),
            (b"cache-control", b"no-store"),
            (b"x-served-by", self._service.served_by),
            *more,
        ]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})
