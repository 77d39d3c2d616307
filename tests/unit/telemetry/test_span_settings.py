import pytest

from seawall.telemetry.span_settings import SpanSettings, span_settings

HERE = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:4318"}


@pytest.mark.parametrize(
    "environ",
    [
        {},
        {"OTEL_SERVICE_NAME": "shop"},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": ""},
        {**HERE, "OTEL_TRACES_EXPORTER": "none"},
        {**HERE, "OTEL_SDK_DISABLED": "True"},
    ],
)
def test_nobody_asks_for_spans(environ: dict[str, str]) -> None:
    assert span_settings(environ) is None


@pytest.mark.parametrize(
    ("environ", "exporter"),
    [
        (HERE, "otlp_proto_http"),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://a/v1/traces"}, "otlp_proto_http"),
        ({"OTEL_TRACES_EXPORTER": "otlp"}, "otlp_proto_http"),
        ({**HERE, "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, "otlp_proto_grpc"),
        ({"OTEL_TRACES_EXPORTER": "console,otlp"}, "console"),
    ],
)
def test_the_exporter_is_the_one_that_is_named(environ: dict[str, str], exporter: str) -> None:
    found = span_settings(environ)
    assert found is not None
    assert found.exporter == exporter


@pytest.mark.parametrize(
    ("sampler", "argument", "share"),
    [
        (None, None, None),
        ("always_on", None, 1.0),
        ("parentbased_always_on", None, 1.0),
        ("parentbased_always_off", "1", 0.0),
        ("traceidratio", "0.25", 0.25),
        ("parentbased_traceidratio", "0.25", 0.25),
        ("traceidratio", None, 1.0),
        ("traceidratio", "many", 1.0),
        ("traceidratio", "7", 1.0),
        ("traceidratio", "nan", 1.0),
        ("jaeger_remote", "0.5", None),
    ],
)
def test_the_sampler_says_how_many(
    sampler: str | None, argument: str | None, share: float | None
) -> None:
    said = {"OTEL_TRACES_SAMPLER": sampler, "OTEL_TRACES_SAMPLER_ARG": argument}
    found = span_settings({**HERE, **{name: text for name, text in said.items() if text}})
    assert found is not None
    assert found.sample == share


def test_the_batch_processor_s_numbers_hold_here() -> None:
    numbers = {
        "OTEL_BSP_MAX_QUEUE_SIZE": "100",
        "OTEL_BSP_MAX_EXPORT_BATCH_SIZE": "10",
        "OTEL_BSP_SCHEDULE_DELAY": "250",
    }
    found = span_settings({**HERE, **numbers})
    assert found == SpanSettings(max_waiting=100, batch=10, every=0.25)
    assert span_settings({**HERE, **dict.fromkeys(numbers, "-1")}) == SpanSettings()
