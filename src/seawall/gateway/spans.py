"""The one span that a gateway makes of a request, if its trace is sampled."""

from typing import TYPE_CHECKING, Final

from seawall.gateway.proxy import Proxy
from seawall.telemetry.spans import ServerSpan, SpanBuffer
from seawall.wire import headers
from seawall.wire.trace import TraceContext

if TYPE_CHECKING:
    from seawall.gateway.exchange import Exchange

# How the context of a trace ends that is recorded, unless its caller says more.
SAMPLED: Final = b"-01\r\n"

# From here on a status is the server's fault (OpenTelemetry's conventions for HTTP).
_FAILED = 500


def record(exchange: "Exchange", proxy: Proxy, buffer: SpanBuffer, now: float) -> None:
    """Add the span of an exchange that is over."""
    if not exchange.trace_tail.startswith(b"-01"):
        return
    parent = _parent(exchange)
    ended = proxy.wall()
    route = "" if exchange.plan is None else exchange.plan.route.label
    method = exchange.head.method.decode("latin-1")
    buffer.add(
        ServerSpan(
            name=f"{method} {route}" if route else method,
            context=TraceContext(
                exchange.trace_id.decode("ascii"),
                exchange.span_id.decode("ascii"),
                True,
                "" if parent is None else parent.state,
            ),
            parent_id="" if parent is None else parent.span_id,
            started=ended - (now - exchange.started),
            ended=ended,
            attributes=_attributes(exchange, method, route),
            failed=exchange.status >= _FAILED,
        )
    )


def _attributes(exchange: "Exchange", method: str, route: str) -> dict[str, str | int]:
    """The query is left out, as in the log: it is where secrets are."""
    found: dict[str, str | int] = {
        "http.request.method": method,
        "http.response.status_code": exchange.status,
        "url.path": exchange.head.path.decode("latin-1"),
        "client.address": exchange.client,
        "seawall.attempt": exchange.tries,
        "seawall.flags": exchange.flag.value,
    }
    if route:
        found["http.route"] = found["seawall.route"] = route
    if exchange.instance:
        found["seawall.upstream"] = exchange.instance.decode("utf-8")
    if exchange.cluster is not None:
        found["seawall.breaker"] = exchange.cluster.breaker.state.value
    if exchange.status >= _FAILED:
        found["error.type"] = str(exchange.status)
    return found


def _parent(exchange: "Exchange") -> TraceContext | None:
    """The span of a proxy that we trust, whose trace this is."""
    if not exchange.down.trusted:
        return None
    said = exchange.head.boundary
    return TraceContext.parse(
        said.get(headers.TRACEPARENT, b"").decode("latin-1"),
        said.get(headers.TRACESTATE, b"").decode("latin-1"),
    )
