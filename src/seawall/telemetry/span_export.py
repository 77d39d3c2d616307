"""Spans leave through an exporter of OpenTelemetry's SDK, in a thread of their own.

Needs `seawall[otel]`. The exporter reads its own variables (`OTEL_EXPORTER_OTLP_*`), and may wait
for its collector as long as it likes: nobody waits for it.
"""

import asyncio
import logging
import threading
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from importlib.metadata import entry_points
from typing import Final, cast

from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import SpanContext, SpanKind, Status, StatusCode, TraceFlags
from opentelemetry.trace.span import TraceState

from seawall.errors import Misconfigured
from seawall.telemetry.span_settings import SpanSettings
from seawall.telemetry.spans import ServerSpan, SpanBuffer
from seawall.version import __version__

log = logging.getLogger("seawall.telemetry")

_SAMPLED: Final = TraceFlags(TraceFlags.SAMPLED)
_SCOPE: Final = InstrumentationScope("seawall")

# At the end, for what is still waiting; then the process goes on to exit.
_PATIENCE: Final = 2.0  # seconds


def exporter_named(name: str) -> SpanExporter:
    """The exporter that a package offers under this name. Raises `Misconfigured`."""
    for found in entry_points(group="opentelemetry_traces_exporter", name=name):
        return cast(SpanExporter, found.load()())
    raise Misconfigured(
        f"no exporter {name!r} for OpenTelemetry's spans is installed",
        fix="pip install 'seawall[otel]', or the package that has it",
    )


def resource(service: str, instance_id: str) -> Resource:
    """Who made the spans; OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES have the last word."""
    own = {
        "service.name": service,
        "service.version": __version__,
        "service.instance.id": instance_id,
    }
    return Resource(own).merge(OTELResourceDetector().detect())


@asynccontextmanager
async def exporting(
    buffer: SpanBuffer, exporter: SpanExporter, resource: Resource, settings: SpanSettings
) -> AsyncIterator[None]:
    """Take spans out of `buffer` while the block is open, and at its end what is left."""
    stopping = threading.Event()

    def run() -> None:
        while not stopping.wait(settings.every):
            _drain(buffer, exporter, resource, settings.batch)
        _drain(buffer, exporter, resource, settings.batch)
        exporter.shutdown()

    # A daemon: a collector that does not answer must not hold the process.
    thread = threading.Thread(target=run, name="spans", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stopping.set()
        await asyncio.to_thread(thread.join, _PATIENCE)


def _drain(buffer: SpanBuffer, exporter: SpanExporter, resource: Resource, batch: int) -> None:
    while spans := buffer.take(batch):
        if not _is_taken(exporter, [readable(span, resource) for span in spans]):
            buffer.refused(len(spans))


def _is_taken(exporter: SpanExporter, spans: Sequence[ReadableSpan]) -> bool:
    try:
        return exporter.export(spans) is SpanExportResult.SUCCESS
    except Exception:
        log.warning("an exporter of spans failed", exc_info=True)
        return False


def readable(span: ServerSpan, resource: Resource) -> ReadableSpan:
    """The span in the SDK's own form."""
    context = _context(span.context.trace_id, span.context.span_id, span.context.state)
    parent = _context(span.context.trace_id, span.parent_id) if span.parent_id else None
    return ReadableSpan(
        span.name,
        context=context,
        parent=parent,
        resource=resource,
        attributes=dict(span.attributes),
        kind=SpanKind.SERVER,
        instrumentation_scope=_SCOPE,
        status=Status(StatusCode.ERROR if span.failed else StatusCode.UNSET),
        start_time=int(span.started * 1e9),
        end_time=int(span.ended * 1e9),
    )


def _context(trace_id: str, span_id: str, state: str = "") -> SpanContext:
    return SpanContext(
        int(trace_id, 16),
        int(span_id, 16),
        is_remote=False,
        trace_flags=_SAMPLED,
        trace_state=TraceState.from_header([state] if state else []),
    )
