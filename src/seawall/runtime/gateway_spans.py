"""The gateway's spans, if OpenTelemetry's variables ask for them and its SDK is installed.

A gateway without the SDK serves as well: what is missing is told once, and there are no spans.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import replace

from seawall.errors import Misconfigured
from seawall.gateway.config import GatewayConfig
from seawall.telemetry.span_settings import SpanSettings, span_settings
from seawall.telemetry.spans import SpanBuffer

log = logging.getLogger("seawall.gateway")

Begin = Callable[[SpanBuffer], AbstractAsyncContextManager[None]]


def sampled(config: GatewayConfig, environ: Mapping[str, str]) -> GatewayConfig:
    """The configuration with the share of traces that OTEL_TRACES_SAMPLER names."""
    settings = span_settings(environ)
    if settings is None or settings.sample is None:
        return config
    return replace(config, trace_sample=settings.sample)


@asynccontextmanager
async def gateway_spans(
    environ: Mapping[str, str], instance_id: str
) -> AsyncIterator[SpanBuffer | None]:
    """Where a gateway puts its spans while the block is open; None if nobody wants them."""
    settings = span_settings(environ)
    if settings is None:
        yield None
        return
    try:
        # It is searched for among all that is installed.
        begin = await asyncio.to_thread(_begin, settings, instance_id)
    except Misconfigured as exc:
        log.warning("the gateway makes no spans: %s", exc)
        yield None
        return
    buffer = SpanBuffer(settings.max_waiting)
    async with begin(buffer):
        yield buffer


def _begin(settings: SpanSettings, instance_id: str) -> Begin:
    """What takes the spans away. Raises `Misconfigured`."""
    try:
        from seawall.telemetry.span_export import exporter_named, exporting, resource
    except ImportError as exc:
        raise Misconfigured(
            f"OpenTelemetry's SDK is not installed ({exc.name})", fix="pip install 'seawall[otel]'"
        ) from exc
    exporter = exporter_named(settings.exporter)
    origin = resource("gateway", instance_id)
    return lambda buffer: exporting(buffer, exporter, origin, settings)
