"""The outermost ASGI layer: what is true of every request, done once and cheaply.

One object a request instead of a stack of middlewares, since each layer costs a coroutine and
its closures. In order: probes (answered even when the service is saturated), admission
(deadline, requests under way), context (trace, request id, identity), the application, and on
the way out `x-served-by`, `x-request-id`, `Connection: close` while draining, compression, and
the metric.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from random import Random
from typing import Any, Protocol

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from seawall.clock import SYSTEM
from seawall.facts import Observer
from seawall.resilience.deadline import Deadline
from seawall.service import admission, compression, context
from seawall.service.bodies import CheckedBody
from seawall.service.problem import Problem, unexpected
from seawall.telemetry import tracing
from seawall.telemetry.metrics import Metrics

log = logging.getLogger("seawall.service")

# Larger bodies are compressed in a thread: 128 KiB take about 2 ms.
_IN_THREAD = 128 * 1024

_MAX_ID = 128  # characters of a request id that we repeat

_DEADLINE = b"x-deadline-ms"
_LENGTH = b"content-length"
_CHUNKED = b"transfer-encoding"
_REQUEST_ID = b"x-request-id"
_IDEMPOTENCY = b"idempotency-key"
_READ = frozenset(
    {
        *(_DEADLINE, _REQUEST_ID, _IDEMPOTENCY, _LENGTH, _CHUNKED, b"traceparent", b"tracestate"),
        *(b"x-identity-subject", b"x-identity-scopes", b"x-identity-issuer", b"accept-encoding"),
        b"content-type",
    }
)
_TOLD = frozenset({_DEADLINE, _IDEMPOTENCY, b"x-identity-subject"})
_PROBED = frozenset({"GET", "HEAD"})
_IDENTITY = (b"x-identity-subject", b"x-identity-scopes", b"x-identity-issuer")

# Safe to abandon when nobody waits any more; others may be in the middle of a write.
_READS = frozenset({"GET", "HEAD", "OPTIONS"})

# In the scope of a read: the task that works on it, and whether its client has left since.
READER = "seawall.reader"
LEFT = "seawall.left"

# The header fields of an answer that has begun.
ANSWER = "seawall.answer"

# What nginx has made usual for a request whose client left before there was an answer.
_CLIENT_LEFT = 499

Found = dict[bytes, bytes]
Probe = Callable[[Scope, Receive, Send], Awaitable[None]]

# The answer to what did not end while we drained: it may have done a part of its work.
_CUT = Problem(status=503, detail="The service stopped before this was done.", retry_after=1.0)


class Surroundings(Protocol):
    """What the edge asks the service about, at every request."""

    name: str
    served_by: bytes
    draining: bool
    in_flight: int
    max_in_flight: int
    max_body: int
    compress: bool


class Edge:
    """Wraps `app`; `probes` and, to POST, `operations` answer paths of their own, `metrics`
    count."""

    def __init__(
        self,
        app: ASGIApp,
        service: Surroundings,
        probes: dict[str, Probe],
        operations: dict[str, Probe],
        metrics: Metrics,
    ) -> None:
        self.app = self._let_in = app
        self.service = service
        self._probes = probes
        self._operations = operations
        self._metrics = metrics
        self._served = metrics.served
        self._refused = metrics.refused
        self._gate: admission.Gate | None = None

    def limit(self, config: "admission.AdmissionConfig | None", observer: Observer) -> None:
        """Let in what `config` allows; said anew at each start, once `app` is settled."""
        if config is None:
            self._let_in = self.app
            return
        if self._gate is None:
            told = (self.service.name, config, self._metrics, observer, Random())
            self._gate = admission.Gate(self.app, *told)
        self._gate.app = self.app
        self._let_in = self._gate

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._other(scope, receive, send)
            return
        method = scope["method"]
        probe = (self._probes if method in _PROBED else self._operations).get(scope["path"])
        if probe is not None and (method in _PROBED or method == "POST"):
            await probe(scope, receive, send)
            return
        service = self.service
        service.in_flight += 1
        began = SYSTEM.now()
        found = _find(scope)
        request = _Request(service, scope, found, send)
        if method in _READS:
            scope[READER] = asyncio.current_task()
        try:
            if _LENGTH in found or _CHUNKED in found:
                is_json = b"json" in found.get(b"content-type", b"")
                receive = CheckedBody(receive, scope, found.get(_LENGTH), service.max_body, is_json)
            if _DEADLINE not in found and service.in_flight <= service.max_in_flight:
                request.enter(None)
                await self._let_in(scope, receive, request.send)
            else:
                await self._bounded(request, receive, began)
        except asyncio.CancelledError:
            if not await self._ended(request):
                raise
        except Exception as exc:  # noqa: BLE001 - the edge: nobody above can answer it
            await request.unexpected(exc)
        finally:
            service.in_flight -= 1
            self._served(method, _route(scope), request.status, SYSTEM.now() - began)

    async def _ended(self, request: "_Request") -> bool:
        """What can still be said of a request that is cancelled; whether it has ended so."""
        scope, draining = request.scope, self.service.draining
        if LEFT in scope:
            request.status = request.status or _CLIENT_LEFT
            return True
        if draining and not request.status:
            await request.answer(_CUT)
        elif draining and is_event_stream(scope):
            # Each event is whole, so their stream may end after any: its client comes back.
            await request.send({"type": "http.response.body", "body": b""})
            return True
        return False

    async def _bounded(self, request: "_Request", receive: Receive, now: float) -> None:
        """A request that has a deadline, or is one more than we can take."""
        found = request.found
        deadline = None
        if _DEADLINE in found:
            deadline = Deadline.from_header(found[_DEADLINE].decode("latin-1"), now)
        request.enter(deadline)
        refusal = self._refusal(deadline, now)
        if refusal is not None:
            reason, problem = refusal
            self._refused(reason)
            await request.answer(problem)
            return
        scope = request.scope
        if deadline is not None and scope["method"] in _READS:
            await self._within(deadline.remaining(now), request, receive)
        else:
            await self._let_in(scope, receive, request.send)

    def _refusal(self, deadline: Deadline | None, now: float) -> tuple[str, Problem] | None:
        service = self.service
        if deadline is not None and deadline.expired(now):
            problem = Problem(status=504, detail="No time was left when the request arrived.")
            return "deadline", problem
        if service.in_flight > service.max_in_flight:
            problem = Problem(
                status=503,
                detail=f"{service.max_in_flight} requests are under way, as many as allowed.",
                retryable=True,
                retry_after=1.0,
            )
            return "max in flight", problem
        return None

    async def _within(self, seconds: float, request: "_Request", receive: Receive) -> None:
        try:
            async with asyncio.timeout(seconds) as request.timeout:
                await self._let_in(request.scope, receive, request.send)
        except TimeoutError:
            if request.timeout is None or not request.timeout.expired():
                raise
            request.timeout = None
            if not request.status:
                await request.answer(Problem(status=504, detail="The caller's time ran out."))

    async def _other(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "websocket":
            await self.app(scope, receive, send)
            return
        request = _Request(self.service, scope, _find(scope), send)
        request.enter(None)
        self.service.in_flight += 1
        try:
            await self.app(scope, receive, send)
        finally:
            self.service.in_flight -= 1


class _Request:
    """One request on its way through; `send` is what the application sends with."""

    __slots__ = ("_held", "_id", "_send", "_service", "found", "scope", "status", "timeout")

    def __init__(self, service: Surroundings, scope: Scope, found: Found, send: Send) -> None:
        self._service = service
        self._send = send
        self._held: Message | None = None
        self._id = b""
        self.scope = scope
        self.found = found
        self.timeout: asyncio.Timeout | None = None
        self.status = 0  # until the answer starts

    def enter(self, deadline: Deadline | None) -> None:
        """Make its trace and context current."""
        found = self.found
        trace = tracing.Arrived(found.get(b"traceparent"), found.get(b"tracestate"))
        tracing.enter(trace)
        given = found.get(_REQUEST_ID)
        if given and len(given) <= _MAX_ID:
            self._id = given
            request_id = given.decode("latin-1")
        else:
            request_id = trace.new_id or trace.context.trace_id
            self._id = request_id.encode()
        if _TOLD.isdisjoint(found):
            context.enter(context.Context(request_id))
            return
        key = found.get(_IDEMPOTENCY)
        context.enter(
            context.Context(
                request_id,
                deadline,
                _caller(found),
                None if key is None else key.decode("latin-1"),
            )
        )

    async def answer(self, problem: Problem) -> None:
        """Send a problem as this request's answer."""
        trace = tracing.current()
        body = problem.body(
            service=self._service.name,
            path=self.scope["path"],
            trace_id=trace.trace_id if trace else None,
        )
        headers = problem.raw_headers(len(body))
        await self.send(
            {"type": "http.response.start", "status": problem.status, "headers": headers}
        )
        await self.send({"type": "http.response.body", "body": body})

    async def unexpected(self, exc: Exception) -> None:
        """Nobody below answered for this error: log it, and answer if that can still be."""
        log.error("%s %s failed", self.scope["method"], self.scope["path"], exc_info=exc)
        if not self.status or self._held is not None:
            self._held = None
            await self.answer(unexpected())

    def send(self, message: Message) -> Awaitable[None]:
        # Not a coroutine function: each one costs, and most messages only pass.
        if message["type"] == "http.response.start":
            return self._start(message)
        if self._held is None:
            return self._send(message)
        return self._whole(message)

    def _start(self, message: Message) -> Awaitable[None]:
        service = self._service
        status: int = message["status"]
        self.status = status
        if self.timeout is not None:
            self.timeout.reschedule(None)  # answering: a stream may go on
        headers: list[tuple[bytes, bytes]] = [
            *message.get("headers", ()),
            (b"x-served-by", service.served_by),
            (b"x-request-id", self._id),
        ]
        if service.draining:
            headers.append((b"connection", b"close"))
        large = service.compress and _length(headers) >= compression.MINIMUM
        if large and compression.compressible(status, headers):
            headers = compression.vary(headers)
            accepted = self.found.get(b"accept-encoding", b"")
            if self.scope["method"] != "HEAD" and compression.accepts_gzip(accepted):
                self._held = {**message, "headers": headers}
                return _nothing()
        self.scope[ANSWER] = headers
        return self._send({**message, "headers": headers})

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


async def _nothing() -> None:
    return


def is_event_stream(scope: Mapping[str, Any]) -> bool:
    """Whether it is answered by server-sent events, which have begun."""
    fields = scope.get(ANSWER, ())
    return any(n == b"content-type" and v.startswith(b"text/event-stream") for n, v in fields)


def _find(scope: Scope) -> Found:
    """The headers we read; of a repeated one the values joined, as RFC 9110 allows."""
    found: Found = {}
    for name, value in scope["headers"]:
        if name in _READ:
            found[name] = found[name] + b"," + value if name in found else value
    return found


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
    inner: dict[str, Any] | None = scope.get("fastapi")
    if inner is not None and (effective := inner.get("effective_route_context")) is not None:
        found = getattr(effective, "path_format", None)
        if isinstance(found, str):
            return found
    found = getattr(scope.get("route"), "path", None)
    return found if isinstance(found, str) else "__none__"
