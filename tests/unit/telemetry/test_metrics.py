from itertools import count
from platform import python_version

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
    assert ("process_resident_memory_bytes", ()) in samples


def test_what_is_built_and_what_is_lost_is_told() -> None:
    metrics = Metrics("orders", "1.2.0")
    metrics.commit = "abc"
    metrics.dropping("facts", "observer failed", lambda: 3)
    metrics.refused("deadline")
    samples = _samples(metrics)
    build = {"service": "orders", "version": "1.2.0", "commit": "abc"}
    assert samples["seawall_build_info", _at(**build, python=python_version())] == 1
    dropped = "seawall_telemetry_dropped_total"
    assert samples[dropped, _at(signal="facts", reason="observer failed")] == 3
    assert samples[dropped, _at(signal="logs", reason="not writable")] == 0
    assert samples["seawall_load_shed_total", _at(service="orders", reason="deadline")] == 1


def test_readings_are_bounded() -> None:
    metrics = Metrics("orders", "1.0.0")
    endless = (((str(number),), 1.0) for number in count())
    metrics.readings("level", "A level", ("which",), lambda: endless, counter=True)
    lines = metrics.render()[0].decode().splitlines()
    assert len([line for line in lines if line.startswith("level_total{")]) == MAX_SERIES
