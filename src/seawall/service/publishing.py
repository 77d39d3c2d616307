"""From a value to a message: JSON body, CloudEvents attributes, trace context (pure but for ids).

A message's id is made once, before the first try to store it, so that storing it again after an
unknown outcome is recognised.
"""

import uuid
from collections.abc import Mapping
from dataclasses import replace

from seawall.clock import SYSTEM
from seawall.errors import Misconfigured
from seawall.messaging.base import Message
from seawall.service.client import encode
from seawall.telemetry import tracing
from seawall.wire.envelope import Envelope, to_headers, to_structured


def message(
    source: str,
    topic: str,
    value: object,
    *,
    key: str | None = None,
    reply_to: str | None = None,
    headers: Mapping[str, str] | None = None,
    message_id: str | None = None,
) -> Message:
    """The message that says `value` on `topic`. Raises `Misconfigured` for what JSON cannot say.

    `headers` are added as they are; names are lower case.
    """
    extensions: dict[str, str] = {}
    trace = tracing.current()
    if trace is not None:
        extensions.update(trace.headers())
    if reply_to is not None:
        extensions["replyto"] = reply_to
    envelope = Envelope(
        id=message_id or uuid.uuid4().hex,
        type=topic,
        source=f"/services/{source}",
        time=SYSTEM.wall(),
        subject=key,
        extensions=extensions,
    )
    fields = to_headers(envelope)
    for name, text in (headers or {}).items():
        if name != name.lower() or not isinstance(text, str):
            raise Misconfigured(f"message header {name!r} is lower case text")
        fields[name] = text
    return Message(id=envelope.id, body=encode(value), headers=fields, key=key)


def structured(plain: Message) -> Message:
    """The same message with all its attributes in the body, too."""
    headers, body = to_structured(plain.headers, plain.body)
    return replace(plain, headers=headers, body=body)


def answer(source: str, topic: str, to: Message, value: object, *, outcome: str) -> Message:
    """The answer to `to`. Answering the same message again makes the same id."""
    headers = {"ce-correlationid": to.id, "ce-outcome": outcome}
    return message(source, topic, value, key=to.key, headers=headers, message_id=f"{to.id}-answer")
