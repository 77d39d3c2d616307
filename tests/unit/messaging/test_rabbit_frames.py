"""Frames of AMQP: as pamqp reads and writes them, however the bytes are cut."""

import pamqp.frame
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pamqp import commands as spec
from pamqp.base import Frame
from pamqp.body import ContentBody
from pamqp.header import ContentHeader

from seawall.messaging.base import Message
from seawall.messaging.transports import rabbit_frames as frames
from seawall.messaging.transports.rabbit_layout import properties_of

MOST = 4096

texts = st.text(st.characters(codec="utf-8"), max_size=40)
names = st.text("abc-:", min_size=1, max_size=20)


def written(frame: Frame | ContentHeader | ContentBody, channel: int = 7) -> bytes:
    return pamqp.frame.marshal(frame, channel)


DELIVER = written(
    spec.Basic.Deliver(consumer_tag="amq.ctag", delivery_tag=2**40, exchange="e", routing_key="k")
)
BODY = written(ContentBody(b"{}"), 3)
HEARTBEAT = b"\x08\x00\x00\x00\x00\x00\x00\xce"


def test_frames_are_found_however_they_are_cut() -> None:
    data = DELIVER + HEARTBEAT + BODY
    for first in range(len(data) + 1):
        for second in range(first, len(data) + 1):
            splitter = frames.Splitter()
            found = [
                each
                for part in (data[:first], data[first:second], data[second:])
                for each in splitter.feed(part)
            ]
            assert found == [
                (frames.METHOD, 7, DELIVER),
                (8, 0, HEARTBEAT),
                (frames.BODY, 3, BODY),
            ]


@pytest.mark.parametrize("alien", [b"AMQP\x00\x00\x09\x01", BODY[:-1] + b"\x00", b"HTTP/1.1 400"])
def test_what_is_no_frame_goes_to_the_channel_of_the_connection(alien: bytes) -> None:
    splitter = frames.Splitter()
    assert splitter.feed(DELIVER + alien) == [(frames.METHOD, 7, DELIVER), (0, 0, alien)]
    assert splitter.feed(BODY) == [(frames.BODY, 3, BODY)]


def test_what_a_method_says() -> None:
    assert frames.method_of(DELIVER) == frames.DELIVER
    assert frames.tag_of(DELIVER) == 2**40
    answer = written(spec.Basic.GetOk(9, exchange="e", routing_key="k", message_count=1))
    assert (frames.method_of(answer), frames.got(answer)) == (frames.GET_OK, 9)
    for multiple in (False, True):
        ack = written(spec.Basic.Ack(delivery_tag=9, multiple=multiple))
        assert frames.method_of(ack) == frames.CONFIRM
        assert frames.confirmed(ack) == (9, multiple)
        nack = written(spec.Basic.Nack(delivery_tag=9, multiple=multiple, requeue=True))
        assert frames.method_of(nack) == frames.NOT_STORED
        assert frames.confirmed(nack) == (9, multiple)


@given(texts, st.dictionaries(names, texts, max_size=4), texts, st.integers(-(2**63), 2**63 - 1))
def test_a_header_is_read_as_pamqp_reads_it(
    name: str, own: dict[str, str], content_type: str, at: int
) -> None:
    said = own | {"content-type": content_type}
    properties = properties_of(Message(name, b"", said, "key"), at=at)
    frame = written(ContentHeader(body_size=12, properties=properties))
    assert frames.size_of(frame) == 12
    assert frames.content_of(frame) == frames.Content(
        properties.message_id, properties.content_type or None, properties.headers or {}
    )


@pytest.mark.parametrize(
    "properties",
    [
        spec.Basic.Properties(),
        spec.Basic.Properties(message_id="a", priority=3, headers={"x": "y"}, delivery_mode=2),
        spec.Basic.Properties(
            message_id="a", delivery_mode=2, headers={"x": 1.5, "n": [1, "a"], "t": {"u": True}}
        ),
        spec.Basic.Properties(message_id="a", delivery_mode=2, headers={"x": "~~", "y": "z"}),
    ],
)
def test_headers_of_other_clients_are_read(properties: spec.Basic.Properties) -> None:
    frame = written(ContentHeader(body_size=0, properties=properties)).replace(b"~~", b"\xff\xfe")
    _, _, read = pamqp.frame.unmarshal(frame)
    assert isinstance(read, ContentHeader)
    found = read.properties
    assert frames.content_of(frame) == frames.Content(
        found.message_id, found.content_type, found.headers or {}
    )


@pytest.mark.parametrize("size", [0, 1, MOST - 8, MOST - 7, 3 * MOST])
def test_a_message_is_written_as_pamqp_writes_it(size: int) -> None:
    body = b"x" * size
    properties = properties_of(Message("a", body, {"ce-id": "a"}), at=1)
    sent = frames.publishing(7, "exchange", "key") + b"".join(
        frames.message(7, properties.marshal(), body, MOST)
    )
    parts = [body[at : at + MOST - 8] for at in range(0, size, MOST - 8)]
    assert sent == b"".join(
        [
            written(spec.Basic.Publish(exchange="exchange", routing_key="key", mandatory=True)),
            written(ContentHeader(body_size=size, properties=properties)),
            *(written(ContentBody(part)) for part in parts),
        ]
    )


def test_settlements_are_written_as_pamqp_writes_them() -> None:
    for multiple in (False, True):
        assert frames.acknowledging(7, 5, multiple=multiple) == written(
            spec.Basic.Ack(delivery_tag=5, multiple=multiple)
        )
    assert frames.rejecting(7, 5) == written(spec.Basic.Reject(delivery_tag=5, requeue=True))
