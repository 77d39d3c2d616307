"""The AsyncAPI document, held against FastStream's model of AsyncAPI 3."""

from html.parser import HTMLParser
from typing import Any, Literal

import pytest
from pydantic import BaseModel, Field

from seawall import Event, Service
from seawall.contracts.asyncapi import document
from seawall.contracts.contract import QUEUE, Consumed, Contract, Published
from seawall.contracts.page import rendered


class Line(BaseModel):
    sku: str = Field(max_length=40, description="as in <the catalog>")
    count: int = Field(ge=1)


class Card(BaseModel):
    kind: Literal["card"]
    number: str


class Bill(BaseModel):
    kind: Literal["bill"]


class Placed(Event, topic="order.placed"):
    """Somebody wants something."""

    order_id: str
    lines: list[Line]
    paid: Card | Bill = Field(discriminator="kind")
    note: str | None = None


class Tree(BaseModel):
    children: list["Tree"] = []


def service() -> Service:
    orders = Service("orders", version="1.2.0", description="Takes <orders>.")
    orders.publishes(Placed)
    orders.publishes("tree.grown", Tree, structured=True)
    orders.publishes("anything/at all")

    @orders.on("product.priced")
    async def priced(event: Line) -> None: ...

    @orders.on("product.priced", group="other")
    async def also(event: dict[str, int]) -> None: ...

    @orders.worker("jobs")
    async def job() -> None: ...

    return orders


def resolve(reference: str, told: Any) -> Any:
    for name in reference.removeprefix("#/").split("/"):
        told = told[name]
    return told


def references(told: Any) -> list[str]:
    if isinstance(told, list):
        return [found for one in told for found in references(one)]
    if not isinstance(told, dict):
        return []
    own = [told["$ref"]] if "$ref" in told else []
    return own + [found for one in told.values() for found in references(one)]


def test_every_reference_leads_somewhere() -> None:
    told = document(service().contract)
    assert all(resolve(one, told) is not None for one in references(told))


def test_others_read_the_document() -> None:
    schema = pytest.importorskip("faststream.specification.asyncapi.v3_0_0.schema")
    told = document(service().contract)
    read = schema.ApplicationSchema.model_validate(told)
    assert set(read.channels) == set(told["channels"])
    assert {name: one.action for name, one in read.operations.items()} == {
        name: one["action"] for name, one in told["operations"].items()
    }
    assert read.info.title == "orders"


def test_what_stands_in_it() -> None:
    told = document(service().contract)
    assert {name: one["address"] for name, one in told["channels"].items()} == {
        "order.placed": "order.placed",
        "tree.grown": "tree.grown",
        "anything_at_all": "anything/at all",
        "product.priced": "product.priced",
        "jobs": "jobs",
    }
    assert {name: one["action"] for name, one in told["operations"].items()} == {
        "send.order.placed": "send",
        "send.tree.grown": "send",
        "send.anything_at_all": "send",
        "receive.product.priced.orders": "receive",
        "receive.product.priced.other": "receive",
        "receive.jobs.workers": "receive",
    }
    assert set(told["channels"]["product.priced"]["messages"]) == {
        "product.priced",
        "product.priced_2",
    }
    messages = told["components"]["messages"]
    assert messages["tree.grown"]["contentType"] == "application/cloudevents+json"
    assert messages["jobs"]["payload"] == {}
    placed = told["components"]["schemas"]["Placed"]
    assert placed["description"] == "Somebody wants something."
    assert placed["properties"]["paid"]["discriminator"] == "kind"
    assert placed["properties"]["lines"]["items"] == {"$ref": "#/components/schemas/Line"}


def test_models_of_one_name_do_not_mix() -> None:
    def of(topic: str, kind: str) -> Published:
        inside = {"type": "object", "properties": {"a": {"type": kind}}}
        whole = {"$defs": {"A": inside}, "type": "array", "items": {"$ref": "#/$defs/A"}}
        return Published(topic=topic, schema=whole)

    contract = Contract(
        service="a", version="1.0.0", publishes=(of("x", "string"), of("y", "null"))
    )
    schemas = document(contract)["components"]["schemas"]
    assert schemas["A"]["properties"] == {"a": {"type": "string"}}
    assert schemas["A_2"]["properties"] == {"a": {"type": "null"}}
    assert schemas["y"]["items"] == {"$ref": "#/components/schemas/A_2"}


class Reader(HTMLParser):
    """Text and links, and that every element is closed."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.text: list[str] = []
        self.links: list[str] = []
        self.ids: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag != "meta":
            self.open.append(tag)
        named = dict(attrs)
        self.links += [named["href"] or ""] if "href" in named else []
        self.ids += [named["id"] or ""] if "id" in named else []
        assert tag != "script"

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def test_the_page_shows_it_and_asks_nobody_else() -> None:
    reader = Reader()
    reader.feed(rendered(document(service().contract), "asyncapi.json"))
    assert reader.open == []
    for text in ("order.placed", "lines[].sku", "at most 40 characters; as in <the catalog>"):
        assert text in reader.text
    assert "Takes <orders>." in reader.text
    assert "as group other" in reader.text
    assert {link.removeprefix("#") for link in reader.links} - set(reader.ids) == {"asyncapi.json"}


def test_the_page_of_a_service_without_messages() -> None:
    reader = Reader()
    reader.feed(rendered(document(Service("a").contract), "asyncapi.json"))
    assert "Nothing: this service declares no messages." in reader.text


def test_the_contract_of_a_service() -> None:
    contract = service().contract
    assert [(one.topic, one.group) for one in contract.consumes] == [
        ("jobs", QUEUE), ("product.priced", "orders"), ("product.priced", "other"),
    ]  # fmt: skip
    assert Consumed(topic="jobs", group=QUEUE) in contract.consumes
    assert {one.topic: one.structured for one in contract.publishes} == {
        "order.placed": False, "tree.grown": True, "anything/at all": False,
    }  # fmt: skip
