"""What OpenTelemetry's standard variables say about spans. Pure.

https://opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables/
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from seawall.telemetry.spans import MAX_WAITING

_ENDPOINTS: Final = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
_PROTOCOLS: Final = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")

# Sampler: the share of new traces; None = what OTEL_TRACES_SAMPLER_ARG says.
_SAMPLERS: Final[Mapping[str, float | None]] = {
    "always_on": 1.0,
    "always_off": 0.0,
    "traceidratio": None,
}


@dataclass(frozen=True, kw_only=True, slots=True)
class SpanSettings:
    exporter: str = "otlp_proto_http"  # its entry point
    sample: float | None = None  # of the traces that begin here; None = nothing was said
    max_waiting: int = MAX_WAITING
    batch: int = 512
    every: float = 5.0  # seconds


def span_settings(environ: Mapping[str, str]) -> SpanSettings | None:
    """None where nobody asked for spans: neither an exporter nor an endpoint is named.

    As the standard wants it, a value that cannot be read counts as none.
    """
    exporters = environ.get("OTEL_TRACES_EXPORTER", "").split(",")
    exporter = exporters[0].strip()
    if environ.get("OTEL_SDK_DISABLED", "").lower() == "true" or exporter == "none":
        return None
    if not exporter and not any(environ.get(name) for name in _ENDPOINTS):
        return None
    if exporter in ("", "otlp"):
        said = next((environ[name] for name in _PROTOCOLS if environ.get(name)), "http/protobuf")
        exporter = "otlp_proto_grpc" if said == "grpc" else "otlp_proto_http"
    return SpanSettings(
        exporter=exporter,
        sample=_sample(environ),
        max_waiting=_whole(environ, "OTEL_BSP_MAX_QUEUE_SIZE", MAX_WAITING),
        batch=_whole(environ, "OTEL_BSP_MAX_EXPORT_BATCH_SIZE", 512),
        every=_whole(environ, "OTEL_BSP_SCHEDULE_DELAY", 5000) / 1000,
    )


def _sample(environ: Mapping[str, str]) -> float | None:
    # A gateway always follows a parent that it trusts, so `parentbased_` changes nothing.
    sampler = environ.get("OTEL_TRACES_SAMPLER", "").removeprefix("parentbased_")
    if sampler not in _SAMPLERS or (share := _SAMPLERS[sampler]) is not None:
        return _SAMPLERS.get(sampler)
    try:
        share = float(environ.get("OTEL_TRACES_SAMPLER_ARG", "1"))
    except ValueError:
        return 1.0
    return share if 0 <= share <= 1 else 1.0


def _whole(environ: Mapping[str, str], name: str, default: int) -> int:
    text = environ.get(name, "")
    return int(text) if text.isdecimal() and int(text) > 0 else default
