"""A FastStream service on the other side: it reads our events, and we read its.

FastStream's own settings, nothing adapted: it knows a topic by the name that it has at the broker.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any

import pytest
from pydantic import BaseModel

from seawall import Delivery
from seawall.messaging.base import Message, Subscription, Transport
from seawall.messaging.connect import open_transport
from seawall.service import publishing
from seawall.service.handlers import Declared, MessageHandler
from tests.support import brokers
from tests.support.servers import missing

try:
    import faststream  # noqa: F401 - whether it is here
except ModuleNotFoundError:
    missing_faststream = True
else:
    missing_faststream = False


class Placed(BaseModel):
    number: int


@dataclass(frozen=True)
class Other:
    """A FastStream broker, and how it names the topic to publish and to subscribe to."""

    broker: Any
    publish: dict[str, Any]
    subscribe: tuple[Any, dict[str, Any]]


def on_redis(url: str, topic: str) -> Other:
    from faststream.redis import RedisBroker, StreamSub

    stream = f"seawall:{{{topic}}}"
    source = StreamSub(stream, group="theirs", consumer="one", polling_interval=10)
    return Other(RedisBroker(url), {"stream": stream}, (None, {"stream": source}))


def on_nats(url: str, topic: str) -> Other:
    from faststream.nats import JStream, NatsBroker

    from seawall.messaging.transports.nats_layout import Topic

    names = Topic.of(topic)
    source = {"stream": JStream(names.stream, declare=False)}
    return Other(NatsBroker(url), {"subject": names.subject}, (names.subject, source))


def on_rabbitmq(url: str, topic: str) -> Other:
    from faststream.rabbit import ExchangeType, RabbitBroker, RabbitExchange, RabbitQueue

    from seawall.messaging.transports.rabbit_layout import Topic

    name = Topic.of(topic).exchange
    exchange = RabbitExchange(name, type=ExchangeType.FANOUT, durable=True, declare=False)
    queue = RabbitQueue(f"theirs-{topic}", auto_delete=True)
    return Other(RabbitBroker(url), {"exchange": exchange}, (queue, {"exchange": exchange}))


def on_kafka(url: str, topic: str) -> Other:
    from faststream.confluent import KafkaBroker

    broker = KafkaBroker(url.removeprefix("kafka://").partition("?")[0])
    source = {"group_id": "theirs", "auto_offset_reset": "earliest"}
    return Other(broker, {"topic": topic}, (topic, source))


MADE: dict[str, Callable[[str, str], Other]] = {
    "valkey": on_redis,
    "redis": on_redis,
    "nats": on_nats,
    "rabbitmq": on_rabbitmq,
    "kafka": on_kafka,
}


@pytest.fixture(params=brokers.chosen("valkey", "nats", "rabbitmq", "kafka"))
def where(request: pytest.FixtureRequest) -> tuple[str, str]:
    """The name of a broker and the address of a server of it."""
    if missing_faststream:
        missing("faststream (scripts/servers)")
    server = request.getfixturevalue(request.param)
    if request.param == "kafka":
        return request.param, f"kafka://127.0.0.1:{server.port}?idempotent=false"
    return request.param, server.url


@pytest.fixture
async def transport(where: tuple[str, str], unique: str) -> AsyncIterator[Transport]:
    transport = open_transport(where[1])
    await transport.open()
    await transport.provision([Subscription(unique, "ours")])
    yield transport
    await transport.aclose()


async def read(transport: Transport, topic: str) -> list[tuple[Placed, Delivery]]:
    """One message of the topic, as a handler gets it."""
    seen: list[tuple[Placed, Delivery]] = []

    async def placed(event: Placed, delivery: Delivery) -> None:
        seen.append((event, delivery))

    async def publish(topic: str, message: Message) -> None: ...

    subscription = Subscription(topic, "ours")
    declared = Declared(function=placed, subscription=subscription)
    handler = MessageHandler("mail", declared, None, publish)
    for delivery in await transport.fetch(subscription, 1, wait=25, lease=30):
        await handler(delivery)
        await transport.ack([delivery])
    return seen


@pytest.mark.timeout(120)  # Kafka gives a new group its partitions after some twenty seconds
async def test_theirs_is_read_here(
    where: tuple[str, str], transport: Transport, unique: str
) -> None:
    name, url = where
    other = MADE[name](url, unique)
    async with other.broker:
        await other.broker.publish(Placed(number=7), **other.publish, headers={"ce-id": "e-1"})
    ((event, delivery),) = await read(transport, unique)
    assert (event.number, delivery.message.id) == (7, "e-1")


@pytest.mark.timeout(120)
@pytest.mark.parametrize("structured", [False, True])
async def test_ours_is_read_there(
    where: tuple[str, str], transport: Transport, unique: str, structured: bool
) -> None:
    name, url = where
    message = publishing.message("orders", unique, Placed(number=7))
    if structured:
        message = publishing.structured(message)
    other = MADE[name](url, unique)
    heard: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
    source, options = other.subscribe

    @other.broker.subscriber(*([] if source is None else [source]), **options)
    async def placed(event: Any) -> None:
        heard.set_result(event)

    async with other.broker:
        await other.broker.start()
        (receipt,) = await transport.publish(unique, [message])
        assert receipt.error is None
        event = await asyncio.wait_for(heard, 15)
    if structured:
        # Where headers tell FastStream that this is not plain JSON, it leaves the bytes alone.
        event = json.loads(event) if isinstance(event, bytes) else event
        assert (event["id"], event["type"]) == (message.id, unique)
        event = event["data"]
    assert event == {"number": 7}
