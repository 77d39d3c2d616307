"""A service's contract as an AsyncAPI 3 document.

https://www.asyncapi.com/docs/reference/specification/v3.0.0: a channel for each topic, an
operation for each end that the service has of it, and the attributes of a CloudEvent as the
headers of every message.
"""

import re
from collections.abc import Mapping
from typing import Any

from seawall.contracts.contract import QUEUE, Contract, Schema

VERSION = "3.0.0"
JSON = "application/json"
STRUCTURED = "application/cloudevents+json"

_TEXT: Mapping[str, Any] = {"type": "string", "minLength": 1}

# What every message that Seawall publishes has, in the spelling of its broker.
_HEADERS: Mapping[str, Any] = {
    "type": "object",
    "required": ["ce-specversion", "ce-id", "ce-type", "ce-source"],
    "properties": {
        "ce-specversion": {"type": "string", "const": "1.0"},
        "ce-id": {**_TEXT, "description": "duplicates have the same"},
        "ce-type": {**_TEXT, "description": "the topic"},
        "ce-source": {**_TEXT, "description": "/services/NAME of the publisher"},
        "ce-time": {"type": "string", "format": "date-time"},
        "ce-subject": {**_TEXT, "description": "the key, whose messages are in order"},
        "ce-traceparent": {**_TEXT, "description": "W3C trace context"},
    },
}

# Names of components; others are written with `_`.
_ILLEGAL = re.compile(r"[^a-zA-Z0-9._-]")


def document(contract: Contract) -> dict[str, Any]:
    """The document; the same contract always makes the same."""
    writing = _Writing()
    for published in contract.publishes:
        kind = STRUCTURED if published.structured else JSON
        message = writing.message(published.topic, published.schema, kind)
        writing.operation("send", published.topic, message)
    for consumed in contract.consumes:
        message = writing.message(consumed.topic, consumed.schema, JSON)
        writing.operation("receive", consumed.topic, message, consumed.group)
    info = {"title": contract.service, "version": contract.version}
    if contract.description:
        info["description"] = contract.description
    return {
        "asyncapi": VERSION,
        "info": info,
        "defaultContentType": JSON,
        "channels": writing.channels,
        "operations": writing.operations,
        "components": {
            "messages": writing.messages,
            "schemas": writing.schemas,
            "messageTraits": {"CloudEvent": {"headers": _HEADERS}},
        },
    }


class _Writing:
    def __init__(self) -> None:
        self.channels: dict[str, Any] = {}
        self.operations: dict[str, Any] = {}
        self.messages: dict[str, Any] = {}
        self.schemas: dict[str, Any] = {}

    def message(self, topic: str, schema: Schema, content_type: str) -> str:
        """The name of the component that says it, which may be there already."""
        title = str(schema.get("title", "")) or topic
        message = {
            "name": title,
            "contentType": content_type,
            "traits": [{"$ref": "#/components/messageTraits/CloudEvent"}],
            "payload": self._payload(schema, title),
        }
        return _kept(self.messages, topic, message)

    def _payload(self, schema: Schema, title: str) -> Any:
        """The schema, with its definitions among the components: `$defs` of a part of the
        document are no place that a reference from there means."""
        names: dict[str, str] = {}
        definitions: Mapping[str, Any] = schema.get("$defs", {})
        for name, definition in definitions.items():
            names[name] = _name_for(self.schemas, name, _moved(definition, {}))
        for name, definition in definitions.items():
            self.schemas[names[name]] = _moved(definition, names)
        whole = {key: value for key, value in schema.items() if key != "$defs"}
        if not whole:
            return {}
        moved = _moved(whole, names)
        if list(moved) == ["$ref"]:
            return moved
        return {"$ref": f"#/components/schemas/{_kept(self.schemas, title, moved)}"}

    def operation(self, action: str, topic: str, message: str, group: str = "") -> None:
        channel = _legal(topic)
        known = self.channels.setdefault(channel, {"address": topic, "messages": {}})
        known["messages"][message] = {"$ref": f"#/components/messages/{message}"}
        told: dict[str, Any] = {
            "action": action,
            "channel": {"$ref": f"#/channels/{channel}"},
            "messages": [{"$ref": f"#/channels/{channel}/messages/{message}"}],
        }
        if group:
            queue = group == QUEUE
            told["summary"] = "one of all workers gets it" if queue else f"as group {group}"
        self.operations[_legal(f"{action}.{topic}.{group}".strip("."))] = told


def _kept(components: dict[str, Any], name: str, value: Any) -> str:
    name = _name_for(components, name, value)
    components[name] = value
    return name


def _name_for(components: Mapping[str, Any], name: str, value: Any) -> str:
    """`name`, or with a number where another value has that name."""
    name = _legal(name)
    chosen, number = name, 1
    while chosen in components and components[chosen] != value:
        number += 1
        chosen = f"{name}_{number}"
    return chosen


def _legal(name: str) -> str:
    return _ILLEGAL.sub("_", name)


def _moved(schema: Any, names: Mapping[str, str]) -> Any:
    """The schema, with references into its `$defs` led to the components."""
    if isinstance(schema, list):
        return [_moved(one, names) for one in schema]
    if not isinstance(schema, Mapping):
        return schema
    moved = {key: _led(_moved(value, names), names) for key, value in schema.items()}
    by = moved.get("discriminator")
    if isinstance(by, Mapping) and isinstance(by.get("propertyName"), str):
        moved["discriminator"] = by["propertyName"]  # a name is all that AsyncAPI knows of it
    return moved


def _led(value: Any, names: Mapping[str, str]) -> Any:
    """References stand in `$ref`, and as values of a discriminator's mapping."""
    if isinstance(value, str) and value.startswith("#/$defs/"):
        name = value.removeprefix("#/$defs/")
        return f"#/components/schemas/{names.get(name, name)}"
    return value
