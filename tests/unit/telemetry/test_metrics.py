from prometheus_client.parser import text_string_to_metric_families

from seawall.telemetry.metrics import MAX_SERIES, OTHER, Metrics


def _samples(metrics: Metrics) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    text = metrics.render()[0].decode()
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def _at(**labels: str) -> tuple[tuple[str, str], ...]:
    return tuple(sorted(labels.items()))


def test_durations_fall_into_their_buckets() -> None:
    metrics = Metrics("orders", "1.0.0")
    for seconds in (0.005, 0.02, 20.0):
        metrics.served("GET", "/a", 200, seconds)
    samples = _samples(metrics)
    labels = {
        "http_request_method": "GET",
        "http_route": "/a",
        "http_response_status_code": "200",
        "service": "orders",
    }
    name = "http_server_request_duration_seconds"
    assert samples[f"{name}_bucket", _at(**labels, le="0.005")] == 1
    assert samples[f"{name}_bucket", _at(**labels, le="0.025")] == 2
    assert samples[f"{name}_bucket", _at(**labels, le="10.0")] == 2
    assert samples[f"{name}_bucket", _at(**labels, le="+Inf")] == 3
    assert samples[f"{name}_count", _at(**labels)] == 3
    assert samples[f"{name}_sum", _at(**labels)] == 20.025


def test_series_are_bounded() -> None:
    metrics = Metrics("orders", "1.0.0")
    counter = metrics.counts("things", "Things", ("which",))
    for number in range(MAX_SERIES + 100):
        counter.add((str(number),))
        metrics.server.observe((str(number), "", "", ""), 0.1)
    counter.add(("5",))
    lines = metrics.render()[0].decode().splitlines()
    things = [line for line in lines if line.startswith("things_total{")]
    assert len(things) == MAX_SERIES + 1
    assert f'things_total{{which="{OTHER}"}} 100.0' in things
    assert 'things_total{which="5"} 2.0' in things
    counts = [line for line in lines if line.startswith("http_server_request_duration_seconds_co")]
    assert len(counts) == MAX_SERIES + 1


def test_labels_cannot_break_the_text() -> None:
    metrics = Metrics("orders", "1.0.0")
    metrics.counts("things", "Things", ("which",)).add(('a"\n\\',))
    assert _samples(metrics)["things_total", _at(which='a"\n\\')] == 1


def test_readings_are_read_when_asked() -> None:
    metrics, value = Metrics("orders", "1.2.0"), [1.0]
    metrics.readings("level", "A level", (), lambda: [((), value[0])])
    assert _samples(metrics)["level", ()] == 1
    value[0] = 2.0
    samples = _samples(metrics)
    assert samples["level", ()] == 2
    assert samples["seawall_build_info", _at(version="1.2.0")] == 1
    assert ("process_resident_memory_bytes", ()) in samples
