"""A channel of RabbitMQ: who is told what, by frames as a broker sends them."""

import asyncio

import pamqp.frame
import pytest
from pamqp import commands as spec
from pamqp.base import Frame
from pamqp.body import ContentBody
from pamqp.header import ContentHeader

from seawall.concurrency.tasks import Tasks
from seawall.errors import Full, Misconfigured, OutcomeUnknown, SeawallError
from seawall.messaging.base import Message
from seawall.messaging.transports.rabbit_channel import Arrived, Channel, Gone, Post
from seawall.messaging.transports.rabbit_frames import Splitter
from seawall.messaging.transports.rabbit_layout import properties_of
from tests.support.waiting import eventually


class Broker:
    """What one channel sends, and what it is sent."""

    def __init__(self) -> None:
        self.sent = b""
        self.arrived: list[Arrived] = []
        self.cancelled = 0
        self.channel = Channel(7, self._send, 4096)
        self.channel.deliver = self.arrived.append
        self.channel.cancelled = self._cancelled

    def _send(self, packed: bytes) -> None:
        self.sent += packed

    def _cancelled(self) -> None:
        self.cancelled += 1

    def say(self, *frames: Frame | ContentHeader | ContentBody) -> None:
        data = b"".join(pamqp.frame.marshal(frame, 7) for frame in frames)
        for kind, _, frame in Splitter().feed(data):
            self.channel.take(kind, frame)

    def methods(self) -> list[str]:
        found = [pamqp.frame.unmarshal(frame)[2] for _, _, frame in Splitter().feed(self.sent)]
        return [method.name for method in found]


def post(name: str, key: str = "queue") -> Post:
    return Post("", key, b"{}", properties_of(Message(name, b"{}"), at=1))


def content(name: str, size: int) -> ContentHeader:
    return ContentHeader(body_size=size, properties=properties_of(Message(name, b""), at=1))


def returned(name: str, key: str) -> tuple[Frame | ContentHeader | ContentBody, ...]:
    method = spec.Basic.Return(reply_code=312, reply_text="NO_ROUTE", exchange="", routing_key=key)
    return method, content(name, 2), ContentBody(b"{}")


def kinds(found: list[SeawallError | None]) -> list[type[SeawallError] | None]:
    return [None if fate is None else type(fate) for fate in found]


async def test_confirmations_are_counted_in_any_order() -> None:
    broker = Broker()
    first = broker.channel.publish([post("a"), post("b"), post("c")])
    second = broker.channel.publish([post("d"), post("e")])
    broker.say(spec.Basic.Ack(delivery_tag=5))
    broker.say(spec.Basic.Nack(delivery_tag=2))
    assert not first.done()
    broker.say(spec.Basic.Ack(delivery_tag=4, multiple=True))
    assert kinds(await first) == [None, Full, None]
    assert kinds(await second) == [None, None]
    broker.say(spec.Basic.Ack(delivery_tag=4))  # twice: nobody's any more


async def test_what_no_queue_takes_is_told_of_that_message() -> None:
    broker = Broker()
    publishing = broker.channel.publish([post("a"), post("a", "nowhere"), post("a", "nowhere")])
    broker.say(*returned("a", "nowhere"))
    broker.say(*returned("a", "nowhere"))
    broker.say(spec.Basic.Ack(delivery_tag=3, multiple=True))
    assert kinds(await publishing) == [None, Gone, Gone]


@pytest.mark.parametrize(
    ("code", "error"),
    [(404, Gone), (406, Misconfigured), (403, Misconfigured), (541, OutcomeUnknown)],
)
async def test_a_broker_that_closes_it_tells_all_who_wait(
    code: int, error: type[SeawallError]
) -> None:
    broker = Broker()
    publishing = broker.channel.publish([post("a"), post("b")])
    asking = Tasks().start(broker.channel.ask(spec.Basic.Qos()))
    await eventually(lambda: "Basic.Qos" in broker.methods())
    broker.say(spec.Basic.Ack(delivery_tag=1))
    broker.say(spec.Channel.Close(reply_code=code, reply_text="why", class_id=0, method_id=0))
    assert kinds(await publishing) == [None, error]
    with pytest.raises(error):
        await asking
    assert broker.methods()[-1] == "Channel.CloseOk"
    assert broker.channel.ended.done()
    with pytest.raises(OutcomeUnknown):
        broker.channel.publish([post("c")])
    with pytest.raises(OutcomeUnknown):
        broker.channel.ack([1])


async def test_answers_come_in_the_order_of_the_questions() -> None:
    broker = Broker()
    first = Tasks().start(broker.channel.ask(spec.Basic.Qos()))
    await eventually(lambda: len(broker.methods()) == 1)
    second = Tasks().start(broker.channel.ask(spec.Basic.Get(queue="queue")))
    await eventually(lambda: len(broker.methods()) == 2)
    first.cancel()
    await asyncio.wait([first])
    broker.say(spec.Basic.QosOk())
    assert not second.done()
    broker.say(
        spec.Basic.GetOk(3, exchange="", routing_key="queue", message_count=0),
        content("a", 2),
        ContentBody(b"{}"),
    )
    assert isinstance(await second, spec.Basic.GetOk)
    assert [(each.tag, each.content.message_id, each.body) for each in broker.arrived] == [
        (3, "a", b"{}")
    ]


async def test_deliveries_come_whole() -> None:
    broker = Broker()
    for tag, parts in ((1, []), (2, [b"one"]), (3, [b"one", b"two", b"three"])):
        method = spec.Basic.Deliver("ctag", tag, exchange="", routing_key="queue")
        size = sum(len(part) for part in parts)
        broker.say(method, content(f"m{tag}", size), *(ContentBody(part) for part in parts))
    assert [(each.tag, each.body) for each in broker.arrived] == [
        (1, b""),
        (2, b"one"),
        (3, b"onetwothree"),
    ]


async def test_the_broker_may_end_a_consumer() -> None:
    broker = Broker()
    broker.say(spec.Basic.Cancel(consumer_tag="ctag"))
    assert broker.cancelled == 1


async def test_settlements_are_one_write() -> None:
    broker = Broker()
    broker.channel.ack([7, 9], up_to=5)
    broker.channel.reject([11])
    assert broker.methods() == ["Basic.Ack", "Basic.Ack", "Basic.Ack", "Basic.Reject"]
