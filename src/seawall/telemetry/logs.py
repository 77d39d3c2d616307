"""Logs: one JSON object a line for machines, one coloured line for people on a terminal.

Field names follow OpenTelemetry's log data model and, for trace ids, its rule for other formats
(`trace_id`, `span_id`, `trace_flags`). A log line never breaks the program: what cannot be
encoded is replaced, and a standard output that is gone is counted in `LogStream.dropped`.
"""

import json
import logging
import sys
import traceback
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import ClassVar, TextIO

from seawall.telemetry import tracing

# A field of this name never leaves the process (`extra={"password": ...}`).
_SECRET = ("password", "passwd", "secret", "token", "authorization", "cookie", "api_key", "apikey")

# Longer texts are cut: one line must not stop those who read it.
_MAX_TEXT = 32_000  # characters

_SEVERITY = {"DEBUG": 5, "INFO": 9, "WARNING": 13, "ERROR": 17, "CRITICAL": 21}

_NAMES = {"WARNING": "WARN", "CRITICAL": "FATAL"}

_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "color_message"}


@dataclass(frozen=True, slots=True)
class Resource:
    """Who writes the lines."""

    service: str
    version: str
    instance_id: str


class JsonFormatter(logging.Formatter):
    """A record as one JSON object on one line."""

    def __init__(self, resource: Resource) -> None:
        super().__init__()
        self._resource = {
            "service.name": resource.service,
            "service.version": resource.version,
            "service.instance.id": resource.instance_id,
        }

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, object] = {
            "timestamp": datetime.fromtimestamp(record.created, UTC)
            .isoformat(timespec="microseconds")
            .replace("+00:00", "Z"),
            "severity": _NAMES.get(record.levelname, record.levelname),
            "severity_number": _SEVERITY.get(record.levelname, 9),
            "body": _message(record)[:_MAX_TEXT],
            **self._resource,
            "logger": record.name,
            **_trace(record),
            **_exception(record),
            **_extra(record),
        }
        return json.dumps(line, default=str, ensure_ascii=True)


class PrettyFormatter(logging.Formatter):
    """A record for people: time, level, text, what was said beside it, and the trace."""

    _COLOUR: ClassVar = {"WARNING": "\x1b[33m", "ERROR": "\x1b[31m", "CRITICAL": "\x1b[1;31m"}

    def __init__(self, *, colour: bool) -> None:
        super().__init__()
        self._colour = colour

    def format(self, record: logging.LogRecord) -> str:
        clock = datetime.fromtimestamp(record.created).astimezone().strftime("%H:%M:%S.%f")[:-3]
        beside = {**_extra(record), **_trace(record)}
        beside.pop("span_id", None)
        beside.pop("trace_flags", None)
        said = " ".join(f"{name}={value}" for name, value in beside.items())
        text = f"{clock} {record.levelname:<7} {_message(record)}" + (f"  {said}" if said else "")
        if record.exc_info:
            text += "\n" + self.formatException(record.exc_info)
        colour = self._COLOUR.get(record.levelname, "") if self._colour else ""
        return f"{colour}{text}\x1b[0m" if colour else text


class LogStream(logging.Handler):
    """Writes lines to a stream that may go away at any time."""

    def __init__(self, stream: TextIO, formatter: logging.Formatter) -> None:
        super().__init__()
        self.setFormatter(formatter)
        self._stream = stream
        self.dropped = 0

    def emit(self, record: logging.LogRecord) -> None:
        try:
            line = self.format(record)
            self._stream.write(line + "\n")
            self._stream.flush()
        except (OSError, ValueError, RecursionError):  # closed, full, gone, or unencodable
            self.dropped += 1


def configure(resource: Resource, level: str = "INFO", stream: TextIO | None = None) -> LogStream:
    """Send every logger of this process to `stream` (standard output if not given).

    JSON, except on a terminal. uvicorn's own loggers are included and its access log is left
    to metrics and the gateway.
    """
    stream = sys.stdout if stream is None else stream
    tty = stream.isatty()
    formatter = PrettyFormatter(colour=tty) if tty else JsonFormatter(resource)
    handler = LogStream(stream, formatter)
    root = logging.getLogger()
    for old in tuple(root.handlers):
        root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(level if level in _SEVERITY else "INFO")
    for name in ("uvicorn", "uvicorn.error", "uvicorn.access", "fastapi"):
        logger = logging.getLogger(name)
        logger.handlers.clear()
        logger.propagate = True
    logging.getLogger("uvicorn.error").setLevel("WARNING")
    logging.getLogger("uvicorn.access").setLevel("WARNING")
    return handler


def dropped() -> int:
    """Lines of this process that could not be written."""
    streams = (one for one in logging.getLogger().handlers if isinstance(one, LogStream))
    return sum(stream.dropped for stream in streams)


def _message(record: logging.LogRecord) -> str:
    try:
        return record.getMessage()
    except (TypeError, ValueError, KeyError):
        return f"{record.msg} {record.args!r}"  # placeholders and arguments do not fit


def _trace(record: logging.LogRecord) -> Mapping[str, object]:
    context = tracing.current()
    if context is None:
        return {}
    return {
        "trace_id": context.trace_id,
        "span_id": context.span_id,
        "trace_flags": "01" if context.sampled else "00",
    }


def _exception(record: logging.LogRecord) -> Mapping[str, object]:
    if not record.exc_info or record.exc_info[0] is None:
        return {}
    kind, error, trace = record.exc_info
    return {
        "exception.type": f"{kind.__module__}.{kind.__qualname__}",
        "exception.message": str(error)[:_MAX_TEXT],
        "exception.stacktrace": "".join(traceback.format_exception(kind, error, trace))[
            -_MAX_TEXT:
        ],
    }


def _extra(record: logging.LogRecord) -> dict[str, object]:
    found: dict[str, object] = {}
    for name, value in vars(record).items():
        if name in _STANDARD or name.startswith("_"):
            continue
        secret = any(word in name.lower() for word in _SECRET)
        found["event.name" if name == "event" else name] = "[redacted]" if secret else value
    return found
