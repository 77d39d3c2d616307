"""The access log, the metrics and the gateway's own answers."""

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from seawall.gateway import metrics
from seawall.gateway.access import BATCH, MAX_BACKLOG, AccessLog, LogFile, Stamp, opened
from seawall.gateway.answers import Answer, Flag, render
from seawall.gateway.metrics import MAX_SERIES, Metrics

Redirect = Callable[[int], None]


def test_lines_are_written_in_batches() -> None:
    written: list[bytes] = []

    def write(data: bytes) -> int:
        written.append(data)
        return len(data)

    log = AccessLog(write)
    for number in range(BATCH + 1):
        log.add(b"%d\n" % number)
    assert len(written) == 1
    log.flush()
    assert b"".join(written).splitlines() == [b"%d" % number for number in range(BATCH + 1)]
    log.flush()
    assert len(written) == 2


def test_what_a_reader_does_not_take_is_kept_for_a_while_and_then_dropped() -> None:
    taken: list[bytes] = []
    room = 3

    def write(data: bytes) -> int:
        taken.append(data[:room])
        return len(taken[-1])

    log = AccessLog(write)
    log.add(b"abcdef\n")
    log.flush()
    log.flush()
    log.flush()
    assert b"".join(taken) == b"abcdef\n"
    room = 0
    log.add(b"x" * (MAX_BACKLOG + 1) + b"\n")
    log.flush()
    log.add(b"lost\n")
    log.flush()
    assert log.dropped == 1


def test_a_log_that_is_off_keeps_nothing() -> None:
    log = AccessLog(None)
    log.add(b"x\n")
    log.flush()
    assert not log.is_on
    assert log._lines == []


@pytest.fixture
def stdout() -> Iterator[Redirect]:
    """Puts a descriptor where standard output is, as whoever starts a process does."""
    kept = os.dup(1)

    def redirect(descriptor: int) -> None:
        os.dup2(descriptor, 1)

    yield redirect
    os.dup2(kept, 1)
    os.close(kept)


def test_lines_follow_those_of_others_in_a_file(stdout: Redirect, tmp_path: Path) -> None:
    path = tmp_path / "out"
    with path.open("wb", buffering=0) as file:
        stdout(file.fileno())
        write, close = opened("-")
        for number in range(3):
            assert write(b"ours %d\n" % number) == 7
            file.write(b"theirs %d\n" % number)
        close()
    assert path.read_bytes() == b"".join(b"ours %d\ntheirs %d\n" % (n, n) for n in range(3))


def test_a_pipe_that_nobody_empties_is_not_waited_for(stdout: Redirect) -> None:
    read, write_end = os.pipe()
    stdout(write_end)
    write, close = opened("-")
    line = b"x" * 99 + b"\n"
    taken = write(line * 10_000)
    assert 0 < taken < 1_000_000
    assert write(line) == 0
    assert os.get_blocking(write_end), "it is shared with processes that do wait"
    # Whole lines, so that no other process' line comes between the halves of one.
    assert os.read(read, 1_000_000) == line * (taken // 100)
    assert write(line) == len(line)
    os.close(read)
    assert write(line) == len(line), "nobody will ever read it: there is nothing to wait for"
    close()
    os.close(write_end)


def test_a_process_without_standard_output_has_no_log(stdout: Redirect) -> None:
    os.close(1)
    write, close = opened("-")
    assert write(b"x\n") == 2
    close()


def test_a_file_that_was_moved_away_is_followed_by_a_new_one(tmp_path: Path) -> None:
    path, old = tmp_path / "access.log", tmp_path / "access.log.1"
    file = LogFile(str(path))
    file.write(b"one\n")
    path.rename(old)
    file.write(b"two\n")
    file.reopen()
    file.write(b"three\n")
    file.close()
    assert (old.read_bytes(), path.read_bytes()) == (b"one\ntwo\n", b"three\n")


def test_where_no_new_file_can_be_opened_the_old_one_goes_on(tmp_path: Path) -> None:
    folder, moved = tmp_path / "logs", tmp_path / "moved"
    folder.mkdir()
    file = LogFile(str(folder / "access.log"))
    folder.rename(moved)
    file.reopen()
    file.write(b"one\n")
    file.close()
    assert (moved / "access.log").read_bytes() == b"one\n"


def test_a_stamp_is_the_wall_clock_in_rfc_3339() -> None:
    stamp = Stamp()
    stamp.settle(100.0, 1_700_000_000.5)
    assert stamp.text(100.0) == b"2023-11-14T22:13:20.500Z"
    assert stamp.text(100.25) == b"2023-11-14T22:13:20.750Z"
    assert stamp.text(100.5) == b"2023-11-14T22:13:21.000Z"
    stamp.settle(100.0, 1_700_000_000.0)  # it was stepped back
    assert stamp.text(100.0) == b"2023-11-14T22:13:20.000Z"


def test_metrics_are_prometheus_text() -> None:
    counted = Metrics()
    route = counted.route('/a"b', "shop")
    route.observe(b"GET", 200, 0.003)
    route.observe(b"GET", 200, 0.3)
    route.observe(b"GET", 200, 99.0)
    counted.flagged("UH")
    counted.retried("shop")
    lines = metrics.text(counted, [("x", "gauge", "Help.", "", 1.5)]).splitlines()
    labels = (
        'http_request_method="GET",http_response_status_code="200",http_route="/a\\"b",'
        'service="shop"'
    )
    assert f'http_server_request_duration_seconds_bucket{{{labels},le="0.005"}} 1' in lines
    assert f'http_server_request_duration_seconds_bucket{{{labels},le="0.5"}} 2' in lines
    assert f'http_server_request_duration_seconds_bucket{{{labels},le="+Inf"}} 3' in lines
    assert f"http_server_request_duration_seconds_sum{{{labels}}} 99.303000" in lines
    assert 'seawall_gateway_flags_total{flag="UH"} 1' in lines
    assert 'seawall_retries_total{service="shop"} 1' in lines
    assert "x 1.5" in lines
    helped = [line.split()[2] for line in lines if line.startswith("# HELP")]
    assert len(helped) == len(set(helped))


def test_series_are_bounded() -> None:
    route = Metrics().route("/", "shop")
    for number in range(1000):
        route.observe(b"M%d" % number, 200, 0.1)
    assert len(route.series) <= MAX_SERIES + 1
    assert sum(sum(series.buckets) for series in route.series.values()) == 1000


def test_an_answer_is_a_problem() -> None:
    answer = Answer(
        status=503,
        flag=Flag.NO_HEALTHY_UPSTREAM,
        detail="nobody is there",
        retry_after=0.2,
        retryable=True,
    )
    head, body = render(answer, service="shop", request_id="r", close=True).split(b"\r\n\r\n")
    problem = json.loads(body)
    assert problem["title"] == "Service Unavailable"
    assert (problem["reason"], problem["retryable"], problem["trace_id"]) == ("UH", True, "r")
    assert b"retry-after: 1" in head.splitlines()
    assert b"connection: close" in head.splitlines()
    assert b"content-length: %d" % len(body) in head
    assert render(answer, service="shop", request_id="r", head_only=True).endswith(b"\r\n\r\n")
