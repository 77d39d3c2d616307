"""CloudEvents 1.0. In binary mode the body is the data and the attributes are headers; in
structured mode the body is one JSON object with both.

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

import base64
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

import msgspec

PREFIX = "ce-"
JSON = "application/json"
STRUCTURED = "application/cloudevents+json"
BATCHED = "application/cloudevents-batch"
_ANY_MODE = "application/cloudevents"

# How the bindings of HTTP, NATS, Kafka and AMQP spell the prefix of an attribute's header.
_PREFIXES = ("ce-", "ce_", "cloudevents:", "cloudevents_")


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


def is_binary(headers: Mapping[str, str]) -> bool:
    """Whether these are headers as `to_headers` writes them, so that nothing is to be done."""
    return "ce-id" in headers and not headers.get("content-type", "").startswith(_ANY_MODE)


def to_structured(headers: Mapping[str, str], body: bytes) -> tuple[dict[str, str], bytes]:
    """An event in binary mode with a body of JSON, in structured mode.

    Its attributes stay among the headers, as the bindings allow, for whoever reads only those.
    """
    event: dict[str, object] = {
        name.removeprefix(PREFIX): value
        for name, value in headers.items()
        if name.startswith(PREFIX)
    }
    event["datacontenttype"] = headers.get("content-type", JSON)
    event["data"] = msgspec.Raw(body)
    return {**headers, "content-type": STRUCTURED}, msgspec.json.encode(event)


def to_binary(headers: Mapping[str, str], body: bytes) -> tuple[dict[str, str], bytes]:
    """An event in any mode and spelling, in binary mode as ours are.

    What is no CloudEvent stays as it is. Raises `BadEnvelope` for one that cannot be read.
    """
    spelled = {_spelled(name): value for name, value in headers.items()}
    kind = spelled.get("content-type", "").lower()
    if kind.startswith(BATCHED):
        raise BadEnvelope("a batch of CloudEvents is not read; publish them one by one")
    if kind.startswith(_ANY_MODE):
        return _opened(spelled, body)
    return spelled, body


def _spelled(name: str) -> str:
    low = name.lower()
    if low == "content-type":
        return low
    prefix = next((prefix for prefix in _PREFIXES if low.startswith(prefix)), None)
    return name if prefix is None else PREFIX + low[len(prefix) :]


def _opened(headers: Mapping[str, str], body: bytes) -> tuple[dict[str, str], bytes]:
    if not headers["content-type"].lower().startswith(STRUCTURED):
        raise BadEnvelope(f"{headers['content-type']} is not read, only {STRUCTURED}")
    try:
        event = msgspec.json.decode(body, type=dict[str, msgspec.Raw])
        data = event.pop("data", None)
        encoded = event.pop("data_base64", None)
        attributes = {name: _text(bytes(value)) for name, value in event.items()}
        content_type = attributes.pop("datacontenttype", JSON)
        if encoded is not None:
            content = base64.b64decode(_text(bytes(encoded)), validate=True)
        elif data is None or _is_json(content_type):
            content = b"" if data is None else bytes(data)
        else:
            content = _text(bytes(data)).encode()
    except (msgspec.DecodeError, ValueError) as error:
        raise BadEnvelope(f"this is no CloudEvent in JSON: {error}") from None
    opened = {name: value for name, value in headers.items() if not name.startswith(PREFIX)}
    opened |= {PREFIX + name: value for name, value in attributes.items()}
    opened["content-type"] = content_type
    from_headers(opened)  # which says what is missing
    return opened, content


def _is_json(content_type: str) -> bool:
    kind = content_type.partition(";")[0].strip().lower()
    return kind.endswith(("/json", "+json"))


def _text(raw: bytes) -> str:
    """A JSON string as text; another value as it is written."""
    return msgspec.json.decode(raw, type=str) if raw.startswith(b'"') else raw.decode()


def _rfc3339(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="microseconds")


def _seconds(text: str) -> float:
    try:
        return datetime.fromisoformat(text).timestamp()
    except ValueError:
        raise BadEnvelope(f"ce-time {text!r} is not a time by RFC 3339") from None
