"""A service tells its contract, keeps to it, and reads what others write."""

import json
from typing import Any

import pytest
from pydantic import BaseModel

from seawall import Delivery, Event, Service
from seawall.errors import Misconfigured
from seawall.messaging.base import Message
from seawall.testing.platform import Platform


class Placed(Event, topic="order.placed"):
    number: int


class Job(BaseModel):
    number: int


async def test_the_document_and_the_page_are_served(system: Platform) -> None:
    service, hidden = Service("orders"), Service("hidden", openapi_url=None)
    service.publishes(Placed)
    await system.start(service, hidden)
    answer = await system.client("orders").get("/asyncapi.json")
    assert (answer.status, answer.json()["info"]["title"]) == (200, "orders")
    page = await system.client("orders").get("/asyncapi")
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert "order.placed" in page.text
    assert "/asyncapi" not in (await system.client("orders").get("/openapi.json")).text
    assert (await system.client("hidden").get("/asyncapi.json")).status == 404


async def test_what_is_published_is_what_was_said(system: Platform) -> None:
    service = Service("orders")
    service.publishes("jobs", Job)
    with pytest.raises(Misconfigured, match="says twice"):
        service.publishes("jobs", Placed)
    await system.start(service)
    await service.publish("jobs", Job(number=1))
    with pytest.raises(Misconfigured, match="jobs is published as Job, not dict"):
        await service.publish("jobs", {"number": 1})
    assert [one.data for one in await system.published("jobs")] == [{"number": 1}]


async def test_a_structured_event_carries_its_attributes_and_is_read(system: Platform) -> None:
    orders, mail, seen = Service("orders"), Service("mail"), []
    orders.publishes(Placed, structured=True)

    @mail.on(Placed)
    async def placed(event: Placed, delivery: Delivery) -> None:
        seen.append((event.number, delivery.message.id, delivery.message.headers["content-type"]))

    await system.start(orders, mail)
    message_id = await orders.publish(Placed(number=7))
    await system.settle()
    assert seen == [(7, message_id, "application/json")]
    (published,) = await system.published(Placed)
    event = json.loads(published.message.body)
    assert (event["id"], event["type"], event["data"]) == (
        message_id,
        "order.placed",
        {"number": 7},
    )


EVENT = {"specversion": "1.0", "id": "e-1", "type": "t", "source": "/spring"}
STRUCTURED = {"content-type": "application/cloudevents+json"}


@pytest.mark.parametrize(
    ("headers", "body", "message_id"),
    [
        ({}, {"number": 7}, "m-1"),
        ({f"ce_{name}": value for name, value in EVENT.items()}, {"number": 7}, "e-1"),
        ({f"cloudEvents:{name}": value for name, value in EVENT.items()}, {"number": 7}, "e-1"),
        (STRUCTURED, {**EVENT, "data": {"number": 7}}, "e-1"),
    ],
)
async def test_events_of_others_are_read(
    system: Platform, headers: dict[str, str], body: Any, message_id: str
) -> None:
    service, seen = Service("mail"), []

    @service.on(Placed)
    async def placed(event: Placed, delivery: Delivery) -> None:
        seen.append((event.number, delivery.message.id))

    await system.start(service)
    await system.transport.publish(
        "order.placed", [Message("m-1", json.dumps(body).encode(), headers)]
    )
    await system.settle()
    assert seen == [(7, message_id)]


async def test_a_batch_is_a_dead_letter_as_it_came(system: Platform) -> None:
    service = Service("mail")

    @service.on(Placed)
    async def placed(event: Placed) -> None: ...

    await system.start(service)
    headers = {"content-type": "application/cloudevents-batch+json"}
    await system.transport.publish("order.placed", [Message("m-1", b"[]", headers)])
    await system.settle()
    (letter,) = await system.dead_letters()
    assert (letter.reason, letter.message.body) == ("undecodable", b"[]")
    assert "publish them one by one" in letter.error
