"""A service's contract, read from its declarations: nothing runs for it.

What a group reads is the annotation of its handler. What is published cannot be seen without
running, so a service says it (`publishes`), and `publish` holds it to that. `/asyncapi.json` and
the page `/asyncapi` show it.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from fastapi import FastAPI
from pydantic import TypeAdapter
from pydantic.errors import PydanticSchemaGenerationError, PydanticUserError
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response

from seawall.contracts import asyncapi, page
from seawall.contracts.contract import Consumed, Contract, Published, Schema
from seawall.errors import Misconfigured
from seawall.messaging.base import Message
from seawall.service import publishing
from seawall.service.batch_handlers import event_of
from seawall.service.events import topic_of
from seawall.service.handlers import Declared


@dataclass(frozen=True, slots=True)
class Publishes:
    """What a service says that it publishes to a topic; `model` None is anything."""

    topic: str
    model: Any = None
    structured: bool = False


def say(
    published: dict[str, Publishes], event: str | type, model: Any, *, structured: bool
) -> None:
    """Add what a service says that it publishes. Raises `Misconfigured` if it says two things."""
    topic = topic_of(event)
    said = Publishes(topic, event if isinstance(event, type) else model, structured)
    if published.setdefault(topic, said) != said:
        raise Misconfigured(f"a service says twice what it publishes to {topic}")


def held_to(
    published: Mapping[str, Publishes], value: object, topic: str, message: Message
) -> Message:
    """The message that says `value`, in the form that was said for its topic. Raises
    `Misconfigured` if `value` is not what was said."""
    said = published.get(topic)
    if said is None:
        return message
    if isinstance(said.model, type) and not isinstance(value, said.model):
        raise Misconfigured(
            f"{topic} is published as {said.model.__name__}, not {type(value).__name__}",
            fix=f"publish a {said.model.__name__}, or change what the service `publishes`",
        )
    return publishing.structured(message) if said.structured else message


def contract_of(
    service: str,
    version: str,
    description: str,
    published: Mapping[str, Publishes],
    handlers: Iterable[Declared],
) -> Contract:
    return Contract(
        service=service,
        version=version,
        description=description,
        publishes=tuple(
            Published(topic=topic, schema=_written(said.model), structured=said.structured)
            for topic, said in sorted(published.items())
        ),
        consumes=tuple(
            Consumed(
                topic=one.subscription.topic,
                group=one.subscription.group,
                schema=_read(event_of(one)),
            )
            for one in sorted(handlers, key=_place)
        ),
    )


def _place(one: Declared) -> tuple[str, str]:
    return one.subscription.topic, one.subscription.group


def _written(model: Any) -> Schema:
    if model is None:
        return {}
    return _schema(lambda: TypeAdapter(model).json_schema(mode="serialization"))


def _read(event: TypeAdapter[Any] | None) -> Schema:
    return {} if event is None else _schema(lambda: event.json_schema(mode="validation"))


def _schema(make: Callable[[], dict[str, Any]]) -> Schema:
    """What JSON Schema cannot say is anything at all."""
    try:
        return make()
    except (PydanticUserError, PydanticSchemaGenerationError):
        return {}


JSON_PATH, PAGE_PATH = "/asyncapi.json", "/asyncapi"


def show(application: FastAPI, contract: Callable[[], Contract]) -> None:
    """Serve the contract, unless the application hides its documentation (`openapi_url=None`)."""
    if application.openapi_url is None:
        return

    @cache
    def document() -> dict[str, Any]:
        return asyncapi.document(contract())  # all is declared when the first request comes

    async def as_json(request: Request) -> Response:
        return JSONResponse(document())

    async def as_page(request: Request) -> Response:
        # Relative, since a proxy may have put the service below a path of its own.
        return HTMLResponse(page.rendered(document(), JSON_PATH.lstrip("/")))

    application.add_route(JSON_PATH, as_json, include_in_schema=False)
    application.add_route(PAGE_PATH, as_page, include_in_schema=False)
