from seawall.gateway.config import GatewayConfig
from seawall.runtime.gateway_spans import sampled

CONFIG = GatewayConfig(trace_sample=0.5)


def test_the_sampler_of_the_environment_decides_where_there_is_one() -> None:
    assert sampled(CONFIG, {}) is CONFIG
    some = {"OTEL_TRACES_EXPORTER": "otlp"}
    assert sampled(CONFIG, some) is CONFIG
    few = {**some, "OTEL_TRACES_SAMPLER": "traceidratio", "OTEL_TRACES_SAMPLER_ARG": "0.1"}
    assert sampled(CONFIG, few).trace_sample == 0.1
