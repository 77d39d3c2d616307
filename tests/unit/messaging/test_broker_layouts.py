"""How messages and delays lie in RabbitMQ and NATS: names, headers, ways."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pamqp.commands import Basic

from seawall.errors import Misconfigured
from seawall.messaging.base import Message, Subscription
from seawall.messaging.connect import open_transport
from seawall.messaging.transports import kafka_records, nats_layout, rabbit_layout
from seawall.messaging.transports.kafka_records import Topics
from seawall.messaging.transports.nats_headers import Headers, block, parse_block
from seawall.messaging.transports.nats_options import Nats
from seawall.messaging.transports.rabbitmq import RabbitMQ

names = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=40)
headers = st.dictionaries(names, names, max_size=5)


@given(names, names)
def test_different_names_stay_different(one: str, other: str) -> None:
    for token in (nats_layout.token, rabbit_layout.token):
        assert (token(one) == token(other)) == (one == other)
        assert not set(token(one)) & set("./*> ")


@given(names, names)
def test_names_tell_whose_they_are(topic: str, group: str) -> None:
    sub = Subscription(topic, group)
    at = nats_layout.Group.of(sub)
    assert nats_layout.subscription_of(at.topic.stream, at.consumer) == sub
    if "_x" not in topic + group:  # else it may look like something that was escaped
        assert kafka_records.subscription_of(Topics.of(sub).retry) == sub


@pytest.mark.parametrize(
    "name", ["orders", "a.retry", ".retry", "a..retry", ".b.retry", "a.b.dead"]
)
def test_other_topics_of_kafka_are_nobodys_retries(name: str) -> None:
    assert kafka_records.subscription_of(name) is None


def test_other_streams_of_nats_are_nobodys() -> None:
    assert nats_layout.subscription_of("ORDERS", "group_a") is None
    assert nats_layout.subscription_of("seawall_topic_a", "other") is None


@given(names, st.binary(max_size=20), headers, st.none() | names)
def test_nats_headers_carry_a_message(
    name: str, body: bytes, own: dict[str, str], key: str | None
) -> None:
    sent = Message(name, body, own, key)
    packed = nats_layout.headers_of(sent)
    assert all(value == value.strip() and value.isprintable() for value in packed.values())
    assert nats_layout.message_of("place", packed, body) == (sent, "")
    copied = nats_layout.copy_of(sent, "copy", attempts=3)
    assert nats_layout.message_of("place", copied, body) == (sent, "")


plain = st.text("aZ0-:. \t\r\n=ü", max_size=12)


@given(plain | names, st.dictionaries(plain | names, plain | names, max_size=4), st.none() | plain)
@example("a", {"ce-id": "a", "note": "b: c"}, None)
@example("a", {"Nats-Rollup": "all"}, None)
@example("a", {"b": "c\r\nNats-Rollup: all"}, None)
def test_nats_headers_are_packed_as_they_are_said(
    name: str, own: dict[str, str], key: str | None
) -> None:
    sent = Message(name, b"{}", own, key)
    packed = nats_layout.block_of(sent)
    said = nats_layout.headers_of(sent)
    assert packed == block(said)
    assert parse_block(packed) == ("", said)
    found = nats_layout.plain_message(Headers(packed), b"{}")
    if found is not None:
        assert (found.id, dict(found.headers), found.key) == (sent.id, sent.headers, sent.key)
    assert (found is None) == (key is not None or nats_layout.PACKED in said)


def test_a_nats_header_that_cannot_be_read_is_damage() -> None:
    message, damage = nats_layout.message_of("s/7", {nats_layout.PACKED: "{"}, b"raw")
    assert (message, damage != "") == (Message("s/7", b"raw"), True)


def test_the_place_of_a_nats_delivery_is_in_its_reply() -> None:
    place = nats_layout.Place("stream", 2, 30, 1700)
    assert nats_layout.Place.of("$JS.ACK.stream.group.2.30.40.1700.5") == place
    assert nats_layout.Place.of("$JS.ACK.hub.acc.stream.group.2.30.40.1700.5.x") == place


@pytest.mark.parametrize("way", ["", "hub.acc."])
def test_a_nats_consumer_s_deliveries_are_told_from_another_s(way: str) -> None:
    names = ("s.g.1", "s.g.2", "s.g2.1", "s2.g.1", "s.g.3")
    replies = [f"$JS.ACK.{way}{name}.30.40.1700.5" for name in names]
    a, b, c, d, e = replies
    assert nats_layout.by_consumer(replies) == [[a, b, e], [c], [d]]
    assert nats_layout.by_consumer([]) == []


@given(st.floats(min_value=0.0001, max_value=rabbit_layout.LONGEST))
def test_a_delay_passes_the_levels_that_add_up_to_it(delay: float) -> None:
    top, key = rabbit_layout.way_of(delay, "topic/group")
    *digits, target = key.split(".")
    assert (len(digits), target) == (rabbit_layout.LEVELS, "topic/group")
    levels = [rabbit_layout.LEVELS - 1 - at for at, digit in enumerate(digits) if digit == "1"]
    assert levels[0] == top
    waited = sum(2**level for level in levels) * rabbit_layout.UNIT
    assert delay - 1e-6 <= waited < delay + rabbit_layout.UNIT + 1e-6


def test_the_last_level_ends_where_what_is_due_goes() -> None:
    assert rabbit_layout.after_level(0) == rabbit_layout.DUE
    assert rabbit_layout.after_level(3) == rabbit_layout.level_name(2)


def test_what_the_broker_adds_is_not_the_message_s() -> None:
    sent = Message("id", b"", {"ce-id": "id", "x-tenant": "a"}, "key")
    properties = rabbit_layout.properties_of(sent, at=1, attempts=2)
    seen = dict(properties.headers or {}) | {"x-delivery-count": 3, "x-death": [], "n": 4}
    message = rabbit_layout.message_of("place", properties, seen, b"")
    assert message == Message("id", b"", {"ce-id": "id", "x-tenant": "a", "n": "4"}, "key")


@given(names, headers, st.integers(-(2**63), 2**63 - 1))
def test_properties_are_written_as_amqp_reads_them(
    name: str, own: dict[str, str], number: int
) -> None:
    for content_type in ({}, {"content-type": "application/json"}):
        sent = rabbit_layout.properties_of(
            Message(name, b"", own | content_type, "key"), at=number, reason="r"
        )
        written = sent.marshal()
        read = Basic.Properties()
        read.unmarshal(int.from_bytes(written[:2], "big"), written[2:])
        assert dict(read) == dict(sent)


def test_long_ids_travel_as_headers() -> None:
    sent = Message("ü" * 200, b"")
    properties = rabbit_layout.properties_of(sent)
    assert len((properties.message_id or "").encode()) <= 255
    assert rabbit_layout.message_of("p", properties, properties.headers or {}, b"") == sent


def test_what_does_not_fit_is_told() -> None:
    assert rabbit_layout.why_not(Message("a", b"", {"x": "y" * 70_000}))
    assert rabbit_layout.why_not(Message("a", b"", {"seawall-at": "1"}))
    assert not rabbit_layout.why_not(Message("a", b"", {"ce-id": "a"}))
    assert rabbit_layout.too_long("t" * 120)
    assert not rabbit_layout.too_long("order.placed", "mailers")


def test_options_are_read_from_the_address() -> None:
    nats = Nats.parse("nats://u:p@a:1,b:2?replicas=3&fsync=true&duplicates=5")
    assert nats.servers == ("nats://u:p@a:1", "nats://u:p@b:2")
    assert (nats.replicas, nats.fsync, nats.duplicates) == (3, True, 5.0)
    rabbit = RabbitMQ.parse("amqp://u:p@h/v?heartbeat=3&backlog=7&timeout=1.5")
    assert (rabbit.url, rabbit.heartbeat, rabbit.backlog) == ("amqp://u:p@h/v", 3, 7)


@pytest.mark.parametrize(
    "url",
    [
        *("nats://h?replicas=2", "nats://h?storage=tape", "nats://h?what=1", "nats://h?replicas=x"),
        *(
            "amqp://h/?heartbeat=0",
            "amqp://h/?what=1",
            "amqp://h/?backlog=x",
            "amqp://h/?timeout=0",
        ),
        "smoke://signals",
    ],
)
def test_options_that_make_no_sense_are_refused(url: str) -> None:
    with pytest.raises(Misconfigured):
        open_transport(url)


def test_groups_of_a_topic_do_not_meet() -> None:
    one = rabbit_layout.Group.of(Subscription("a/b", "c"))
    other = rabbit_layout.Group.of(Subscription("a", "b/c"))
    assert one.queue != other.queue
    assert one.due != other.due


@given(names, names, names)
def test_kafka_keeps_topics_of_a_group_apart(one: str, other: str, group: str) -> None:
    """Members of one consumer group stop for each other, whichever topic they are there for."""
    first, second = (Topics.of(Subscription(topic, group)) for topic in (one, other))
    assert (first.members == second.members) == (one == other)
