"""The spans of a gateway, as OpenTelemetry's own SDK sees them."""

from collections.abc import Sequence

import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from seawall.gateway.config import Route
from seawall.runtime.gateway_spans import gateway_spans
from seawall.telemetry.span_export import exporting, resource
from seawall.telemetry.span_settings import SpanSettings
from seawall.telemetry.spans import SpanBuffer
from tests.integration.gateway.rig import OK, Received, Service, get, post, rig, saying
from tests.support.waiting import eventually

ROUTES = (Route(service="shop", path="/items"),)
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
PARENT = "00f067aa0ba902b7"
SOON = SpanSettings(every=0.01)


async def _spans(*requests: bytes, service: Service, trusted: bool = False) -> list[ReadableSpan]:
    """What is exported of the requests, in their order."""
    buffer, exporter = SpanBuffer(), InMemorySpanExporter()
    proxies = ("127.0.0.1/32",) if trusted else ()
    async with (
        exporting(buffer, exporter, resource("gateway", "gateway-1"), SOON),
        rig(service, routes=ROUTES, spans=buffer, trusted_proxies=proxies) as shop,
    ):
        for request in requests:
            await shop.ask(request)
    assert buffer.lost == 0
    return list(exporter.get_finished_spans())


async def test_a_request_is_one_span() -> None:
    service = Service()
    (span,) = await _spans(get("/items/7?card=4711"), service=service)
    trace_id, span_id = (service.received[0].field("traceparent") or "").split("-")[1:3]
    assert span.name == "GET /items"
    assert span.kind is SpanKind.SERVER
    assert span.parent is None
    assert (f"{span.context.trace_id:032x}", f"{span.context.span_id:016x}") == (trace_id, span_id)
    assert dict(span.attributes or {}) == {
        "http.request.method": "GET",
        "http.response.status_code": 200,
        "http.route": "/items",
        "url.path": "/items/7",
        "client.address": "127.0.0.1",
        "seawall.route": "/items",
        "seawall.upstream": "shop-1",
        "seawall.attempt": 1,
        "seawall.breaker": "closed",
        "seawall.flags": "-",
    }
    assert span.status.status_code is StatusCode.UNSET
    assert span.resource.attributes["service.name"] == "gateway"
    assert span.resource.attributes["service.instance.id"] == "gateway-1"
    assert span.start_time is not None
    assert span.end_time is not None
    assert span.start_time <= span.end_time


async def test_what_failed_says_why() -> None:
    failing = Service(saying(b"HTTP/1.1 503 Away\r\ncontent-length: 0\r\n\r\n"))
    failed, unrouted = await _spans(post(b"x", path="/items"), get("/nothing"), service=failing)
    assert failed.status.status_code is StatusCode.ERROR
    assert (failed.attributes or {})["error.type"] == "503"
    assert unrouted.name == "GET"
    assert unrouted.status.status_code is StatusCode.UNSET
    assert (unrouted.attributes or {})["seawall.flags"] == "NR"
    assert (unrouted.attributes or {})["http.response.status_code"] == 404


async def test_a_request_that_is_tried_again_is_still_one_span() -> None:
    calls = 0

    async def first_time_lost(request: Received) -> None:
        nonlocal calls
        calls += 1
        if calls == 1:
            request.writer.close()
        else:
            request.writer.write(OK)

    (span,) = await _spans(get("/items"), service=Service(first_time_lost))
    assert (span.attributes or {})["seawall.attempt"] == 2


async def test_a_trusted_caller_s_trace_is_continued() -> None:
    sampled = get("/items", f"traceparent: 00-{TRACE}-{PARENT}-01", "tracestate: vendor=1")
    left_out = get("/items", f"traceparent: 00-{TRACE}-{PARENT}-00")
    (span,) = await _spans(sampled, left_out, service=Service(), trusted=True)
    assert f"{span.context.trace_id:032x}" == TRACE
    assert span.parent is not None
    assert f"{span.parent.span_id:016x}" == PARENT
    assert span.context.trace_state.to_header() == "vendor=1"
    (span,) = await _spans(sampled, service=Service(), trusted=False)
    assert f"{span.context.trace_id:032x}" != TRACE
    assert span.parent is None


async def test_only_what_is_sampled_is_recorded() -> None:
    buffer, service = SpanBuffer(), Service()
    async with rig(service, spans=buffer, trace_sample=0.3) as shop:
        for _ in range(60):
            await shop.get()
    said = [(request.field("traceparent") or "")[-2:] for request in service.received]
    found = {span.context.trace_id for span in buffer.take(60)}
    assert 0 < len(found) == said.count("01") < 60


class Refusing(SpanExporter):
    """A collector that takes nothing."""

    def __init__(self) -> None:
        self.asked = 0

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        self.asked += 1
        if self.asked == 1:
            return SpanExportResult.FAILURE
        raise OSError("no such host")


async def test_spans_that_nobody_takes_are_counted_and_requests_go_on() -> None:
    buffer, exporter = SpanBuffer(), Refusing()
    async with (
        exporting(buffer, exporter, resource("gateway", "gateway-1"), SOON),
        rig(Service(), spans=buffer) as shop,
    ):
        assert (await shop.get()).status == 200
        await eventually(lambda: buffer.lost == 1)
        assert (await shop.get()).status == 200
        await eventually(lambda: shop.gateway.proxy.metrics.spans_dropped == 2)


async def test_a_gateway_has_spans_only_where_they_are_wanted(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with gateway_spans({}, "gateway-1") as none:
        assert none is None
    async with gateway_spans({"OTEL_TRACES_EXPORTER": "console"}, "gateway-1") as some:
        assert some is not None
    assert caplog.text == ""
    async with gateway_spans({"OTEL_TRACES_EXPORTER": "nobody's"}, "gateway-1") as missing:
        assert missing is None
    assert "seawall[otel]" in caplog.text
