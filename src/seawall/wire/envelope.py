"""CloudEvents 1.0 in binary mode: the body is the data, the attributes are headers.

https://github.com/cloudevents/spec, "HTTP Protocol Binding" section 3.1, whose header names
(`ce-id`, `ce-type`, ...) every transport here uses. Extension attributes, whose names may hold
only lower-case letters and digits:

    subject        the key: messages of one key are kept in order
    traceparent    W3C trace context of the publisher (distributed tracing extension)
    tracestate
    expires        seconds since 1970 after which nobody wants it any more
    replyto        topic to publish the handler's answer to
    correlationid  id of the message an answer belongs to
    outcome        on an answer: "ok" or "rejected"
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

PREFIX = "ce-"
JSON = "application/json"


class BadEnvelope(ValueError):
    """The headers are not those of a CloudEvent."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Envelope:
    """A CloudEvent without its body. `time` is in seconds since 1970."""

    id: str
    type: str
    source: str
    time: float
    subject: str | None = None
    content_type: str = JSON
    extensions: Mapping[str, str] = field(default_factory=dict)


def to_headers(envelope: Envelope) -> dict[str, str]:
    headers = {
        "content-type": envelope.content_type,
        "ce-specversion": "1.0",
        "ce-id": envelope.id,
        "ce-type": envelope.type,
        "ce-source": envelope.source,
        "ce-time": _rfc3339(envelope.time),
    }
    if envelope.subject is not None:
        headers["ce-subject"] = envelope.subject
    for name, value in envelope.extensions.items():
        headers[PREFIX + name] = value
    return headers


_KNOWN = frozenset({"specversion", "id", "type", "source", "time", "subject"})


def from_headers(headers: Mapping[str, str]) -> Envelope:
    """Read an envelope; raises `BadEnvelope` where a required attribute is missing or wrong."""
    try:
        if not headers["ce-specversion"].startswith("1."):
            raise BadEnvelope(f"CloudEvents version {headers['ce-specversion']!r} is not known")
        return Envelope(
            id=headers["ce-id"],
            type=headers["ce-type"],
            source=headers["ce-source"],
            time=_seconds(headers["ce-time"]) if "ce-time" in headers else 0.0,
            subject=headers.get("ce-subject"),
            content_type=headers.get("content-type", JSON),
            extensions={
                name[len(PREFIX) :]: value
                for name, value in headers.items()
                if name.startswith(PREFIX) and name[len(PREFIX) :] not in _KNOWN
            },
        )
    except KeyError as exc:
        raise BadEnvelope(f"attribute {exc.args[0]} is missing") from None


def _rfc3339(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="microseconds")


def _seconds(text: str) -> float:
    try:
        return datetime.fromisoformat(text).timestamp()
    except ValueError:
        raise BadEnvelope(f"ce-time {text!r} is not a time by RFC 3339") from None
