import io
import json
import logging
import os
from collections.abc import Iterator

import pytest

from seawall.telemetry import tracing
from seawall.telemetry.logs import (
    JsonFormatter,
    LogStream,
    PrettyFormatter,
    Resource,
    configure,
)

RESOURCE = Resource("orders", "1.0.0", "orders-1")
TRACE = b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


def _line(message: str, *args: object, **more: object) -> dict[str, object]:
    record = logging.getLogger("x").makeRecord(
        "x", logging.WARNING, "f", 1, message, args, None, extra=more or None
    )
    text = JsonFormatter(RESOURCE).format(record)
    assert "\n" not in text
    found: dict[str, object] = json.loads(text)
    return found


def test_a_line_is_one_object() -> None:
    line = _line("hello %s", "you\nand you", order_id=5, event="Greeted")
    assert (line["body"], line["severity"], line["severity_number"]) == (
        "hello you\nand you",
        "WARN",
        13,
    )
    assert line["service.name"] == "orders"
    assert line["service.instance.id"] == "orders-1"
    assert str(line["timestamp"]).endswith("Z")
    assert (line["order_id"], line["event.name"]) == (5, "Greeted")


def test_secrets_are_left_out() -> None:
    line = _line("in", Authorization="Bearer x", user_password="hunter2")
    assert "hunter2" not in json.dumps(line)
    assert "Bearer" not in json.dumps(line)


def test_what_does_not_fit_is_written_all_the_same() -> None:
    assert "%d" in str(_line("%d things", "five")["body"])
    assert _line("\ud800")["body"] == "\ud800"
    assert "object" in str(_line("x", thing=object())["thing"])


def test_the_running_trace_is_named() -> None:
    tracing.enter(tracing.Arrived(TRACE, None))
    line = _line("in a request")
    assert line["trace_id"] == "4bf92f3577b34da6a3ce929d0e0e4736"
    assert line["span_id"] != "00f067aa0ba902b7"
    assert line["trace_flags"] == "01"


def test_exceptions_have_their_stack() -> None:
    try:
        raise ValueError("no")
    except ValueError as exc:
        record = logging.makeLogRecord(
            {"msg": "m", "exc_info": (ValueError, exc, exc.__traceback__)}
        )
    line = json.loads(JsonFormatter(RESOURCE).format(record))
    assert line["exception.type"] == "builtins.ValueError"
    assert line["exception.message"] == "no"
    assert "test_logs.py" in line["exception.stacktrace"]
    pretty = PrettyFormatter(colour=False).format(record)
    assert "ValueError: no" in pretty


def test_people_get_colours_only_where_wanted() -> None:
    record = logging.makeLogRecord({"msg": "m", "levelname": "ERROR", "order": 5})
    assert "\x1b[31m" in PrettyFormatter(colour=True).format(record)
    assert "\x1b" not in PrettyFormatter(colour=False).format(record)
    assert "order=5" in PrettyFormatter(colour=False).format(record)


def test_a_stream_that_is_gone_is_counted() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    stream = os.fdopen(writing, "w")
    handler = LogStream(stream, JsonFormatter(RESOURCE))
    handler.emit(logging.makeLogRecord({"msg": "lost"}))
    assert handler.dropped == 1
    closed = io.StringIO()
    closed.close()
    handler = LogStream(closed, JsonFormatter(RESOURCE))
    handler.emit(logging.makeLogRecord({"msg": "lost"}))
    assert handler.dropped == 1
    os.close(writing)
    with pytest.raises(OSError, match="Bad file"):
        stream.close()


@pytest.fixture
def _as_before() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


@pytest.mark.usefixtures("_as_before")
def test_every_logger_writes_there() -> None:
    stream = io.StringIO()
    configure(RESOURCE, "INFO", stream)
    logging.getLogger("some.library").info("hello")
    logging.getLogger("some.library").debug("not this")
    logging.getLogger("uvicorn.access").info("nor this")
    lines = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert [line["body"] for line in lines] == ["hello"]
