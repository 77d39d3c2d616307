"""The outermost ASGI layer: what is true of every request, done once and cheaply.

One object a request instead of a stack of middlewares, since each layer costs a coroutine and
its closures. In order: probes (answered even when the service is saturated), admission
(deadline, requests under way), context (trace, request id, identity), the application, and on
the way out `x-served-by`, `x-request-id`, `Connection: close` while draining, compression, and
the metric.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any, Protocol

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from seawall.clock import SYSTEM
from seawall.resilience.deadline import Deadline
from seawall.service import compression, context
from seawall.service.problem import Problem, unexpected
from seawall.service.strict_json import StrictJson
from seawall.telemetry import tracing
from seawall.wire.trace import TraceContext

log = logging.getLogger("seawall.service")

# Larger bodies are compressed in a thread: 128 KiB take about 2 ms.
_IN_THREAD = 128 * 1024

_MAX_ID = 128  # characters of a request id that we repeat

_DEADLINE = b"x-deadline-ms"
_REQUEST_ID = b"x-request-id"
_IDEMPOTENCY = b"idempotency-key"
_READ = frozenset(
    {
        *(_DEADLINE, _REQUEST_ID, _IDEMPOTENCY, b"traceparent", b"tracestate", b"content-type"),
        *(b"x-identity-subject", b"x-identity-scopes", b"x-identity-issuer", b"accept-encoding"),
    }
)
_IDENTITY = (b"x-identity-subject", b"x-identity-scopes", b"x-identity-issuer")

# Safe to abandon when the caller's time is up; others may be in the middle of a write.
_READS = frozenset({"GET", "HEAD", "OPTIONS"})

Found = dict[bytes, bytes]
Probe = Callable[[Scope, Receive, Send], Awaitable[None]]
Served = Callable[[str, str, int, float], None]


class Surroundings(Protocol):
    """What the edge asks the service about, at every request."""

    name: str
    served_by: bytes
    draining: bool
    in_flight: int
    max_in_flight: int
    compress: bool


class Edge:
    """Wraps `app`; `probes` answers paths of its own, `served` counts."""

    def __init__(
        self, app: ASGIApp, service: Surroundings, probes: dict[str, Probe], served: Served
    ) -> None:
        self.app = app
        self.service = service
        self._probes = probes
        self.served = served

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._other(scope, receive, send)
            return
        probe = self._probes.get(scope["path"])
        if probe is not None and scope["method"] in ("GET", "HEAD"):
            await probe(scope, receive, send)
            return
        service = self.service
        service.in_flight += 1
        request = _Request(self, scope, send)
        began = SYSTEM.now()
        try:
            await request.run(receive, began)
        finally:
            service.in_flight -= 1
            self.served(scope["method"], _route(scope), request.status, SYSTEM.now() - began)

    async def _other(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "websocket":
            await self.app(scope, receive, send)
            return
        found = _find(scope)
        _enter(found, None)
        self.service.in_flight += 1
        try:
            await self.app(scope, receive, send)
        finally:
            self.service.in_flight -= 1


class _Request:
    """One HTTP request on its way through; `send` is what the application sends with."""

    __slots__ = ("_edge", "_gzip", "_held", "_request_id", "_scope", "_send", "_timeout", "status")

    def __init__(self, edge: Edge, scope: Scope, send: Send) -> None:
        self._edge = edge
        self._scope = scope
        self._send = send
        self._gzip = b""
        self._held: Message | None = None
        self._request_id = b""
        self._timeout: asyncio.Timeout | None = None
        self.status = 0  # until the answer starts

    async def run(self, receive: Receive, now: float) -> None:
        found = _find(self._scope)
        self._gzip = found.get(b"accept-encoding", b"")
        deadline = None
        if _DEADLINE in found:
            deadline = Deadline.from_header(found[_DEADLINE].decode("latin-1"), now)
        self._request_id = _enter(found, deadline)
        refusal = self._refusal(deadline, now)
        if refusal is not None:
            await self.answer(refusal)
            return
        if b"json" in found.get(b"content-type", b""):
            receive = StrictJson(receive)
        try:
            if deadline is not None and self._scope["method"] in _READS:
                await self._within(deadline.remaining(now), receive)
            else:
                await self._edge.app(self._scope, receive, self.send)
        except Exception as exc:  # noqa: BLE001 - the edge: nobody above can answer it
            await self._unexpected(exc)

    async def _within(self, seconds: float, receive: Receive) -> None:
        try:
            async with asyncio.timeout(seconds) as self._timeout:
                await self._edge.app(self._scope, receive, self.send)
        except TimeoutError:
            if self._timeout is None or not self._timeout.expired():
                raise
            if not self.status:
                await self.answer(Problem(status=504, detail="The caller's time ran out."))

    def _refusal(self, deadline: Deadline | None, now: float) -> Problem | None:
        service = self._edge.service
        if deadline is not None and deadline.expired(now):
            return Problem(status=504, detail="No time was left when the request arrived.")
        if service.in_flight > service.max_in_flight:
            return Problem(
                status=503,
                detail=f"{service.max_in_flight} requests are under way, as many as allowed.",
                retryable=True,
                retry_after=1.0,
            )
        return None

    async def answer(self, problem: Problem) -> None:
        """Send a problem as this request's answer."""
        trace = tracing.current()
        body = problem.body(
            service=self._edge.service.name,
            path=self._scope["path"],
            trace_id=trace.trace_id if trace else None,
        )
        headers = problem.raw_headers(len(body))
        await self.send(
            {"type": "http.response.start", "status": problem.status, "headers": headers}
        )
        await self.send({"type": "http.response.body", "body": body})

    async def _unexpected(self, exc: Exception) -> None:
        method, path = self._scope["method"], self._scope["path"]
        log.error("%s %s failed", method, path, exc_info=exc)
        if not self.status:
            await self.answer(unexpected())
        elif self._held is not None:
            self._held = None
            self.status = 0
            await self.answer(unexpected())

    async def send(self, message: Message) -> None:
        kind = message["type"]
        if kind == "http.response.start":
            await self._start(message)
        elif self._held is None:
            await self._send(message)
        else:
            await self._whole(message)

    async def _start(self, message: Message) -> None:
        service = self._edge.service
        self.status = message["status"]
        if self._timeout is not None:
            self._timeout.reschedule(None)  # answering: a stream may go on
        headers = [*message.get("headers", ())]
        headers.append((b"x-served-by", service.served_by))
        headers.append((b"x-request-id", self._request_id))
        if service.draining:
            headers.append((b"connection", b"close"))
        large = service.compress and _length(headers) >= compression.MINIMUM
        if large and compression.compressible(self.status, headers):
            headers = compression.vary(headers)
            if self._scope["method"] != "HEAD" and compression.accepts_gzip(self._gzip):
                self._held = {**message, "headers": headers}
                return
        await self._send({**message, "headers": headers})

    async def _whole(self, message: Message) -> None:
        """The first piece of a body after its head was held: compress it if it is all."""
        start, self._held = self._held, None
        assert start is not None
        body = message.get("body", b"")
        if message["type"] != "http.response.body" or message.get("more_body") or not body:
            await self._send(start)
            await self._send(message)
            return
        if len(body) > _IN_THREAD:
            packed = await asyncio.to_thread(compression.compress, body)
        else:
            packed = compression.compress(body)
        headers = compression.packed(start["headers"], len(packed))
        await self._send({**start, "headers": headers})
        await self._send({**message, "body": packed})


def _find(scope: Scope) -> Found:
    """The headers we read; of a repeated one the values joined, as RFC 9110 allows."""
    found: Found = {}
    for name, value in scope["headers"]:
        if name in _READ:
            found[name] = found[name] + b"," + value if name in found else value
    return found


def _enter(found: Found, deadline: Deadline | None) -> bytes:
    """Make trace and context of this request current; return its id."""
    parent = found.get(b"traceparent")
    trace: TraceContext = tracing.received(
        parent.decode("latin-1") if parent else None,
        found.get(b"tracestate", b"").decode("latin-1"),
    )
    tracing.enter(trace)
    given = found.get(_REQUEST_ID, b"")
    request_id = given if 0 < len(given) <= _MAX_ID else trace.trace_id.encode()
    key = found.get(_IDEMPOTENCY)
    context.enter(
        context.Context(
            request_id=request_id.decode("latin-1"),
            deadline=deadline,
            caller=_caller(found),
            idempotency_key=None if key is None else key.decode("latin-1"),
        )
    )
    return request_id


_NOBODY: dict[str, str] = {}


def _caller(found: Found) -> dict[str, str]:
    if b"x-identity-subject" not in found:
        return _NOBODY
    return {name.decode(): found[name].decode("latin-1") for name in _IDENTITY if name in found}


def _length(headers: list[tuple[bytes, bytes]]) -> int:
    """The declared length; -1 for a stream."""
    for name, value in headers:
        if name == b"content-length":
            return int(value)
    return -1


def _route(scope: Scope) -> str:
    """The template of the route that served it, never the path itself."""
    inner: dict[str, Any] = scope.get("fastapi", {})
    effective = inner.get("effective_route_context")
    found = getattr(effective, "path_format", None) or getattr(scope.get("route"), "path", None)
    return found if isinstance(found, str) else "__none__"
